"""What `record` stores of a teacher's outputs."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from jaxkd.cli._option_groups._option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """Teacher, outputs and images of the recording."""

    teacher: Path
    """Run folder of the teacher."""
    teacher_trial: int = 0
    """Trial of the teacher's run to record."""
    teacher_dtype: Annotated[
        Literal["float32", "bfloat16"] | None, option(default="as it was trained")
    ] = None
    """Dtype in which the teacher computes."""
    out: Path
    """Folder of the recording. One with the same options is continued."""
    outputs: Annotated[
        tuple[str, ...],
        option(
            "Outputs to record: logits, embedding, stages or preactivations (all "
            "feature maps), one map such as stages.2, or layers by the paths that "
            "methods name, such as blocks.-1. A method that reads another output "
            "cannot use the recording."
        ),
    ] = ("logits", "embedding")
    epochs: Annotated[
        int,
        option(
            "Number of epochs that students can be trained for, including epochs of "
            "a pretraining stage. 0: one output for each image without augmentation, "
            "for students that train without augmentation, for any number of epochs."
        ),
    ] = 240
    batch_size: int = 64
    """Number of examples per step of the students."""
    data_seed: int = 0
    """Seed for the order of the data and for data augmentation of the students."""
    dtype: Annotated[
        Literal["float32", "float16"],
        option(
            "Dtype of the stored outputs. float16 takes half the space, and rounds: "
            "the recording states the largest deviation."
        ),
    ] = "float32"
    top_k: Annotated[int | None, option(default="all logits")] = None
    """Store only the largest logits of each image, and the mass of the others."""

"""The network to train, and its teacher."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from jaxkd.cli._option_groups._option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network to train."""

    model: Annotated[
        str,
        option(
            "Name of the network: resnet20, resnet8x4, wrn_16_2, vgg8, MobileNetV2, "
            "ShuffleV2, resnet18, vit_ti, mlp and others. An unknown name prints the "
            "whole list."
        ),
    ]
    width: Annotated[int | None, option(default="published width")] = None
    """Base number of channels."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the network's computations. Its parameters are always float32."""
    init: Annotated[
        Path | None,
        option(
            "Run folder, or .safetensors file of `jaxkd export`, whose weights and "
            "batch statistics the network starts from. Optimizer and projection heads "
            "are new. All trials start from the same weights.",
            default="random weights",
        ),
    ] = None
    new_classifier: bool = False
    """Start with a new classifier, for other classes (with --init only)."""
    remat: Annotated[
        bool,
        option(
            "Save memory: keep only the inputs of the network's blocks for the "
            "backward pass, and compute their activations again."
        ),
    ] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Teacher and student."""

    teacher: Annotated[
        Path | None, option(default="none; then --recorded is required")
    ] = None
    """Run folder of the teacher."""
    recorded: Annotated[
        tuple[Path, ...],
        option(
            "Recording of a teacher's outputs, made by `jaxkd record`, in place of "
            "--teacher. Dataset, batch size, data seed and augmentation are those of "
            "the recording. Several recordings are an ensemble: the mean of their "
            "probabilities, softened by --temperature.",
            default="none; then --teacher is required",
        ),
    ] = ()
    recorded_weights: Annotated[
        tuple[float, ...] | None, option(default="equal weights")
    ] = None
    """Weights of several recordings, such as 0.7 0.3."""
    teacher_trial: int = 0
    """Trial of the teacher's run to use as the teacher."""
    teacher_dtype: Annotated[
        Literal["float32", "bfloat16"] | None, option(default="as it was trained")
    ] = None
    """Dtype in which the teacher computes. Its outputs are float32."""
    equal_means: Annotated[
        bool,
        option(
            "Center the classifiers of student and teacher, so that all logits have "
            "mean zero at the start. With it, kd at infinite temperature equals "
            "logit-matching."
        ),
    ] = False

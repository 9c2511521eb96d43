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

    teacher: Path
    """Run folder of the teacher."""
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

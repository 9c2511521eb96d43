"""The optimizer and its learning rate."""

import dataclasses
from typing import Annotated, Literal

from jaxkd.cli._option_groups._option import option


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer and learning-rate schedule."""

    optimizer: Annotated[
        str,
        option(
            "published: SGD with momentum and weight decay, as in the published "
            "benchmarks. Otherwise, an optax optimizer by name: adamw, lion, lamb, sgd "
            "and others. An unknown name prints the whole list."
        ),
    ] = "published"
    learning_rate: Annotated[
        float,
        option(
            "Initial learning rate. The published values are 0.05, and 0.01 for "
            "MobileNetV2 and ShuffleNet students."
        ),
    ] = 0.05
    schedule: Annotated[
        Literal["step", "constant", "cosine", "warmup-cosine", "linear"],
        option(
            "Learning-rate schedule. step: divide by ten at each milestone. constant: "
            "no change. cosine, linear: decrease to 0. warmup-cosine: increase from 0, "
            "then decrease to 0."
        ),
    ] = "step"
    milestones: Annotated[
        tuple[float, ...],
        option(
            "Fractions of training after which the step schedule divides the learning "
            "rate by ten. The published epochs are 150, 180 and 210 of 240."
        ),
    ] = (0.625, 0.75, 0.875)
    warmup: float = 0.05
    """Fraction of training spent in warmup (warmup-cosine only)."""
    momentum: float = 0.9
    """Momentum (published optimizer only)."""
    weight_decay: float = 5e-4
    """L2 penalty on all trained parameters (published optimizer only)."""
    optimizer_settings: Annotated[
        dict[str, str],
        option(
            "Arguments of the optax optimizer, such as b1 0.9 weight_decay 0.05.",
            default="those of optax",
        ),
    ] = dataclasses.field(default_factory=dict)
    clip_norm: Annotated[float | None, option(default="no clipping")] = None
    """Scale gradients down to this global norm if theirs is larger."""
    accumulate: Annotated[
        int,
        option(
            "Average the gradients of this many consecutive batches for each update. "
            "Relations between examples, batch statistics and memory banks still use "
            "single batches."
        ),
    ] = 1

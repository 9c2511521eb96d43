"""The optimizer that the command line asks for."""

import json
from typing import Any

import optax

from jaxkd import training
from jaxkd._errors import InvalidInputError
from jaxkd.cli._options import OptimizerOptions

PUBLISHED = "published"


def make(
    options: OptimizerOptions, steps: int, *, pretraining: bool = False
) -> optax.GradientTransformation:
    """Builds the optimizer of a run.

    Args:
        options: What was asked for.
        steps: Steps of the whole run.
        pretraining: Whether it is that of the stage before, whose rate is constant.

    Raises:
        ValueError: If an option is out of range, or has no use with the others.
    """
    _check_uses(options)
    if options.accumulate < 1:
        raise InvalidInputError(
            f"--accumulate must be at least 1, got {options.accumulate}"
        )
    if options.clip_norm is not None and not 0 < options.clip_norm < float("inf"):
        raise InvalidInputError(
            f"--clip-norm must be finite and positive, got {options.clip_norm}"
        )
    rate = options.learning_rate if pretraining else schedule(options, steps)
    if options.optimizer == PUBLISHED:
        optimizer = training.decayed_sgd(
            rate, momentum=options.momentum, weight_decay=options.weight_decay
        )
    else:
        settings = {k: value_of(v) for k, v in options.optimizer_settings.items()}
        optimizer = training.make_optimizer(options.optimizer, rate, settings)
    if options.clip_norm is not None:
        optimizer = training.clipped(optimizer, options.clip_norm)
    return training.accumulated(optimizer, options.accumulate)


def schedule(options: OptimizerOptions, steps: int) -> optax.ScalarOrSchedule:
    """The learning rate over a run's updates, of which one takes some steps.

    Raises:
        ValueError: If an option is out of range.
    """
    return training.learning_rate_schedule(
        options.schedule,
        options.learning_rate,
        max(1, steps // options.accumulate),
        milestones=options.milestones,
        warmup=options.warmup,
    )


def _check_uses(options: OptimizerOptions) -> None:
    """Refuses options that the others make idle."""
    default = OptimizerOptions()
    idle = {"warmup": "warmup-cosine", "milestones": "step"}
    for name, schedule in idle.items():
        changed = getattr(options, name) != getattr(default, name)
        if changed and options.schedule != schedule:
            raise InvalidInputError(f"--{name} needs --schedule {schedule}")
    if options.optimizer == PUBLISHED:
        if options.optimizer_settings:
            raise InvalidInputError(
                "--optimizer-settings are those of optax's optimizers; name one with "
                "--optimizer"
            )
        return
    for name in ("momentum", "weight_decay"):
        if getattr(options, name) != getattr(default, name):
            flag = name.replace("_", "-")
            raise InvalidInputError(
                f"--{flag} is the published SGD's; set what {options.optimizer} has of "
                "it by --optimizer-settings"
            )


def value_of(text: str) -> Any:
    """A number, a truth value, null or a list as JSON has them; else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return float(text) if text in ("inf", "nan") else text

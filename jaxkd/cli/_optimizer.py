"""From the options of the optimizer to an optax optimizer."""

import inspect
import math
from typing import Any

import optax

from jaxkd import _checks, training
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.cli._options import OptimizerOptions
from jaxkd.cli._setting_values import check_values, parse_value

PUBLISHED = "published"

# Decays of moving averages, whose bias corrections divide by one minus a power of them.
_DECAYS = {"b1", "b2", "b3", "rho"}
_FRACTIONS = {"decay", "decay_rate", "momentum"}
_NOT_NEGATIVE = {"eps", "eps_root", "weight_decay", "weight_decay_rate"}


def check(options: OptimizerOptions) -> None:
    """Check the options, as far as they do not depend on the length of the run.

    Raises:
        InvalidInputError: If an option is out of range, or has no effect.
    """
    _check_effects(options)
    _checks.check_at_least(1, accumulate=options.accumulate)
    _checks.check_finite_positive(learning_rate=options.learning_rate)
    if options.clip_norm is not None:
        _checks.check_finite_positive(clip_norm=options.clip_norm)
    _checks.check_in_range(0.0, 1.0, warmup=options.warmup, momentum=options.momentum)
    if not all(0 <= milestone <= 1 for milestone in options.milestones):
        given = " ".join(f"{milestone:g}" for milestone in options.milestones)
        raise InvalidInputError(
            f"--milestones must be fractions of training in [0, 1], got {given}. "
            "Divide epochs by the number of epochs",
            argument="milestones",
        )
    if not 0 <= options.weight_decay < float("inf"):
        raise InvalidInputError(
            "--weight-decay must be a finite number of at least 0, got "
            f"{options.weight_decay}",
            argument="weight_decay",
        )
    if options.optimizer != PUBLISHED:
        _check_settings(options)


def check_length(options: OptimizerOptions, steps: int, pretraining_steps: int) -> None:
    """Check that the run is long enough for at least one update.

    Args:
        options: Options of the optimizer.
        steps: Steps of the training stage.
        pretraining_steps: Steps of the pretraining stage; 0 if there is none.

    Raises:
        InvalidInputError: If ``--accumulate`` is larger than either.
    """
    if options.accumulate > steps:
        raise InvalidInputError(
            f"--accumulate is {options.accumulate}, but the run has only {steps} "
            "steps: no update would be made. Lower --accumulate or train longer.",
            argument="accumulate",
        )
    if 0 < pretraining_steps < options.accumulate:
        raise InvalidInputError(
            f"--accumulate is {options.accumulate}, but the pretraining stage has only "
            f"{pretraining_steps} steps: no update would be made. Lower --accumulate "
            "or raise the method's pretraining_epochs.",
            argument="accumulate",
        )


def make(
    options: OptimizerOptions, steps: int, *, pretraining: bool = False
) -> optax.GradientTransformation:
    """Build the optimizer of a run.

    Args:
        options: Options that :func:`check` accepts.
        steps: Number of steps in the run.
        pretraining: Whether to build the optimizer of the pretraining stage, whose
            learning rate is constant.

    Raises:
        InvalidInputError: If optax rejects an argument.
    """
    rate = options.learning_rate if pretraining else schedule(options, steps)
    if options.optimizer == PUBLISHED:
        optimizer = training.decayed_sgd(
            rate, momentum=options.momentum, weight_decay=options.weight_decay
        )
    else:
        optimizer = training.make_optimizer(options.optimizer, rate, _settings(options))
    if options.clip_norm is not None:
        optimizer = training.clipped(optimizer, options.clip_norm)
    return training.accumulated(optimizer, options.accumulate)


def schedule(options: OptimizerOptions, steps: int) -> optax.ScalarOrSchedule:
    """Return the learning rate as a function of the number of updates.

    Raises:
        InvalidInputError: If an option is out of range.
    """
    return training.learning_rate_schedule(
        options.schedule,
        options.learning_rate,
        max(1, steps // options.accumulate),
        milestones=options.milestones,
        warmup=options.warmup,
    )


def _settings(options: OptimizerOptions) -> dict[str, Any]:
    return {
        name: parse_value(text) for name, text in options.optimizer_settings.items()
    }


def _check_effects(options: OptimizerOptions) -> None:
    """Reject options that have no effect together with the others."""
    default = OptimizerOptions()
    needed = {"warmup": "warmup-cosine", "milestones": "step"}
    for name, schedule in needed.items():
        changed = getattr(options, name) != getattr(default, name)
        if changed and options.schedule != schedule:
            raise InvalidInputError(
                f"--{name} needs --schedule {schedule}, got --schedule "
                f"{options.schedule}",
                argument=name,
            )
    if options.optimizer == PUBLISHED:
        if options.optimizer_settings:
            raise InvalidInputError(
                "--optimizer-settings are arguments of an optax optimizer. Choose one "
                "with --optimizer",
                argument="optimizer_settings",
            )
        return
    for name in ("momentum", "weight_decay"):
        if getattr(options, name) != getattr(default, name):
            raise InvalidInputError(
                f"--{name.replace('_', '-')} applies to the published optimizer only. "
                f"For {options.optimizer}, use --optimizer-settings",
                argument=name,
            )


def _check_settings(options: OptimizerOptions) -> None:
    """Check the name of an optax optimizer and the types of its arguments."""
    name, known = options.optimizer, training.OPTIMIZERS
    if name not in known:
        raise unknown_name("optimizer", name, [PUBLISHED, *known])
    parameters = dict(inspect.signature(known[name]).parameters)
    parameters.pop("learning_rate", None)
    settings = _settings(options)
    for setting in settings:
        if setting not in parameters:
            raise unknown_name(
                f"setting of {name}",
                setting,
                parameters,
                argument="optimizer_settings",
            )
    check_values(settings, parameters, "optimizer_settings")
    for setting, value in settings.items():
        _check_number(setting, value)


def _check_number(setting: str, value: Any) -> None:
    """Reject a number that makes updates non-finite, or reverses their direction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    argument = f"optimizer_settings.{setting}"
    if not math.isfinite(value):
        raise InvalidInputError(
            f"{setting} must be finite, got {value}", argument=argument
        )
    if setting in _DECAYS and not 0 <= value < 1:
        raise InvalidInputError(
            f"{setting} must lie in [0, 1), got {value}", argument=argument
        )
    if setting in _FRACTIONS and not 0 <= value <= 1:
        raise InvalidInputError(
            f"{setting} must lie in [0, 1], got {value}", argument=argument
        )
    if setting in _NOT_NEGATIVE and value < 0:
        raise InvalidInputError(
            f"{setting} must not be negative, got {value}", argument=argument
        )

"""The published optimizer, every other of optax, and what may be put around one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, unknown_name

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adafactor": optax.adafactor,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamaxw": optax.adamaxw,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "fromage": optax.fromage,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "novograd": optax.novograd,
    "optimistic_adam_v2": optax.optimistic_adam_v2,
    "optimistic_gradient_descent": optax.optimistic_gradient_descent,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "rprop": optax.rprop,
    "sgd": optax.sgd,
    "sign_sgd": optax.sign_sgd,
    "signum": optax.signum,
    "sm3": optax.sm3,
    "yogi": optax.yogi,
}
"""Optax's optimizers by their names. Not among them: those that ask for the loss itself
(lbfgs, polyak_sgd), noisy_sgd, whose randomness would be apart from the run's seed, and
optimistic_adam, which optax replaces by its second version."""

SCHEDULES = ("step", "constant", "cosine", "warmup-cosine", "linear")


def published_sgd(
    total_steps: int,
    *,
    learning_rate: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    milestones: Sequence[float] = (150 / 240, 180 / 240, 210 / 240),
    decay: float = 0.1,
) -> optax.GradientTransformation:
    r"""SGD as the published benchmarks train: L2 decay on everything, step schedule.

    .. math::
        v \leftarrow \mu v + g + \lambda \theta, \qquad
        \theta \leftarrow \theta - \eta v

    Args:
        total_steps: Steps of the whole run; the milestones are fractions of it.
        learning_rate: Initial rate; published: 0.05, and 0.01 for
            MobileNetV2 and the ShuffleNets.
        momentum: Momentum :math:`\mu`.
        weight_decay: Coefficient :math:`\lambda`, on batch norms and biases too.
        milestones: Where in the run the rate falls; published: after 150, 180 and 210
            of 240 epochs.
        decay: Factor at each milestone.

    Returns:
        An optax optimizer.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> from jaxkd import training
        >>> optimizer = training.published_sgd(total_steps=1000, learning_rate=0.1)
    """
    schedule = learning_rate_schedule(
        "step", learning_rate, total_steps, milestones=milestones, decay=decay
    )
    return decayed_sgd(schedule, momentum=momentum, weight_decay=weight_decay)


def decayed_sgd(
    learning_rate: optax.ScalarOrSchedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """The update of :func:`published_sgd`, at any learning rate."""
    _checks.check_in_range(0.0, 1.0, momentum=momentum)
    if not 0 <= weight_decay < float("inf"):
        raise InvalidInputError(f"weight_decay must be at least 0, got {weight_decay}")
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum=momentum),
    )


def learning_rate_schedule(
    name: str,
    learning_rate: float,
    total_steps: int,
    *,
    milestones: Sequence[float] = (150 / 240, 180 / 240, 210 / 240),
    decay: float = 0.1,
    warmup: float = 0.05,
) -> optax.ScalarOrSchedule:
    """A learning rate over a run.

    Args:
        name: ``step`` falls at the milestones; ``constant``; ``cosine`` and ``linear``
            fall to 0 at the end; ``warmup-cosine`` rises from 0 before that.
        learning_rate: The highest rate.
        total_steps: Updates of the whole run.
        milestones: Of ``step``, as fractions of the run.
        decay: Of ``step``, the factor at each milestone.
        warmup: Of ``warmup-cosine``, the fraction of the run in which the rate rises.

    Returns:
        An optax schedule, or the number itself if it is constant.

    Raises:
        ValueError: If the name is unknown or a setting is out of range.
    """
    _checks.check_at_least(1, total_steps=total_steps)
    _checks.check_finite_positive(learning_rate=learning_rate, decay=decay)
    _checks.check_in_range(0.0, 1.0, warmup=warmup)
    for milestone in milestones:
        _checks.check_in_range(0.0, 1.0, milestones=milestone)
    if name == "step":
        boundaries: dict[int, float] = {}
        for milestone in milestones:  # in a short run, milestones may share a step
            boundary = round(milestone * total_steps)
            boundaries[boundary] = boundaries.get(boundary, 1.0) * decay
        return optax.piecewise_constant_schedule(learning_rate, boundaries)
    if name == "constant":
        return learning_rate
    if name == "cosine":
        return optax.cosine_decay_schedule(learning_rate, total_steps)
    if name == "linear":
        return optax.linear_schedule(learning_rate, 0.0, total_steps)
    if name == "warmup-cosine":
        rising = min(round(warmup * total_steps), total_steps - 1)
        return optax.warmup_cosine_decay_schedule(
            0.0, learning_rate, rising, total_steps
        )
    raise unknown_name("schedule", name, SCHEDULES)


def make_optimizer(
    name: str, learning_rate: optax.ScalarOrSchedule, settings: Mapping[str, Any]
) -> optax.GradientTransformation:
    """One of optax's optimizers by its name.

    Args:
        name: One of ``OPTIMIZERS``.
        learning_rate: A number or a schedule.
        settings: Its other arguments.

    Raises:
        ValueError: If it has no such name, no such setting, or refuses a value.

    Example:
        >>> from jaxkd import training
        >>> optimizer = training.make_optimizer("adamw", 1e-3, {"weight_decay": 0.05})
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    build = OPTIMIZERS[name]
    known = [n for n in inspect.signature(build).parameters if n != "learning_rate"]
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, known)
    # Optax looks at most values only when they are used.
    trial = {"parameter": jnp.zeros((2, 2))}
    try:
        optimizer = build(learning_rate=learning_rate, **settings)
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(
                lambda p: optimizer.update(p, optimizer.init(p), p)[0], trial
            )
    except (TypeError, ValueError, AttributeError) as error:
        scheduled = callable(learning_rate)
        hint = "; it may need a constant learning rate" if scheduled else ""
        raise InvalidInputError(
            f"{name} cannot work with {dict(settings)}: {error}{hint}"
        ) from error
    return optimizer


def clipped(
    optimizer: optax.GradientTransformation, norm: float
) -> optax.GradientTransformation:
    """The optimizer with gradients scaled down to a global norm, heads' included."""
    _checks.check_finite_positive(norm=norm)
    return optax.chain(optax.clip_by_global_norm(norm), optimizer)


def accumulated(
    optimizer: optax.GradientTransformation, steps: int
) -> optax.GradientTransformation:
    """The optimizer with one update for several consecutive steps.

    It is given the mean of their gradients (``optax.MultiSteps``), and its schedule
    counts updates. A step is still a batch: losses that relate examples see those of
    one batch, batch statistics and banks move in every step, and the last steps of a
    run that no longer make up an update are lost.

    Raises:
        TypeError: If the number of steps is no integer.
        ValueError: If it is less than 1.
    """
    _checks.check_at_least(1, steps=steps)
    if steps == 1:
        return optimizer
    return optax.MultiSteps(optimizer, steps).gradient_transformation()

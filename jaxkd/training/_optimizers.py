"""Optimizers by name, the published one, and wrappers that know its learning rate."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.training._state import PyTree

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
"""Optax's optimizers by name.

The table omits optimizers that need the loss itself (lbfgs, polyak_sgd); noisy_sgd,
whose randomness would be independent of the run's seed; and optimistic_adam, which
optax has replaced by its second version."""

SCHEDULES = ("step", "constant", "cosine", "warmup-cosine", "linear")

# Its argument ``learning_rate`` is only the first of the step sizes that it adapts.
_WITHOUT_A_RATE = {"rprop"}


class RatedOptimizer(optax.GradientTransformationExtraArgs):
    """An optimizer that can tell the learning rate of its next update.

    Its updates and the structure of its state are those of the optimizer that it wraps.

    Args:
        optimizer: The optimizer.
        learning_rate: Computes the rate from the optimizer's state.
    """

    learning_rate: Callable[[PyTree], ArrayLike]

    def __new__(
        cls,
        optimizer: optax.GradientTransformation,
        learning_rate: Callable[[PyTree], ArrayLike],
    ) -> "RatedOptimizer":
        rated = super().__new__(cls, *optax.with_extra_args_support(optimizer))
        rated.learning_rate = learning_rate
        return rated


def learning_rate_of(
    optimizer: optax.GradientTransformation, opt_state: PyTree
) -> Array | None:
    """Return the learning rate of the next update, or None if it is not known.

    It is known for optimizers from :func:`make_optimizer`, :func:`published_sgd` and
    :func:`decayed_sgd`, also within :func:`clipped`, :func:`accumulated` and
    :func:`backing_off`.
    """
    learning_rate = getattr(optimizer, "learning_rate", None)
    return None if learning_rate is None else jnp.asarray(learning_rate(opt_state))


def rated_like(
    optimizer: optax.GradientTransformation,
    inner: optax.GradientTransformation,
    learning_rate: Callable[[PyTree, Callable[[PyTree], ArrayLike]], ArrayLike],
) -> optax.GradientTransformation:
    """Let an optimizer that wraps another tell the learning rate, if the other can.

    Args:
        optimizer: The wrapper.
        inner: The optimizer within.
        learning_rate: ``(state, rate) -> learning rate`` from the wrapper's state and
            the function that computes the rate from the state within.
    """
    rate = getattr(inner, "learning_rate", None)
    if rate is None:
        return optimizer
    return RatedOptimizer(optimizer, lambda state: learning_rate(state, rate))


def _rated(
    optimizer: optax.GradientTransformation, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Let an optimizer tell its learning rate, a constant or a schedule."""
    if not callable(learning_rate):
        return RatedOptimizer(optimizer, lambda state: learning_rate)

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def rate(state: PyTree) -> ArrayLike:
        nodes = jax.tree.leaves(state, is_leaf=is_schedule)
        return learning_rate(next(filter(is_schedule, nodes)).count)

    # Every schedule of an optimizer counts its updates, so all counts are equal.
    with jax.numpy_dtype_promotion("standard"):
        state = jax.eval_shape(optimizer.init, jnp.zeros((2, 2)))
    if any(map(is_schedule, jax.tree.leaves(state, is_leaf=is_schedule))):
        return RatedOptimizer(optimizer, rate)
    return optimizer


def published_sgd(
    total_steps: int,
    *,
    learning_rate: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    milestones: Sequence[float] = (150 / 240, 180 / 240, 210 / 240),
    decay: float = 0.1,
) -> optax.GradientTransformation:
    r"""Build SGD as in the published benchmarks: L2 decay and a step schedule.

    .. math::
        v \leftarrow \mu v + g + \lambda \theta, \qquad
        \theta \leftarrow \theta - \eta v

    The decay applies to all parameters.

    Args:
        total_steps: Steps of the whole run; the milestones are fractions of it.
        learning_rate: Initial learning rate. Published: 0.05, and 0.01 for MobileNetV2
            and the ShuffleNets.
        momentum: Momentum :math:`\mu`.
        weight_decay: Coefficient :math:`\lambda`, also for batch norms and biases.
        milestones: Fractions of the run at which the learning rate falls. Published:
            after 150, 180 and 210 of 240 epochs.
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
    """Build the optimizer of :func:`published_sgd` with any learning rate."""
    if not callable(learning_rate):
        _checks.check_finite_positive(learning_rate=learning_rate)
    _checks.check_in_range(0.0, 1.0, momentum=momentum)
    if not 0 <= weight_decay < float("inf"):
        raise InvalidInputError(
            f"weight_decay must be finite and at least 0, got {weight_decay}",
            argument="weight_decay",
        )
    optimizer = optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum=momentum),
    )
    return _rated(optimizer, learning_rate)


def learning_rate_schedule(
    name: str,
    learning_rate: float,
    total_steps: int,
    *,
    milestones: Sequence[float] = (150 / 240, 180 / 240, 210 / 240),
    decay: float = 0.1,
    warmup: float = 0.05,
) -> optax.ScalarOrSchedule:
    """Build a learning-rate schedule by name.

    Args:
        name: ``step`` falls at the milestones; ``constant`` does not change; ``cosine``
            and ``linear`` fall to 0 at the end; ``warmup-cosine`` first rises from 0.
        learning_rate: The highest learning rate.
        total_steps: Updates of the whole run.
        milestones: For ``step``: fractions of the run at which the rate falls.
        decay: For ``step``: the factor at each milestone.
        warmup: For ``warmup-cosine``: the fraction of the run spent in warmup.

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
    raise unknown_name("schedule", name, SCHEDULES, argument="name")


def make_optimizer(
    name: str, learning_rate: optax.ScalarOrSchedule, settings: Mapping[str, Any]
) -> optax.GradientTransformation:
    """Build one of optax's optimizers by name.

    Args:
        name: One of ``OPTIMIZERS``.
        learning_rate: A number or a schedule.
        settings: Its other arguments.

    Raises:
        ValueError: If there is no such optimizer, it has no such setting, it rejects a
            value, or the learning rate is a number that is not positive and finite.

    Example:
        >>> from jaxkd import training
        >>> optimizer = training.make_optimizer("adamw", 1e-3, {"weight_decay": 0.05})
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS, argument="name")
    if not callable(learning_rate):
        _checks.check_finite_positive(learning_rate=learning_rate)
    build = OPTIMIZERS[name]
    known = [n for n in inspect.signature(build).parameters if n != "learning_rate"]
    for setting in settings:
        if setting not in known:
            raise unknown_name(
                f"setting of {name}", setting, known, argument="settings"
            )
    # Optax checks most values only when it uses them.
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
            f"settings {dict(settings)} cannot be used with {name}: {error}{hint}",
            argument="settings",
        ) from error
    return optimizer if name in _WITHOUT_A_RATE else _rated(optimizer, learning_rate)


def clipped(
    optimizer: optax.GradientTransformation, norm: float
) -> optax.GradientTransformation:
    """Scale the gradients of student and heads together down to a global norm."""
    _checks.check_finite_positive(norm=norm)
    clipping = optax.chain(optax.clip_by_global_norm(norm), optimizer)
    return rated_like(clipping, optimizer, lambda state, rate: rate(state[1]))


def accumulated(
    optimizer: optax.GradientTransformation, steps: int
) -> optax.GradientTransformation:
    """Make one update for several consecutive steps.

    The update uses the mean of their gradients (``optax.MultiSteps``), and the
    optimizer's schedule counts updates. A step is still a batch: losses that relate
    examples see those of one batch, and batch statistics and banks change in every
    step. The last steps of a run are lost if they do not make up an update;
    :func:`fit` raises an error if no step of a stage did.

    Raises:
        TypeError: If the number of steps is not an integer.
        ValueError: If it is less than 1.
    """
    _checks.check_at_least(1, steps=steps)
    if steps == 1:
        return optimizer
    accumulating = optax.MultiSteps(optimizer, steps).gradient_transformation()
    return rated_like(
        accumulating, optimizer, lambda state, rate: rate(state.inner_opt_state)
    )


def check_updated(opt_state: PyTree, steps: int) -> None:
    """Raise ``ValueError`` if an optimizer that accumulates has made no update.

    Args:
        opt_state: State of the optimizer at the end of a stage.
        steps: Number of steps of the stage.
    """

    def accumulates(node: Any) -> bool:
        return isinstance(node, optax.MultiStepsState)

    for node in filter(accumulates, jax.tree.leaves(opt_state, is_leaf=accumulates)):
        # The count is equal on all devices; with trials, it is an array.
        if not np.any(np.asarray(node.gradient_step.addressable_data(0))):
            raise InvalidInputError(
                f"optimizer accumulates the gradients of more than {steps} steps, but "
                f"the stage has only {steps}: no update was made. Accumulate fewer "
                "steps or train longer.",
                argument="optimizer",
            )

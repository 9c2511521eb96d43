"""Weights and temperatures that change during training."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError, unknown_name
from jaxkd.distillers._base import Batch, Metrics

Ramp = Literal["linear", "cosine"]


@dataclasses.dataclass(frozen=True)
class EpochSchedule:
    """A schedule of the epoch; plain functions are schedules of the step, as in optax.

    Attributes:
        of_epoch: ``epoch -> value``. The epoch is :attr:`Batch.epoch`: a scalar that is
            0 at the first step of the stage and 2.5 in the middle of the third epoch.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import distillers
        >>> cooling = distillers.EpochSchedule(lambda epoch: jnp.maximum(8 - epoch, 4))
        >>> kd = distillers.soft_targets(temperature=cooling)
    """

    of_epoch: Callable[[Float[Array, ""]], ArrayLike]


Schedule = Callable[[Array], ArrayLike] | EpochSchedule
"""A function of the step, such as those of optax, or an :class:`EpochSchedule`."""


@dataclasses.dataclass(frozen=True)
class _Warmup:
    """The function of the epoch that :func:`warmup` returns; ``repr`` shows it."""

    value: float | int
    epochs: int
    ramp: Ramp

    def __call__(self, epoch: Float[Array, ""]) -> Float[Array, ""]:
        begun = jnp.floor(epoch) + 1
        share = begun / self.epochs
        if self.ramp == "cosine":
            share = (1 - jnp.cos(jnp.pi * share)) / 2
        # At the end exactly the value, however the device rounds a division.
        return self.value * jnp.where(begun < self.epochs, share, 1)


def warmup(
    value: float | int = 1.0, *, epochs: int, ramp: Ramp = "linear"
) -> EpochSchedule:
    r"""Raise a weight to its value during the first epochs of training.

    In epoch :math:`e`, counted from 1, the weight is

    .. math::
        w_e = w\, r\!\left(\min\left(\frac{e}{E}, 1\right)\right), \qquad
        r(x) = x \quad\text{or}\quad r(x) = \frac{1 - \cos \pi x}{2}.

    It is constant within an epoch, :math:`w / E` in the first epoch of the linear ramp,
    and :math:`w` from epoch :math:`E` on. With one epoch it is always :math:`w`.

    The linear ramp over 20 epochs is that of DKD and ReviewKD in their published
    benchmark on CIFAR-100 (`mdistiller <https://github.com/megvii-research/mdistiller>`_:
    ``min(epoch / warmup, 1)``, with epochs counted from 1). The ReviewKD authors' own
    code counts from 0, so that it is one epoch behind. On ImageNet, the benchmark's
    ramp has one epoch: there is none.

    Args:
        value: The weight :math:`w` after the ramp, finite and not negative.
        epochs: The length :math:`E` of the ramp.
        ramp: The shape of :math:`r`.

    Returns:
        A schedule of the epoch.

    Raises:
        TypeError: If the number of epochs is not an integer.
        ValueError: If it is below 1, the ramp is unknown, or the weight is negative or
            not finite.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     dkd=(distillers.warmup(1.0, epochs=20), distillers.decoupled_kl()),
        ... )
    """
    _checks.check_finite_not_negative(value=value)
    _checks.check_at_least(1, epochs=epochs)
    if ramp not in get_args(Ramp):
        raise unknown_name("ramp", ramp, get_args(Ramp))
    return EpochSchedule(_Warmup(value, epochs, ramp))


def is_schedule(value: Any) -> bool:
    """Return whether a weight or temperature is a schedule, not a number."""
    return isinstance(value, EpochSchedule) or callable(value)


def value_at(schedule: Schedule, batch: Batch, name: str) -> Float[Array, ""]:
    """Return the value of a schedule at a batch's step, in JAX's default float dtype.

    Args:
        schedule: The schedule.
        batch: The batch.
        name: What the value is, for the error.

    Raises:
        ValueError: If the batch does not say which step it belongs to.
    """
    if batch.step is None:
        raise InvalidInputError(
            f"{name} is a schedule, but batch.step is None, so its value is not known; "
            "pass steps_per_epoch to training.make_train_step, or step and "
            "steps_per_epoch to Batch",
            argument="batch",
        )
    if isinstance(schedule, EpochSchedule):
        return _evaluate(schedule.of_epoch, batch.epoch)
    return _evaluate(schedule, batch.step)


def setting_at(name: str, value: Any, batch: Batch) -> tuple[Any, Metrics]:
    """Return a setting at a batch's step, and the metric that records a schedule's."""
    if not is_schedule(value):
        return value, {}
    now = value_at(value, batch, name)
    return now, {name: now}


def check_beginning(check: Callable[..., None], **settings: Any) -> None:
    """Check settings; of a schedule, check the value at the beginning of training.

    Later values are not known before training.

    Args:
        check: A function of ``jaxkd._checks`` that takes settings by name.
        **settings: Numbers or schedules.
    """
    for name, setting in settings.items():
        if not is_schedule(setting):
            check(**{name: setting})
            continue
        try:
            check(**{name: beginning(setting, name, argument=name)})
        except InvalidInputError as error:
            raise InvalidInputError(
                f"{error} (the value of its schedule at step 0)", argument=name
            ) from None


def beginning(schedule: Schedule, name: str, *, argument: str) -> Array:
    """Return the value of a schedule at step 0.

    Args:
        schedule: The schedule.
        name: What the value is, for the error.
        argument: The argument that the error is about.

    Raises:
        TypeError: If it cannot be called with a step, or does not return one number.
    """
    with jax.ensure_compile_time_eval():
        try:
            if isinstance(schedule, EpochSchedule):
                return _evaluate(schedule.of_epoch, jnp.zeros((), _float_dtype()))
            return _evaluate(schedule, jnp.zeros((), jnp.int32))
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(
                f"{name} must be a number, or a schedule: a function of the step that "
                f"returns a number. The given one fails at step 0: {error}",
                argument=argument,
            ) from error


def _evaluate(function: Callable[..., Any], at: Array) -> Float[Array, ""]:
    # The schedules of optax mix integer counts with floats.
    with jax.numpy_dtype_promotion("standard"):
        value = jnp.asarray(function(at)).astype(_float_dtype())
    if value.shape:
        raise ValueError(f"it returns an array of shape {value.shape}")
    return value


def _float_dtype() -> Any:
    return jax.dtypes.canonicalize_dtype(float)

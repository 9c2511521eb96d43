"""A weighted sum of distillers is a distiller."""

import functools
import math
import numbers
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.distillers._base import (
    RESERVED_METRICS,
    Distiller,
    DistillerState,
    LayerPaths,
    Loss,
    Pretraining,
)
from jaxkd.distillers._schedules import Schedule, beginning, is_schedule, value_at


def weighted(**parts: tuple[float | Schedule, Distiller]) -> Distiller:
    r"""Combine methods into :math:`\sum_m w_m \ell_m`.

    A weight is a number or a schedule: a function of the step, such as those of optax,
    or an :class:`EpochSchedule`, such as :func:`warmup`. Steps and epochs count from
    the beginning of training, after a pretraining stage (:attr:`Batch.step`). There,
    all weights are 1.

    A part of weight zero is left out altogether: it costs nothing and trains nothing.
    A part whose schedule begins at zero is not left out.
    Each part draws its own randomness and keeps its own parameters and state under
    its name. The parts share the views of the images: all parts that have views must
    use the same function. At most one part may change the student's network.

    Args:
        **parts: ``name=(weight, distiller)``. The names of the training step's own
            metrics are reserved: ``loss``, ``accuracy``, ``labeled``, ``skipped``,
            ``grad_norm`` and ``learning_rate``, and ``weight`` if a weight is a
            schedule.

    Returns:
        A distiller. Its metrics are each part's mean loss, unweighted, under the
        part's name, the part's own metrics as ``name/metric``, and the weights that are
        schedules as ``weight/name``.

    Raises:
        TypeError: If a part is not a pair of a weight and a distiller, or a schedule
            does not return a number.
        ValueError: If a name is reserved, a weight is negative or not finite (of a
            schedule, the value at step 0; later values are not checked), all weights
            are zero, parts differ in their ``pretraining_epochs`` or views, or
            two parts change the student.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(0.1, distillers.cross_entropy()),
        ...     kd=(0.9, distillers.soft_targets(temperature=4.0)),
        ... )
    """
    for name, part in parts.items():
        _check_part(name, part)
    if "weight" in parts and any(is_schedule(weight) for weight, _ in parts.values()):
        raise InvalidInputError(
            "weight is where the metrics of scheduled weights are (weight/kd), so a "
            "part of that name would mix with them; choose another name",
            argument="weight",
        )
    active = {
        name: part
        for name, part in parts.items()
        if is_schedule(part[0]) or part[0] != 0
    }
    if not active:
        raise InvalidInputError(
            "weighted() needs a part whose weight is not zero; write, for example, "
            "ce=(1.0, distillers.cross_entropy())"
        )

    def init(rngs, spec):
        states = {name: part.init(rngs, spec) for name, (_, part) in active.items()}
        return DistillerState(
            params={name: state.params for name, state in states.items()},
            extra={name: state.extra for name, state in states.items()},
        )

    def combine(terms):
        """Sum the losses of ``{name: (weight, the part's loss)}``."""

        def loss(params, extra, student, teacher, batch):
            losses, next_extra, metrics = [], dict(extra), {}
            for index, name in enumerate(active):
                if name not in terms:
                    continue
                weight, part_loss = terms[name]
                own = batch._replace(key=jax.random.fold_in(batch.key, index))
                value, next_extra[name], details = part_loss(
                    params[name], extra[name], student, teacher, own
                )
                if is_schedule(weight):
                    weight = value_at(weight, batch, f"the weight of {name}")
                    metrics[f"weight/{name}"] = weight
                    weight = weight.astype(value.dtype)
                losses.append(weight * value)
                metrics[name] = jnp.mean(value)
                metrics |= {f"{name}/{key}": detail for key, detail in details.items()}
            return functools.reduce(operator.add, losses), next_extra, metrics

        return loss

    unweighted = {name: part for name, (_, part) in active.items()}
    return Distiller(
        init,
        combine({name: (weight, part.loss) for name, (weight, part) in active.items()}),
        _pretraining(unweighted, combine),
        _views(unweighted),
        _student(unweighted),
        functools.reduce(
            LayerPaths.joined, (part.layers for part in unweighted.values())
        ),
    )


def _check_part(name: str, part: Any) -> None:
    """Raise unless the name is free and the part is a weight and a distiller."""
    if name in RESERVED_METRICS:
        raise InvalidInputError(
            f"{name} is the name of a metric of the training step, which a part of "
            "that name would overwrite; choose another name",
            argument=name,
        )
    if isinstance(part, Distiller):
        raise InvalidTypeError(
            f"{name} has no weight; write {name}=(1.0, distiller)", argument=name
        )
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise InvalidTypeError(
            f"{name} must be a weight and a distiller, such as {name}=(1.0, "
            f"distillers.cross_entropy()), got {part!r}",
            argument=name,
        )
    weight, distiller = part
    if not isinstance(distiller, Distiller):
        hint = "; call it to build one" if callable(distiller) else ""
        raise InvalidTypeError(
            f"the second entry of {name} must be a distiller, got {distiller!r}{hint}",
            argument=name,
        )
    check_weight(name, weight)


def check_weight(name: str, weight: Any) -> None:
    """Raise unless the weight of a part is a number, or a schedule that begins as one.

    Raises:
        TypeError: If it is not a number, or a schedule does not return one.
        ValueError: If it is negative or not finite; of a schedule, at step 0.
    """
    kinds, when = numbers.Real | np.ndarray | Array, ""
    if is_schedule(weight):
        weight = beginning(weight, f"the weight of {name}", argument=name)
        when = " at step 0"
    if isinstance(weight, bool) or not isinstance(weight, kinds) or np.shape(weight):
        raise InvalidTypeError(
            f"the weight of {name} must be a number, got {weight!r}", argument=name
        )
    if not 0 <= float(weight) < math.inf:
        raise InvalidInputError(
            f"the weight of {name} must be finite and not negative, got {weight}{when};"
            " with a negative weight, training would maximize the loss",
            argument=name,
        )


def _student(parts: dict[str, Distiller]) -> Any:
    """Return the function of the one part that changes the student's network."""
    makers = {n: part.student for n, part in parts.items() if part.student is not None}
    if len(makers) > 1:
        raise InvalidInputError(
            "at most one part may change the student's network, but "
            f"{' and '.join(makers)} do; leave out all but one",
            argument=list(makers)[1],
        )
    return next(iter(makers.values()), None)


def _views(parts: dict[str, Distiller]) -> Callable[[Array], Array] | None:
    """Return the function that all parts with views share."""
    wanted = {n: part.views for n, part in parts.items() if part.views is not None}
    if not wanted:
        return None
    (first, views), *others = wanted.items()
    for name, other in others:
        if other is not views:
            raise InvalidInputError(
                f"{name} has other views than {first}, but all parts must share one "
                "function that makes views; give both the same function",
                argument=name,
            )
    return views


def _pretraining(
    parts: dict[str, Distiller], combine: Callable[[dict[str, Any]], Loss]
) -> Pretraining | None:
    """Combine the pretraining stages of the parts that have one."""
    stages = {
        name: part.pretraining
        for name, part in parts.items()
        if part.pretraining is not None
    }
    if not stages:
        return None
    lengths = {name: stage.epochs for name, stage in stages.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(
            f"pretraining_epochs is {lengths}, but the parts share one pretraining "
            "stage; give all of them the same number of epochs",
            argument="pretraining_epochs",
        )

    def finish(params, extra):
        states = {
            name: stages[name].finish(params[name], extra[name])
            if name in stages
            else DistillerState(params[name], extra[name])
            for name in parts
        }
        return DistillerState(
            params={name: state.params for name, state in states.items()},
            extra={name: state.extra for name, state in states.items()},
        )

    return Pretraining(
        epochs=next(iter(lengths.values())),
        loss=combine({name: (1.0, stage.loss) for name, stage in stages.items()}),
        trains_student=any(stage.trains_student for stage in stages.values()),
        finish=finish,
    )

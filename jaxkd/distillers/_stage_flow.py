"""Methods that compare the relations between consecutive stages."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller, DistillerState, Pretraining, Spec
from jaxkd.distillers._metadata import method
from jaxkd.distillers._stages import head_dtype, require_maps, summed


@method(
    "fsp",
    weights={"ce": 1.0, "fsp": 1.0},
    compares="flow between stages, in pretraining",
    reads=("stem", "stages"),
    losses=(losses.flow_of_solution,),
    repdistiller="fsp",
)
def flow_of_solution(*, pretraining_epochs: int = 30) -> Distiller:
    """Pretrain the student to have the teacher's flow between stages (FSP).

    Before training, the student learns by :func:`jaxkd.losses.flow_of_solution`, summed
    over all pairs of consecutive stages, the stem included. Afterwards the loss is
    zero, as published: only the initialization of the student remains. Give the part
    any weight but 0.

    Args:
        pretraining_epochs: Number of epochs of that stage, at least 1: the method
            consists of it.

    Returns:
        A distiller with pretraining, and without parameters or state. The metrics of
        the pretraining are the mean loss of each pair of stages, ``stage0_1`` and so
        on.

    Raises:
        TypeError: If the number of epochs is not an integer.
        ValueError: If it is below 1; from ``init``, if there is no teacher, the
            networks' stages do not correspond, or their channels differ in number.

    Example:
        >>> from jaxkd import distillers
        >>> distillers.flow_of_solution(pretraining_epochs=10)
        Distiller(flow_of_solution, pretraining=10 epochs)

    References:
        Yim et al., `A Gift from Knowledge Distillation: Fast Optimization, Network
        Minimization and Transfer Learning
        <https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html>`_,
        2017.
    """
    _checks.check_at_least(1, pretraining_epochs=pretraining_epochs)

    def init(rngs, spec):
        del rngs
        _require_equal_channels(spec, "flow_of_solution", first=0)
        return DistillerState(params={}, extra={})

    def flow(params, extra, student, teacher, batch):
        del params, batch
        total, metrics = _sum_over_pairs(
            losses.flow_of_solution, student.stages, teacher.stages, first=0
        )
        return total, extra, metrics

    def loss(params, extra, student, teacher, batch):
        del params, teacher
        return jnp.zeros(len(batch.labels), head_dtype(student.logits)), extra, {}

    return Distiller(init, loss, Pretraining(pretraining_epochs, flow))


@method(
    "kdsvd",
    weights={"ce": 1.0, "kdsvd": 1.0},
    compares="singular vectors of the stages",
    reads=("stages",),
    losses=(losses.singular_value,),
    repdistiller="kdsvd",
)
def singular_value(*, k: int = 1) -> Distiller:
    """Match the leading singular vectors of consecutive stages (KDSVD).

    The loss is :func:`jaxkd.losses.singular_value`, summed over all pairs of
    consecutive stages, the stem left out. The benchmarks' weight is 1.

    Args:
        k: Number of singular vectors of each of the teacher's feature maps to compare.

    Returns:
        A distiller without parameters or state; its metrics are the mean loss of each
        pair of stages, ``stage1_2`` and so on.

    Raises:
        TypeError: If ``k`` is not an integer.
        ValueError: If it is below 1; from ``init``, if there is no teacher, the
            networks' stages do not correspond or are fewer than two without the stem,
            their channels differ in number, or a map has fewer than ``k`` channels or
            positions.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     svd=(1.0, distillers.singular_value()),
        ... )

    References:
        Lee et al., `Self-supervised Knowledge Distillation Using Singular Value
        Decomposition <https://arxiv.org/abs/1807.06819>`_, 2018.
    """
    _checks.check_at_least(1, k=k)
    pair_loss = functools.partial(losses.singular_value, k=k)

    def init(rngs, spec):
        del rngs
        maps = _require_equal_channels(spec, "singular_value", first=1)
        for name, found in zip(("student", "teacher"), maps, strict=True):
            for i, x in enumerate(found[1:], start=1):
                count = min(math.prod(x.shape[1:3]), x.shape[3])
                if k > count:
                    raise InvalidInputError(
                        f"k is {k}, but stage {i} of the {name}, of shape {x.shape}, "
                        f"has only {count} singular vectors",
                        argument="k",
                    )
        return DistillerState(params={}, extra={})

    def loss(params, extra, student, teacher, batch):
        del params, batch
        total, metrics = _sum_over_pairs(
            pair_loss, student.stages, teacher.stages, first=1
        )
        return total, extra, metrics

    return Distiller(init, loss)


def _sum_over_pairs(pair_loss, student, teacher, *, first):
    """Sum a loss over consecutive stages from ``first`` on; also return the metrics."""
    teacher = jax.lax.stop_gradient(teacher)
    return summed(
        {
            f"stage{i}_{i + 1}": pair_loss(
                student[i], student[i + 1], teacher[i], teacher[i + 1]
            )
            for i in range(first, len(student) - 1)
        }
    )


def _require_equal_channels(
    spec: Spec, method: str, *, first: int
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the feature maps, which must have equally many channels."""
    student, teacher = require_maps(spec, method)
    if len(student) - first < 2:
        raise InvalidInputError(
            f"{method} compares consecutive stages from stage {first} on, but the "
            f"networks' last is {len(student) - 1}",
            argument="spec",
        )
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if i >= first and s.shape[-1] != t.shape[-1]:
            raise InvalidInputError(
                f"{method} needs equal numbers of channels, but at stage {i} the "
                f"student has {s.shape[-1]} and the teacher {t.shape[-1]}; choose "
                "networks of one width",
                argument="spec",
            )
    return student, teacher

"""Methods that compare feature maps and train in one stage."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxkd import _checks, heads, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    Metrics,
    Spec,
    require_stages,
)
from jaxkd.heads._variational import check_variance
from jaxkd.losses._pooling import pool_to_match


def hint(*, stage: int = 2) -> Distiller:
    """FitNets: regression on the teacher's feature map, through a regressor.

    The loss is :func:`jaxkd.losses.hint` between what :class:`jaxkd.heads.Regressor`
    makes of the student's map and the teacher's. The benchmarks' weight is 100, and
    they train all at once; the paper trains up to the stage first.

    Args:
        stage: The stage whose maps are compared; 0 is the stem.

    Returns:
        A distiller. Its parameters are the regressor's, its state the statistics of the
        regressor's batch normalisation.

    Raises:
        TypeError: If the stage is no integer.
        ValueError: If it is negative; from ``init``, if there is no teacher, a network
            has no such stage, or no regressor fits the sizes of the maps.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     hint=(100.0, distillers.hint(stage=2)),
        ... )

    References:
        Romero et al., `FitNets: Hints for Thin Deep Nets
        <https://arxiv.org/abs/1412.6550>`_, 2015.
    """
    _checks.check_at_least(0, stage=stage)

    def make_regressor(student, teacher):
        shapes, dtype = (student.shape[1:], teacher.shape[1:]), head_dtype(student)
        return lambda rngs: heads.Regressor(*shapes, dtype=dtype, rngs=rngs)

    def init(rngs, spec):
        both = require_maps(spec, "hint", equal=False)
        for name, maps in zip(("student", "teacher"), both, strict=True):
            if stage >= len(maps):
                raise InvalidInputError(
                    f"stage is {stage}, but the {name} has the stages "
                    f"0 to {len(maps) - 1}"
                )
        make = make_regressor(*(maps[stage] for maps in both))
        return DistillerState(*heads.init_heads(make, rngs))

    def loss(params, extra, student, teacher, batch):
        del batch
        given = student.stages[stage]
        wanted = jax.lax.stop_gradient(teacher.stages[stage])
        regressor = heads.bind_heads(make_regressor(given, wanted), params, extra)
        per_example = losses.hint(regressor(given), wanted)
        return per_example, heads.rest_of(regressor), {}

    return Distiller(init, loss)


def attention_transfer(*, power: int = 2) -> Distiller:
    """Attention transfer: the networks look at the same places.

    The loss is :func:`jaxkd.losses.attention_transfer`, summed over all stages but the
    stem. The benchmarks' weight is 1000.

    Args:
        power: Exponent of the activations whose mean is a position's attention.

    Returns:
        A distiller without parameters or state; its metrics are the mean loss of each
        stage, ``stage1`` and so on.

    Raises:
        TypeError: If the power is no integer.
        ValueError: If it is below 1; from ``init``, if there is no teacher or the
            networks' stages do not correspond.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     attention=(1000.0, distillers.attention_transfer()),
        ... )

    References:
        Zagoruyko and Komodakis, `Paying More Attention to Attention
        <https://arxiv.org/abs/1612.03928>`_, 2017.
    """
    _checks.check_at_least(1, power=power)
    stage_loss = functools.partial(losses.attention_transfer, power=power)
    return _sum_over_stages("attention_transfer", stage_loss)


def neuron_selectivity() -> Distiller:
    """Neuron selectivity transfer: the channels respond to the same patterns.

    The loss is :func:`jaxkd.losses.neuron_selectivity`, summed over all stages but the
    stem. The benchmarks' weight is 50.

    Returns:
        A distiller without parameters or state; its metrics are the mean loss of each
        stage, ``stage1`` and so on.

    Raises:
        ValueError: From ``init``, if there is no teacher or the networks' stages do not
            correspond.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     selectivity=(50.0, distillers.neuron_selectivity()),
        ... )

    References:
        Huang and Wang, `Like What You Like: Knowledge Distill via Neuron Selectivity
        Transfer <https://arxiv.org/abs/1707.01219>`_, 2017.
    """
    return _sum_over_stages("neuron_selectivity", losses.neuron_selectivity)


def variational_information(*, initial_variance: float | int = 5.0) -> Distiller:
    """Variational information distillation: predicting the teacher's features.

    The loss is :func:`jaxkd.losses.variational_information` of what one
    :class:`jaxkd.heads.VariationalRegressor` a stage predicts, summed over all stages
    but the stem. Where the maps differ in size, the larger is average-pooled to the
    smaller. The benchmarks' weight is 1.

    Args:
        initial_variance: The variances that the regressors start with.

    Returns:
        A distiller without state. Its parameters are the regressors', variances
        included; its metrics the mean loss of each stage, ``stage1`` and so on.

    Raises:
        ValueError: If the variance is not above 1e-5 and finite; from ``init``, if
            there is no teacher or the networks' stages do not correspond.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     information=(1.0, distillers.variational_information()),
        ... )

    References:
        Ahn et al., `Variational Information Distillation for Knowledge Transfer
        <https://arxiv.org/abs/1904.05835>`_, 2019.
    """
    check_variance(initial_variance)

    def make_regressors(student, teacher):
        def make(s, t):
            channels, dtype = (s.shape[-1], t.shape[-1]), head_dtype(s)
            return lambda rngs: heads.VariationalRegressor(
                *channels, initial_variance=initial_variance, dtype=dtype, rngs=rngs
            )

        return stage_heads(make, student, teacher)

    def init(rngs, spec):
        makes = make_regressors(*require_maps(spec, "variational_information"))
        state = init_stages(makes, rngs)
        return DistillerState(state.params, extra={})  # nothing but parameters

    def loss(params, extra, student, teacher, batch):
        del batch
        wanted = jax.lax.stop_gradient(teacher.stages)
        makes = make_regressors(student.stages, wanted)
        parts = {}
        for (name, make), s, t in zip(
            makes.items(), student.stages[1:], wanted[1:], strict=True
        ):
            regressor = heads.bind_heads(make, params[name], {})
            s, t = pool_to_match(s, t)
            parts[name] = losses.variational_information(
                regressor(s), t, regressor.log_scale[...]
            )
        total, metrics = summed(parts)
        return total, extra, metrics

    return Distiller(init, loss)


def _sum_over_stages(
    method: str, stage_loss: Callable[..., Float[Array, " batch"]]
) -> Distiller:
    """A loss without parameters, on every pair of stages but the stems."""

    def init(rngs, spec):
        del rngs
        require_maps(spec, method)
        return DistillerState(params={}, extra={})

    def loss(params, extra, student, teacher, batch):
        del params, batch
        pairs = zip(student.stages[1:], teacher.stages[1:], strict=True)
        parts = {
            f"stage{i}": stage_loss(s, jax.lax.stop_gradient(t))
            for i, (s, t) in enumerate(pairs, start=1)
        }
        total, metrics = summed(parts)
        return total, extra, metrics

    return Distiller(init, loss)


def summed(
    parts: dict[str, Float[Array, " batch"]],
) -> tuple[Float[Array, " batch"], Metrics]:
    """The sum of the stages' losses, and their means as metrics."""
    metrics = {name: jnp.mean(part) for name, part in parts.items()}
    return functools.reduce(operator.add, parts.values()), metrics


def require_maps(
    spec: Spec, method: str, *, preactivations: bool = False, equal: bool = True
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """As :func:`require_stages`, and every stage is a map of height and width.

    Raises:
        ValueError: If a stage of a network is no feature map.
    """
    both = require_stages(spec, method, preactivations=preactivations, equal=equal)
    for name, maps in zip(("student", "teacher"), both, strict=True):
        for i, x in enumerate(maps):
            if len(x.shape) != 4:
                raise InvalidInputError(
                    f"{method} compares feature maps [batch, height, width, channels], "
                    f"but stage {i} of the {name} has the shape {x.shape}"
                )
    return both


def stage_heads(
    make: Callable[[Any, Any], Callable[..., Any]],
    student: Sequence[Any],
    teacher: Sequence[Any],
) -> dict[str, Callable[..., Any]]:
    """What builds the head of each stage but the stem, by the stage's name."""
    pairs = zip(student[1:], teacher[1:], strict=True)
    return {f"stage{i}": make(s, t) for i, (s, t) in enumerate(pairs, start=1)}


def init_stages(makes: dict[str, Callable[..., Any]], rngs: Any) -> DistillerState:
    """Parameters and other arrays of the heads, by the stage's name."""
    built = {name: heads.init_heads(make, rngs) for name, make in makes.items()}
    return DistillerState(
        params={name: params for name, (params, _) in built.items()},
        extra={name: rest for name, (_, rest) in built.items()},
    )


def head_dtype(x: Any) -> DTypeLike:
    """The dtype of the heads that read an array: float64 with it, else float32."""
    return x.dtype if jnp.finfo(x.dtype).bits > 32 else jnp.float32

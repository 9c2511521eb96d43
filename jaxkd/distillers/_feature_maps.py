"""Methods that compare feature maps element by element."""

import jax
import jax.numpy as jnp

from jaxkd import _checks, heads, losses
from jaxkd._errors import InvalidInputError
from jaxkd._math import pool_to_match
from jaxkd.distillers._base import Distiller, DistillerState, Pretraining
from jaxkd.distillers._metadata import method
from jaxkd.distillers._stages import (
    head_dtype,
    init_stages,
    not_pretrained,
    require_maps,
    stage_heads,
    summed,
)
from jaxkd.heads._variational import check_variance

_BOUNDARY_SCALE = 3 / 1000  # as published


@method(
    "hint",
    weights={"ce": 1.0, "hint": 100.0},
    compares="stage 2, through a regressor",
    reads=("stages",),
    losses=(losses.hint,),
    repdistiller="hint",
)
def hint(*, stage: int = 2) -> Distiller:
    """Regress one stage's feature map on the teacher's, through a regressor (FitNets).

    The loss is :func:`jaxkd.losses.hint` between the output of a
    :class:`jaxkd.heads.Regressor` of the student's map and the teacher's map. The
    benchmarks use the weight 100 and train all layers at once; the paper first trains
    the layers up to the stage.

    Args:
        stage: The stage whose maps are compared; 0 is the stem.

    Returns:
        A distiller. Its parameters are the regressor's, its state the statistics of the
        regressor's batch normalization.

    Raises:
        TypeError: If the stage is not an integer.
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
                    f"0 to {len(maps) - 1}",
                    argument="stage",
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


@method(
    "vid",
    weights={"ce": 1.0, "vid": 1.0},
    compares="a Gaussian of the teacher's maps",
    reads=("stages",),
    losses=(losses.variational_information,),
    repdistiller="vid",
)
def variational_information(*, initial_variance: float | int = 5.0) -> Distiller:
    """Predict the teacher's features with learned variances (VID).

    The loss is :func:`jaxkd.losses.variational_information` of the predictions of one
    :class:`jaxkd.heads.VariationalRegressor` per stage, summed over all stages but the
    stem. If the maps differ in size, the larger one is average-pooled to the
    smaller. The benchmarks' weight is 1.

    Args:
        initial_variance: Initial variances of the regressors.

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


@method(
    "ab",
    weights={"ce": 1.0, "ab": 1.0},
    compares="which neurons are active, in pretraining",
    reads=("stages",),
    losses=(losses.activation_boundary,),
    repdistiller="abound",
)
def activation_boundary(
    *, margin: float | int = 1.0, pretraining_epochs: int = 30
) -> Distiller:
    r"""Pretrain the student to have the same active neurons as the teacher (AB).

    Before training, the student and one connector per stage, a
    :class:`jaxkd.heads.Regressor` without ReLU, learn by
    :func:`jaxkd.losses.activation_boundary` on the maps before their activation. With
    stages 1 to n, the stem left out,

    .. math::
        \ell = \frac{3}{1000} \sum_{i=1}^n 2^{i - n} \ell_i.

    Afterwards the connectors are dropped and the loss is zero, as published: only the
    initialization of the student remains. Give the part any weight but 0.

    Args:
        margin: Required distance of a neuron from the boundary.
        pretraining_epochs: Number of epochs of that stage, at least 1: the method
            consists of it.

    Returns:
        A distiller with pretraining, and without parameters or state then. The metrics
        of the pretraining are the weighted mean loss of each stage, ``stage1`` and so
        on.

    Raises:
        TypeError: If the number of epochs is not an integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher,
            the networks' stages do not correspond, or no connector fits their sizes.

    Example:
        >>> from jaxkd import distillers
        >>> distillers.activation_boundary(pretraining_epochs=10)
        Distiller(activation_boundary, pretraining=10 epochs)

    References:
        Heo et al., `Knowledge Transfer via Distillation of Activation Boundaries Formed
        by Hidden Neurons <https://arxiv.org/abs/1811.03233>`_, 2019.
    """
    _checks.check_finite_positive(margin=margin)
    _checks.check_at_least(1, pretraining_epochs=pretraining_epochs)

    def make_connectors(student, teacher):
        def make(s, t):
            shapes, dtype = (s.shape[1:], t.shape[1:]), head_dtype(s)
            return lambda rngs: heads.Regressor(
                *shapes, activate=False, dtype=dtype, rngs=rngs
            )

        return stage_heads(make, student, teacher)

    def init(rngs, spec):
        maps = require_maps(spec, "activation_boundary", preactivations=True)
        return init_stages(make_connectors(*maps), rngs)

    def boundaries(params, extra, student, teacher, batch):
        del batch
        maps = student.preactivations, jax.lax.stop_gradient(teacher.preactivations)
        makes = make_connectors(*maps)
        parts, statistics = {}, {}
        stages = zip(makes.items(), maps[0][1:], maps[1][1:], strict=True)
        for i, ((name, make), s, t) in enumerate(stages, start=1):
            connector = heads.bind_heads(make, params[name], extra[name])
            weight = _BOUNDARY_SCALE * 2.0 ** (i - len(makes))
            parts[name] = weight * losses.activation_boundary(
                connector(s), t, margin=margin
            )
            statistics[name] = heads.rest_of(connector)
        total, metrics = summed(parts)
        return total, statistics, metrics

    def finish(params, extra):
        del params, extra
        return DistillerState(params={}, extra={})

    def loss(params, extra, student, teacher, batch):
        del teacher
        if params:
            raise not_pretrained("activation_boundary")
        return jnp.zeros(len(batch.labels), head_dtype(student.logits)), extra, {}

    return Distiller(
        init, loss, Pretraining(pretraining_epochs, boundaries, finish=finish)
    )

"""Methods that compare feature maps in a stage before training."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxkd import _checks, heads, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller, DistillerState, Pretraining
from jaxkd.distillers._features import (
    head_dtype,
    init_stages,
    require_maps,
    stage_heads,
    summed,
)
from jaxkd.heads._factor import factor_channels

_BOUNDARY_SCALE = 3 / 1000  # as published


def factor_transfer(
    *,
    rate: float | int = 0.5,
    power: int = 2,
    normalize_paraphraser: bool = False,
    pretraining_epochs: int = 30,
) -> Distiller:
    """Factor transfer: the student explains itself as the teacher is paraphrased.

    First a :class:`jaxkd.heads.Paraphraser` learns, without the student, to reconstruct
    the teacher's last feature maps; the loss of that stage is the mean squared error.
    Then, with the paraphraser frozen, the student and a
    :class:`jaxkd.heads.Translator` learn by :func:`jaxkd.losses.factor_transfer`
    between their factor and the paraphraser's. The benchmarks' weight is 200.

    Args:
        rate: Channels of the factors relative to the teacher's.
        power: Exponent of the activations of the factors that are compared.
        normalize_paraphraser: Whether the paraphraser has batch normalisation. The
            benchmarks' has none; the translator always has.
        pretraining_epochs: How long the paraphraser is trained, at least 1: the factor
            of an untrained one says nothing of the teacher.

    Returns:
        A distiller with pretraining. Then its parameters are the translator's; its
        state is the paraphraser and the statistics of the translator.

    Raises:
        TypeError: If the power or the number of epochs is no integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher,
            the networks have no stages, or the rate leaves no channels.

    Example:
        >>> from jaxkd import distillers
        >>> distillers.factor_transfer().pretraining.epochs
        30

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018.
    """
    _checks.check_finite_positive(rate=rate)
    _checks.check_at_least(1, power=power, pretraining_epochs=pretraining_epochs)

    def make_paraphraser(teacher):
        channels, dtype = teacher.shape[-1], head_dtype(teacher)
        return lambda rngs: heads.Paraphraser(
            channels,
            rate=rate,
            normalize=normalize_paraphraser,
            dtype=dtype,
            rngs=rngs,
        )

    def make_translator(student, teacher):
        channels = student.shape[-1], factor_channels(teacher.shape[-1], rate)
        dtype = head_dtype(student)
        return lambda rngs: heads.Translator(*channels, dtype=dtype, rngs=rngs)

    def init(rngs, spec):
        student, teacher = require_maps(spec, "factor_transfer", equal=False)
        paraphraser = heads.init_heads(make_paraphraser(teacher[-1]), rngs)
        translator = heads.init_heads(make_translator(student[-1], teacher[-1]), rngs)
        return DistillerState(
            params={"paraphraser": paraphraser[0], "translator": translator[0]},
            extra={"paraphraser": paraphraser[1], "translator": translator[1]},
        )

    def reconstruction(params, extra, student, teacher, batch):
        del student, batch
        maps = jax.lax.stop_gradient(teacher.stages[-1])
        paraphraser = heads.bind_heads(
            make_paraphraser(maps), params["paraphraser"], extra["paraphraser"]
        )
        per_example = losses.hint(paraphraser(maps), maps)
        return per_example, extra | {"paraphraser": heads.rest_of(paraphraser)}, {}

    def finish(params, extra):
        frozen = {"params": params["paraphraser"], "statistics": extra["paraphraser"]}
        return DistillerState(
            params={"translator": params["translator"]},
            extra={"paraphraser": frozen, "translator": extra["translator"]},
        )

    def loss(params, extra, student, teacher, batch):
        del batch
        if "paraphraser" in params:
            raise _not_pretrained("factor_transfer")
        maps = student.stages[-1], teacher.stages[-1]
        frozen = extra["paraphraser"]
        paraphraser = heads.bind_heads(
            make_paraphraser(maps[1]), frozen["params"], frozen["statistics"]
        )
        if normalize_paraphraser:
            paraphraser = nnx.view(paraphraser, use_running_average=True)
        translator = heads.bind_heads(
            make_translator(*maps), params["translator"], extra["translator"]
        )
        per_example = losses.factor_transfer(
            translator(maps[0]), paraphraser.encode(maps[1]), power=power
        )
        return per_example, extra | {"translator": heads.rest_of(translator)}, {}

    pretraining = Pretraining(
        pretraining_epochs, reconstruction, trains_student=False, finish=finish
    )
    return Distiller(init, loss, pretraining)


def activation_boundary(
    *, margin: float | int = 1.0, pretraining_epochs: int = 30
) -> Distiller:
    r"""Activation boundaries: the student starts with its neurons on the right side.

    Before training, the student and one connector a stage, a
    :class:`jaxkd.heads.Regressor` without ReLU, learn by
    :func:`jaxkd.losses.activation_boundary` on the maps before their activation. With
    stages 1 to n, the stem left out,

    .. math::
        \ell = \frac{3}{1000} \sum_{i=1}^n 2^{i - n} \ell_i.

    Afterwards the connectors are dropped and the loss is zero, as published: what
    remains is where the student starts from. Give it any weight but 0.

    Args:
        margin: How far from the boundary a neuron has to be.
        pretraining_epochs: How long that stage lasts, at least 1: the method is this
            stage.

    Returns:
        A distiller with pretraining, and without parameters or state then. The metrics
        of the pretraining are the weighted mean loss of each stage, ``stage1`` and so
        on.

    Raises:
        TypeError: If the number of epochs is no integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher,
            the networks' stages do not correspond, or no connector fits their sizes.

    Example:
        >>> from jaxkd import distillers
        >>> distillers.activation_boundary(pretraining_epochs=10).pretraining.epochs
        10

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
            raise _not_pretrained("activation_boundary")
        return jnp.zeros(len(batch.labels), head_dtype(student.logits)), extra, {}

    return Distiller(
        init, loss, Pretraining(pretraining_epochs, boundaries, finish=finish)
    )


def _not_pretrained(method: str) -> InvalidInputError:
    return InvalidInputError(
        f"{method} has a stage before this one: train by its pretraining, then go on "
        "with the state that the pretraining's finish returns"
    )

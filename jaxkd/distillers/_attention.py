"""Methods that compare where, or in which patterns, feature maps are active."""

import jax
from flax import nnx

from jaxkd import _checks, heads, losses
from jaxkd.distillers._base import Distiller, DistillerState, Pretraining
from jaxkd.distillers._from_loss import from_loss
from jaxkd.distillers._metadata import method
from jaxkd.distillers._stages import head_dtype, not_pretrained, require_maps
from jaxkd.heads._factor import factor_channels


@method(
    "at",
    weights={"ce": 1.0, "at": 1000.0},
    compares="attention maps of all stages",
    reads=("stages",),
    losses=(losses.attention_transfer,),
    repdistiller="attention",
)
def attention_transfer(*, power: int = 2) -> Distiller:
    """Match the networks' spatial attention (attention transfer, AT).

    The loss is :func:`jaxkd.losses.attention_transfer`, summed over all stages but the
    stem. The benchmarks' weight is 1000.

    Args:
        power: Exponent of the activations whose mean is a position's attention.

    Returns:
        A distiller without parameters or state; its metrics are the mean loss of each
        stage, ``stage1`` and so on.

    Raises:
        TypeError: If the power is not an integer.
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
    return from_loss(losses.attention_transfer, reads="stages", power=power)


@method(
    "ft",
    weights={"ce": 1.0, "ft": 200.0},
    compares="factors of the last stage, paraphraser pretrained",
    reads=("stages",),
    losses=(losses.factor_transfer,),
    repdistiller="factor",
)
def factor_transfer(
    *,
    rate: float | int = 0.5,
    power: int = 2,
    normalize_paraphraser: bool = False,
    pretraining_epochs: int = 30,
) -> Distiller:
    """Match the student's translated factors to the teacher's paraphrased ones (FT).

    First a :class:`jaxkd.heads.Paraphraser` learns, without the student, to reconstruct
    the teacher's last feature maps; the loss of that stage is the mean squared error.
    Then, with the paraphraser frozen, the student and a
    :class:`jaxkd.heads.Translator` learn by :func:`jaxkd.losses.factor_transfer`
    between their factor and the paraphraser's. The benchmarks' weight is 200.

    Args:
        rate: Channels of the factors relative to the teacher's.
        power: Exponent of the activations of the factors that are compared.
        normalize_paraphraser: Whether the paraphraser has batch normalization. The
            benchmarks' has none; the translator always has.
        pretraining_epochs: How long the paraphraser is trained, at least 1: the factor
            of an untrained one says nothing of the teacher.

    Returns:
        A distiller with pretraining. Then its parameters are the translator's; its
        state is the paraphraser and the statistics of the translator.

    Raises:
        TypeError: If the power or the number of epochs is not an integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher,
            the networks have no stages, or the rate leaves no channels.

    Example:
        >>> from jaxkd import distillers
        >>> distillers.factor_transfer()
        Distiller(factor_transfer, pretraining=30 epochs)

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
            raise not_pretrained("factor_transfer")
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


@method(
    "nst",
    weights={"ce": 1.0, "nst": 50.0},
    compares="distribution of neurons over positions",
    reads=("stages",),
    losses=(losses.neuron_selectivity,),
    repdistiller="nst",
)
def neuron_selectivity() -> Distiller:
    """Match the patterns that the channels respond to (neuron selectivity transfer).

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
    return from_loss(losses.neuron_selectivity, reads="stages")

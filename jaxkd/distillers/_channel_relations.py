"""Methods that compare the relations among the channels of a feature map."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks, losses
from jaxkd.distillers._base import Distiller, DistillerState, require_stages
from jaxkd.distillers._metadata import method
from jaxkd.distillers._schedules import Schedule, check_beginning, setting_at
from jaxkd.distillers._stages import head_dtype
from jaxkd.heads import Regressor, bind_heads, init_heads, rest_of


@method(
    "ickd",
    weights={"ce": 1.0, "ickd": 2.5},
    compares="correlation of channels",
    reads=("stages",),
    losses=(losses.inter_channel_correlation,),
)
def inter_channel_correlation() -> Distiller:
    """Match the correlations among the channels of the last feature maps (ICKD).

    The loss is :func:`jaxkd.losses.inter_channel_correlation` of the last stage, before
    pooling. If the student has another number of channels than the teacher, a trained
    1x1 convolution with batch normalization maps its channels to the teacher's.

    Returns:
        A distiller. The convolution, if there is one, is trained; the statistics of its
        normalization are the distiller's state.

    Raises:
        ValueError: From ``init``, if there is no teacher or a network returns no
            feature maps.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     ickd=(2.5, distillers.inter_channel_correlation()),
        ... )

    References:
        Liu et al., `Exploring Inter-Channel Correlation for Diversity-preserved
        Knowledge Distillation <https://arxiv.org/abs/2202.03680>`_, 2021.
    """

    return _on_adapted_maps(losses.inter_channel_correlation)


@method(
    "cwd",
    weights={"ce": 1.0, "cwd": 50.0},
    compares="distribution of each channel over the positions",
    reads=("stages",),
    losses=(losses.channel_distributions,),
)
def channel_distributions(
    *, temperature: Real[ArrayLike, ""] | Schedule = 4.0
) -> Distiller:
    """Match each channel's distribution over the positions (CWD).

    The loss is :func:`jaxkd.losses.channel_distributions` of the last stage, before
    pooling. If the student has another number of channels than the teacher, a trained
    1x1 convolution with batch normalization maps its channels to the teacher's. The
    paper's weight for feature maps is 50.

    Args:
        temperature: Softening temperature; ``inf`` is allowed. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

    Returns:
        A distiller. The convolution, if there is one, is trained; the statistics of its
        normalization are the distiller's state.

    Raises:
        ValueError: If the temperature is not positive; from ``init``, if there is no
            teacher or a network returns no feature maps.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.channel_distributions(temperature=4.0)

    References:
        Shu et al., `Channel-wise Knowledge Distillation for Dense Prediction
        <https://arxiv.org/abs/2011.13256>`_, 2021.
    """
    check_beginning(_checks.check_temperature, temperature=temperature)
    return _on_adapted_maps(losses.channel_distributions, temperature=temperature)


def _on_adapted_maps(
    loss_of_maps: Callable[..., Float[Array, " batch"]], **settings: Any
) -> Distiller:
    """Build a distiller that compares the last maps, with the teacher's channels."""

    def make_adapter(student_maps, teacher_maps):
        """Return a 1x1 convolution with normalization, or None if none is needed."""
        shapes = [(1, 1, x.shape[-1]) for x in (student_maps, teacher_maps)]
        if shapes[0] == shapes[1]:
            return None
        dtype = head_dtype(student_maps)
        return lambda rngs: Regressor(*shapes, activate=False, dtype=dtype, rngs=rngs)

    def init(rngs, spec):
        students, teachers = require_stages(spec, loss_of_maps.__name__, equal=False)
        make = make_adapter(students[-1], teachers[-1])
        if make is None:
            return DistillerState(params={}, extra={})
        return DistillerState(*init_heads(make, rngs))

    def loss(params, extra, student, teacher, batch):
        _, scheduled = setting_at("temperature", settings.get("temperature"), batch)
        maps = student.stages[-1]
        make = make_adapter(maps, teacher.stages[-1])
        if make is not None:
            adapter = bind_heads(make, params, extra)
            maps = adapter(maps)
            extra = rest_of(adapter)
        given = {**settings, **scheduled}
        per_example = loss_of_maps(maps, teacher.stages[-1], **given)
        return per_example, extra, scheduled

    return Distiller(init, loss)

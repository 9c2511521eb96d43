"""Knowledge review: shallow stages of the teacher guide deep stages of the student."""

import jax
from jaxtyping import Array, Float

from jaxkd import _checks, heads, losses
from jaxkd.distillers._base import Distiller, require_embeddings
from jaxkd.distillers._metadata import method
from jaxkd.distillers._stages import head_dtype, init_stages, require_maps, summed
from jaxkd.models import ModelOutput

_WIDEST = 512  # as published


@method(
    "review",
    weights={"ce": 1.0, "review": 1.0},
    compares="fused maps, deep to shallow",
    reads=("stages", "embedding"),
    losses=(losses.review,),
    warmup_epochs=20,
)
def review(*, mid_channels: int | None = None) -> Distiller:
    r"""Fuse the student's stages, so that deep ones learn from shallow ones (ReviewKD).

    From the deepest stage to stage 1, a :class:`jaxkd.heads.AttentionFusion` fuses each
    of the student's maps with the result of the deeper stages. The loss is the sum of
    :func:`jaxkd.losses.review` between the results and the teacher's maps. As
    published, the deepest of the maps are the embeddings, as maps of one position; the
    stem is left out.

    The benchmarks' weight is 1. The paper's weights, chosen for each pair of networks,
    are 0.6 to 8. As published, the recipe raises the weight linearly over the first 20
    epochs (:func:`warmup`).

    Args:
        mid_channels: Number of channels that are passed from stage to stage. By default
            that of the student's embedding, at most 512.

    Returns:
        A distiller. Its parameters are the fusions', its state the statistics of their
        batch normalization. Its metrics are the mean loss of each stage, ``stage1`` and
        so on, and of the ``embedding``.

    Raises:
        TypeError: If the number of channels is not an integer.
        ValueError: If it is below 1; from ``init``, if there is no teacher or the
            networks' stages do not correspond.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     review=(1.0, distillers.review()),
        ... )

    References:
        Chen et al., `Distilling Knowledge via Knowledge Review
        <https://arxiv.org/abs/2104.09044>`_, 2021.
    """
    if mid_channels is not None:
        _checks.check_width(mid_channels=mid_channels)

    def make_fusions(student, teacher):
        """Return the builders of each level's fusion, the deepest first."""
        channels_s, channels_t = _channels(student), _channels(teacher)
        width = mid_channels or min(_WIDEST, channels_s["embedding"])
        dtype = head_dtype(student.embedding)

        def make(name):
            widths = channels_s[name], width, channels_t[name]
            fuse = name != "embedding"
            return lambda rngs: heads.AttentionFusion(
                *widths, fuse=fuse, dtype=dtype, rngs=rngs
            )

        return {name: make(name) for name in channels_s}

    def init(rngs, spec):
        require_maps(spec, "review")
        require_embeddings(spec, "review")
        return init_stages(make_fusions(spec.student, spec.teacher), rngs)

    def loss(params, extra, student, teacher, batch):
        del batch
        teacher = jax.lax.stop_gradient(teacher)
        makes = make_fusions(student, teacher)
        maps_s, maps_t = _maps(student), _maps(teacher)
        parts, statistics, residual = {}, {}, None
        for name, make in makes.items():
            fusion = heads.bind_heads(make, params[name], extra[name])
            wanted = maps_t[name]
            fused, residual = fusion(maps_s[name], residual, wanted.shape[1:3])
            parts[name] = losses.review(fused, wanted)
            statistics[name] = heads.rest_of(fusion)
        total, metrics = summed(parts)
        return total, statistics, metrics

    return Distiller(init, loss)


def _names(output: ModelOutput) -> list[str]:
    """Return the names of the stages but the stem, the deepest first."""
    return [f"stage{i}" for i in range(len(output.stages) - 1, 0, -1)]


def _channels(output: ModelOutput) -> dict[str, int]:
    """Return the number of channels of each level; the output may be abstract."""
    stages = [x.shape[-1] for x in output.stages[:0:-1]]
    deepest = {"embedding": output.embedding.shape[-1]}
    return deepest | dict(zip(_names(output), stages, strict=True))


def _maps(output: ModelOutput) -> dict[str, Float[Array, "b h w c"]]:
    """Return the feature maps of the levels; the embedding is a map of one position."""
    deepest = {"embedding": output.embedding[:, None, None, :]}
    return deepest | dict(zip(_names(output), output.stages[:0:-1], strict=True))

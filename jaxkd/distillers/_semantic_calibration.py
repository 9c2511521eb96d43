"""Semantic calibration: each student stage attends to all teacher stages."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkd import _checks, heads, losses
from jaxkd._math import pool_to_match
from jaxkd.distillers._base import Distiller, DistillerState
from jaxkd.distillers._metadata import method
from jaxkd.distillers._stages import head_dtype, init_stages, require_maps

_REDUCTION = 4  # as published


@method(
    "semckd",
    weights={"ce": 1.0, "semckd": 400.0},
    compares="each stage and the stages it attends to",
    reads=("stages",),
    losses=(losses.hint,),
)
def semantic_calibration() -> Distiller:
    r"""Match each student stage to the teacher stages that it attends to (SemCKD).

    With the features of stage :math:`s` flattened to the rows of :math:`F_s`, row
    :math:`i` of the similarities :math:`F_s F_s^\top` is embedded as a query
    :math:`q_{s,i}`; the teacher's stages :math:`t` give the keys :math:`k_{t,i}` in the
    same way (:class:`jaxkd.heads.SimilarityEmbedding`). Then

    .. math::
        \ell_i = \operatorname{mean}_s \sum_t \alpha_{s,t,i}
            \operatorname{mean} (P_{s,t}(F_s)_i - F_{t,i})^2, \qquad
        \alpha_{s,\cdot,i} = \mathrm{softmax}_t \, \langle q_{s,i}, k_{t,i} \rangle,

    the mean over positions and channels, with a
    :class:`jaxkd.heads.CrossLayerProjection` :math:`P_{s,t}` for each pair of stages.
    Before it, the larger of two maps is average-pooled to the smaller. The stems are
    left out; the networks may have different numbers of stages. Everything that
    attention depends on is trained, including the student's features.

    The embeddings read rows as long as the batch. So the batch size of training is part
    of the parameters' shapes and must stay constant: the last batch of an epoch is
    padded, not shorter. Their width is a quarter of it, as published, but at least
    2, because unit vectors of width 1 cannot turn.

    Returns:
        A distiller. Its parameters are the heads', its state the statistics of the
        projections' batch normalization. Its metric is the mean ``entropy`` of the
        attention, in nats.

    Raises:
        ValueError: From ``init``, if there is no teacher or a network returns no
            feature maps beyond the stem's; from ``loss``, if the batch has another size
            than the one given to ``init``.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     semckd=(400.0, distillers.semantic_calibration()),
        ... )

    References:
        Chen et al., `Cross-Layer Distillation with Semantic Calibration
        <https://arxiv.org/abs/2012.03236>`_, 2021.
    """

    def init(rngs, spec):
        maps = require_maps(spec, "semantic_calibration", equal=False)
        makes = _make_heads(*maps, spec.student.logits.shape[0])
        params, rest = init_stages(makes, rngs)
        # The embeddings have nothing but parameters.
        return DistillerState(params, {name: x for name, x in rest.items() if x})

    def loss(params, extra, student, teacher, batch):
        del batch
        maps_s, maps_t = student.stages, jax.lax.stop_gradient(teacher.stages)
        batch_size = params["query1"]["hidden"]["kernel"].shape[0]
        bound = {
            name: heads.bind_heads(make, params[name], extra.get(name, {}))
            for name, make in _make_heads(maps_s, maps_t, batch_size).items()
        }

        def embed(kind, maps):
            rows = [
                bound[f"{kind}{i}"](similarities(x))
                for i, x in enumerate(maps[1:], start=1)
            ]
            return jnp.stack(rows, axis=1)

        attention, entropy = attend(embed("query", maps_s), embed("key", maps_t))
        total = jnp.zeros(len(attention), attention.dtype)
        for i, s in enumerate(maps_s[1:], start=1):
            for j, t in enumerate(maps_t[1:], start=1):
                pooled_s, pooled_t = pool_to_match(s, t)
                projected = bound[_pair(i, j)](pooled_s)
                gap = losses.hint(projected, pooled_t)
                total = total + attention[:, i - 1, j - 1] * gap
        statistics = {name: heads.rest_of(bound[name]) for name in extra}
        return total / (len(maps_s) - 1), statistics, {"entropy": jnp.mean(entropy)}

    return Distiller(init, loss)


def similarities(x: Float[Array, "batch ..."]) -> Float[Array, "batch batch"]:
    """Return inner products of the examples' flattened features, at least float32."""
    rows = _checks.as_float_array(x, "x").reshape(len(x), -1)
    return jnp.matmul(rows, rows.T, precision="highest")


def attend(
    queries: Float[Array, "batch student_stages dim"],
    keys: Float[Array, "batch teacher_stages dim"],
) -> tuple[
    Float[Array, "batch student_stages teacher_stages"],
    Float[Array, "batch student_stages"],
]:
    """Return each example's attention to the teacher's stages, and its entropy.

    The dtypes of the networks may differ; the wider one is used.
    """
    queries, keys = _checks.common_float_arrays(queries=queries, keys=keys)
    scores = jnp.einsum("bsd,btd->bst", queries, keys, precision="highest")
    log_attention = jax.nn.log_softmax(scores, axis=-1)
    attention = jnp.exp(log_attention)
    return attention, -jnp.sum(attention * log_attention, axis=-1)


def _make_heads(maps_s, maps_t, batch_size):
    """Return the builders of the heads by name; the maps may be abstract."""
    dim = max(2, batch_size // _REDUCTION)

    def embedding(x):
        dtype = head_dtype(x)
        return lambda rngs: heads.SimilarityEmbedding(
            batch_size, dim, dtype=dtype, rngs=rngs
        )

    def projection(s, t):
        channels, dtype = (s.shape[-1], t.shape[-1]), head_dtype(s)
        return lambda rngs: heads.CrossLayerProjection(
            *channels, dtype=dtype, rngs=rngs
        )

    makes = {}
    for kind, maps in (("query", maps_s), ("key", maps_t)):
        for i, x in enumerate(maps[1:], start=1):
            makes[f"{kind}{i}"] = embedding(x)
    for i, s in enumerate(maps_s[1:], start=1):
        for j, t in enumerate(maps_t[1:], start=1):
            makes[_pair(i, j)] = projection(s, t)
    return makes


def _pair(i: int, j: int) -> str:
    """Return the name of the projection from the student's stage to the teacher's."""
    return f"projection{i}_{j}"

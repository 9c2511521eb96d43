"""Methods that compare relations: among the examples of a batch, among channels."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    require_output,
    require_stages,
)
from jaxkd.distillers._features import head_dtype
from jaxkd.heads import Embedding, Regressor, bind_heads, init_heads, rest_of


def similarity_preserving() -> Distiller:
    """Similarity-preserving distillation on the last feature maps.

    The loss is :func:`jaxkd.losses.similarity_preserving` of the last stage, before
    pooling. Published weight: 3000.

    Returns:
        A distiller without parameters or state.

    Raises:
        ValueError: From ``init``, if there is no teacher or a network gives no feature
            maps.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     sp=(3000.0, distillers.similarity_preserving()),
        ... )

    References:
        Tung and Mori, `Similarity-Preserving Knowledge Distillation
        <https://arxiv.org/abs/1907.09682>`_, 2019.
    """

    def init(rngs, spec):
        del rngs
        require_stages(spec, "similarity_preserving", equal=False)
        return DistillerState(params={}, extra={})

    def loss(params, extra, student, teacher, batch):
        del params, batch
        per_example = losses.similarity_preserving(
            student.stages[-1], teacher.stages[-1]
        )
        return per_example, extra, {}

    return Distiller(init, loss)


def relational(
    *, distance_weight: float | int = 25.0, angle_weight: float | int = 50.0
) -> Distiller:
    """Relational distillation: distances and angles among the batch's embeddings.

    The loss is ``distance_weight`` times :func:`jaxkd.losses.relational_distance` plus
    ``angle_weight`` times :func:`jaxkd.losses.relational_angle`. Published weight: 1.

    Args:
        distance_weight: Weight of the distances.
        angle_weight: Weight of the angles. A term of weight zero is not computed.

    Returns:
        A distiller without parameters or state; its metrics are the mean of each term,
        under ``distance`` and ``angle``.

    Raises:
        ValueError: If a weight is negative or not finite, or both are zero; from
            ``init``, if there is no teacher.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     rkd=(1.0, distillers.relational()),
        ... )

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019.
    """
    weights = {"distance_weight": distance_weight, "angle_weight": angle_weight}
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidInputError(
                f"{name} must be finite and not negative, got {weight}"
            )
    if not any(weights.values()):
        raise InvalidInputError(
            "distance_weight and angle_weight are both 0: nothing is left to train"
        )

    def loss(params, extra, student, teacher, batch):
        del params, batch
        embeddings = student.embedding, teacher.embedding
        parts, metrics = [], {}
        if distance_weight:
            distance = losses.relational_distance(*embeddings)
            parts.append(distance_weight * distance)
            metrics["distance"] = jnp.mean(distance)
        if angle_weight:
            angle = losses.relational_angle(*embeddings)
            parts.append(angle_weight * angle)
            metrics["angle"] = jnp.mean(angle)
        return jnp.sum(jnp.stack(parts), axis=0), extra, metrics

    return Distiller(_needs_embeddings("relational"), loss)


def probabilistic_transfer() -> Distiller:
    """Probabilistic knowledge transfer between the batch's embeddings.

    The loss is :func:`jaxkd.losses.probabilistic_transfer`. Published weight: 30000.

    Returns:
        A distiller without parameters or state.

    Raises:
        ValueError: From ``init``, if there is no teacher.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     pkt=(30000.0, distillers.probabilistic_transfer()),
        ... )

    References:
        Passalis and Tefas, `Learning Deep Representations with Probabilistic Knowledge
        Transfer <https://arxiv.org/abs/1803.10837>`_, 2018.
    """

    def loss(params, extra, student, teacher, batch):
        del params, batch
        per_example = losses.probabilistic_transfer(
            student.embedding, teacher.embedding
        )
        return per_example, extra, {}

    return Distiller(_needs_embeddings("probabilistic_transfer"), loss)


def correlation_congruence(*, dim: int = 128) -> Distiller:
    """Correlation congruence as benchmarked, on linear embeddings of both networks.

    The loss is :func:`jaxkd.losses.correlation_congruence` of two trained linear maps
    of the networks' embeddings. Each of its ``batch - 1`` values belongs half to each
    of its two examples, scaled so that the mean stays the same. Published weight: 0.02.

    Args:
        dim: Width of the space in which the embeddings are compared.

    Returns:
        A distiller whose linear maps are trained.

    Raises:
        TypeError: If ``dim`` is no integer.
        ValueError: If ``dim`` is less than 1; from ``init``, if there is no teacher or
            the batch has only one example.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     cc=(0.02, distillers.correlation_congruence()),
        ... )

    References:
        After Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019.
    """
    _checks.check_at_least(1, dim=dim)
    method = "correlation_congruence"

    def init(rngs, spec):
        if len(spec.student.embedding) < 2:
            raise InvalidInputError(
                "correlation_congruence compares each example with the next, but the "
                "batch has only one"
            )
        return _init_embedders(rngs, spec, method, dim)

    def loss(params, extra, student, teacher, batch):
        del batch
        pairs = losses.correlation_congruence(
            *_embed(params, student, teacher, dim),
            stop_teacher_gradient=False,  # its map is trained
        )
        return _shared(pairs), extra, {}

    return Distiller(init, loss)


def correlation_congruence_kernel(
    *, dim: int = 128, gamma: Real[ArrayLike, ""] = 0.4, order: int = 2
) -> Distiller:
    """Correlation congruence as in the paper, on linear embeddings of both networks.

    The loss is :func:`jaxkd.losses.correlation_congruence_kernel` of two trained linear
    maps of the networks' embeddings.

    Args:
        dim: Width of the space in which the embeddings are compared.
        gamma: Width of the kernel.
        order: Order of the kernel's expansion.

    Returns:
        A distiller whose linear maps are trained.

    Raises:
        TypeError: If ``dim`` or ``order`` is no integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher.

    Example:
        >>> from jaxkd import distillers
        >>> cc = distillers.correlation_congruence_kernel(gamma=0.4, order=2)

    References:
        Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019, Eq. 8-9.
    """
    _checks.check_at_least(1, dim=dim, order=order)
    _checks.check_finite_positive(gamma=gamma)

    def init(rngs, spec):
        return _init_embedders(rngs, spec, "correlation_congruence_kernel", dim)

    def loss(params, extra, student, teacher, batch):
        del batch
        per_example = losses.correlation_congruence_kernel(
            *_embed(params, student, teacher, dim),
            gamma=gamma,
            order=order,
            stop_teacher_gradient=False,  # its map is trained
        )
        return per_example, extra, {}

    return Distiller(init, loss)


def inter_channel_correlation() -> Distiller:
    """Correlations among the channels of the last feature maps.

    The loss is :func:`jaxkd.losses.inter_channel_correlation` of the last stage, before
    pooling. If the student has another number of channels than the teacher, a trained
    1x1 convolution with batch normalisation brings them to the teacher's.

    Returns:
        A distiller; the convolution, if there is one, is trained, and the statistics of
        its normalisation are the distiller's state.

    Raises:
        ValueError: From ``init``, if there is no teacher or a network gives no feature
            maps.

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

    def make_adapter(student_maps, teacher_maps):
        """A 1x1 convolution and normalisation, or None where none is needed."""
        shapes = [(1, 1, x.shape[-1]) for x in (student_maps, teacher_maps)]
        if shapes[0] == shapes[1]:
            return None
        dtype = head_dtype(student_maps)
        return lambda rngs: Regressor(*shapes, activate=False, dtype=dtype, rngs=rngs)

    def init(rngs, spec):
        students, teachers = require_stages(
            spec, "inter_channel_correlation", equal=False
        )
        make = make_adapter(students[-1], teachers[-1])
        if make is None:
            return DistillerState(params={}, extra={})
        return DistillerState(*init_heads(make, rngs))

    def loss(params, extra, student, teacher, batch):
        del batch
        maps = student.stages[-1]
        make = make_adapter(maps, teacher.stages[-1])
        if make is not None:
            adapter = bind_heads(make, params, extra)
            maps = adapter(maps)
            extra = rest_of(adapter)
        per_example = losses.inter_channel_correlation(maps, teacher.stages[-1])
        return per_example, extra, {}

    return Distiller(init, loss)


class _Embedders(nnx.Module):
    """A linear map of each network's embedding to a common width."""

    def __init__(
        self,
        student_features: int,
        teacher_features: int,
        *,
        dim: int,
        rngs: nnx.Rngs,
    ):
        self.student = Embedding(student_features, dim, normalize=False, rngs=rngs)
        self.teacher = Embedding(teacher_features, dim, normalize=False, rngs=rngs)


def _make_embedders(student, teacher, dim):
    widths = student.embedding.shape[-1], teacher.embedding.shape[-1]
    return lambda rngs: _Embedders(*widths, dim=dim, rngs=rngs)


def _init_embedders(rngs, spec, method, dim) -> DistillerState:
    teacher = require_output(spec, method)
    params, _ = init_heads(_make_embedders(spec.student, teacher, dim), rngs)
    return DistillerState(params, extra={})


def _embed(params, student, teacher, dim) -> tuple[Array, Array]:
    """Both embeddings in the common space; the teacher's own is a constant."""
    heads = bind_heads(_make_embedders(student, teacher, dim), params, {})
    fixed = jax.lax.stop_gradient(teacher.embedding)
    return heads.student(student.embedding), heads.teacher(fixed)


def _needs_embeddings(method):
    def init(rngs, spec):
        del rngs
        require_output(spec, method)
        return DistillerState(params={}, extra={})

    return init


def _shared(pairs: Float[Array, " pairs"]) -> Float[Array, " pairs+1"]:
    """Gives each of two neighbours half of their value; keeps the mean."""
    halves = 0.5 * (jnp.pad(pairs, (0, 1)) + jnp.pad(pairs, (1, 0)))
    return halves * (len(pairs) + 1) / len(pairs)

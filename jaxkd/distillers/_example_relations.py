"""Methods that compare the similarities among the examples of a batch."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller, DistillerState, require_embeddings
from jaxkd.distillers._from_loss import from_loss
from jaxkd.distillers._metadata import method
from jaxkd.heads import Embedding, bind_heads, init_heads
from jaxkd.losses._example_relations import MOST_TERMS


@method(
    "sp",
    weights={"ce": 1.0, "sp": 3000.0},
    compares="similarity of examples, last stage",
    reads=("stages",),
    losses=(losses.similarity_preserving,),
    repdistiller="similarity",
)
def similarity_preserving() -> Distiller:
    """Match the similarities of examples by their last feature maps (SP).

    The loss is :func:`jaxkd.losses.similarity_preserving` of the last stage, before
    pooling. Published weight: 3000.

    Returns:
        A distiller without parameters or state.

    Raises:
        ValueError: From ``init``, if there is no teacher or a network returns no
            feature maps.

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
    return from_loss(losses.similarity_preserving, reads="last_stage")


@method(
    "pkt",
    weights={"ce": 1.0, "pkt": 30000.0},
    compares="neighborhood probabilities",
    reads=("embedding",),
    losses=(losses.probabilistic_transfer,),
    repdistiller="pkt",
)
def probabilistic_transfer() -> Distiller:
    """Match the neighbor probabilities of the batch's embeddings (PKT).

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
    return from_loss(losses.probabilistic_transfer, reads="embedding")


@method(
    "cc",
    weights={"ce": 1.0, "cc": 0.02},
    compares="adjacent examples, as benchmarked",
    reads=("embedding",),
    losses=(losses.correlation_congruence,),
    repdistiller="correlation",
)
def correlation_congruence(*, dim: int = 128) -> Distiller:
    """Match correlations of consecutive examples, as benchmarked (CC).

    The loss is :func:`jaxkd.losses.correlation_congruence` of two trained linear maps
    of the networks' embeddings. Each of its ``batch - 1`` values is split evenly
    between its two examples and scaled so that the mean stays the same. Published
    weight: 0.02.

    Args:
        dim: Width of the space in which the embeddings are compared.

    Returns:
        A distiller whose linear maps are trained.

    Raises:
        TypeError: If ``dim`` is not an integer.
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
    _checks.check_width(dim=dim)
    method = "correlation_congruence"

    def init(rngs, spec):
        if len(spec.student.embedding) < 2:
            raise InvalidInputError(
                "correlation_congruence compares each example with the next, but the "
                "batch has only one; use a larger batch size",
                argument="spec",
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


@method(
    "cck",
    weights={"ce": 1.0, "cck": 0.02},
    compares="Gram matrix of a kernel, as in the paper",
    reads=("embedding",),
    losses=(losses.correlation_congruence_kernel,),
)
def correlation_congruence_kernel(
    *, dim: int = 128, gamma: Real[ArrayLike, ""] = 0.4, order: int = 2
) -> Distiller:
    """Match correlations under a Gaussian kernel, as in the paper (CC).

    The loss is :func:`jaxkd.losses.correlation_congruence_kernel` of two trained linear
    maps of the networks' embeddings.

    Args:
        dim: Width of the space in which the embeddings are compared.
        gamma: Width of the kernel.
        order: Order of the kernel's expansion, from 1 to 64.

    Returns:
        A distiller whose linear maps are trained.

    Raises:
        TypeError: If ``dim`` or ``order`` is not an integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher.

    Example:
        >>> from jaxkd import distillers
        >>> cc = distillers.correlation_congruence_kernel(gamma=0.4, order=2)

    References:
        Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019, Eq. 8-9.
    """
    _checks.check_width(dim=dim)
    _checks.check_count(MOST_TERMS, order=order)
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
    teacher = require_embeddings(spec, method)
    params, _ = init_heads(_make_embedders(spec.student, teacher, dim), rngs)
    return DistillerState(params, extra={})


def _embed(params, student, teacher, dim) -> tuple[Array, Array]:
    """Map both embeddings to the common space; the teacher's own is a constant."""
    heads = bind_heads(_make_embedders(student, teacher, dim), params, {})
    fixed = jax.lax.stop_gradient(teacher.embedding)
    return heads.student(student.embedding), heads.teacher(fixed)


def _shared(pairs: Float[Array, " pairs"]) -> Float[Array, " pairs+1"]:
    """Give each of two neighbors half of their value, and keep the mean."""
    halves = 0.5 * (jnp.pad(pairs, (0, 1)) + jnp.pad(pairs, (1, 0)))
    return halves * (len(pairs) + 1) / len(pairs)

"""A method that also compares the networks on rotated images."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real, Shaped

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    Pretraining,
    PyTree,
    Views,
    require_embeddings,
    require_teacher,
)
from jaxkd.distillers._metadata import method
from jaxkd.distillers._schedules import Schedule, check_beginning, setting_at
from jaxkd.distillers._stages import head_dtype, not_pretrained
from jaxkd.heads import Projection, bind_heads, init_heads
from jaxkd.models import ModelOutput

_TURNS = 3


def rotations(
    images: Shaped[Array, "batch height width channels"],
) -> Shaped[Array, "views height width channels"]:
    """Rotate images by 90, 180 and 270 degrees, counterclockwise.

    Args:
        images: Square images, NHWC.

    Returns:
        Three times as many images: first all images rotated by 90 degrees, then all by
        180, then all by 270.

    Raises:
        ValueError: If the images are not square.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import distillers
        >>> image = jnp.array([[1, 2], [3, 4]])
        >>> print(distillers.rotations(image[None, :, :, None])[0, :, :, 0])
        [[2 4]
         [1 3]]
    """
    if images.shape[1] != images.shape[2]:
        raise InvalidInputError(
            "images must be square to be rotated by 90 degrees, got shape "
            f"{images.shape}; crop or resize them",
            argument="images",
        )
    turned = [jnp.rot90(images, turns, axes=(1, 2)) for turns in range(1, _TURNS + 1)]
    return jnp.concatenate(turned)


@method(
    "sskd",
    weights={"ce": 0.1, "kd": 0.9, "sskd": 1.0},
    compares="predictions and similarities of rotated images, head pretrained",
    reads=("embedding",),
    same_classes=True,
    losses=(losses.self_supervised_similarity,),
    with_kd=False,
    unlabeled="part",
)
def self_supervised(
    *,
    tf_weight: float | int = 2.7,
    ss_weight: float | int = 10.0,
    ratio_tf: float | int = 1.0,
    ratio_ss: float | int = 0.75,
    temperature: Real[ArrayLike, ""] | Schedule = 4.0,
    ss_temperature: float | int = 0.5,
    pretraining_epochs: int = 60,
) -> Distiller:
    r"""Match predictions and similarities on rotated images (SSKD).

    Both networks see every image and its three :func:`rotations`, the views. Each has
    a :class:`jaxkd.heads.Projection` of its embedding. With the projections
    :math:`\tilde z_k` of the :math:`3b` views and :math:`z_i` of the :math:`b`
    originals, :math:`A_{ki} = \cos(\tilde z_k, z_i)`.

    First the teacher's projection learns, without the student, which original
    :math:`o(k)` each view :math:`k` was made from:

    .. math::
        \ell_i = \frac13 \sum_{k: o(k) = i}
            -\log \mathrm{softmax}(A^t_{k \cdot} / \tau)_i.

    Then, with that projection frozen, the student and its own projection learn by

    .. math::
        \ell_i =
            \lambda_{tf} \frac{b}{|S_{tf}|} \sum_{k \in S_{tf}: o(k) = i} \ell^{tf}_k
            + \lambda_{ss} \frac{b}{|S_{ss}|} \sum_{k \in S_{ss}: o(k) = i} \ell^{ss}_k,

    where :math:`\ell^{tf}` is :func:`jaxkd.losses.soft_target_kl` of the predictions on
    the views and :math:`\ell^{ss}` is :func:`jaxkd.losses.self_supervised_similarity`.
    So the mean over the batch is that over the selected views; it is zero if there are
    none.

    Selected are the views that the teacher gets right and, of the :math:`n` wrong ones
    in the batch, the :math:`\lfloor \rho n \rfloor` of smallest error, equal ones in
    the order of the examples. The error of a view in :math:`S_{tf}` is the number of
    classes to which the teacher gives a greater logit than to the label; in
    :math:`S_{ss}`, the number of originals which it finds more similar to the view than
    the view's own.

    Views of an example without a label are never in :math:`S_{tf}`, and are not counted
    among the wrong ones there.

    The cross-entropy and the divergence on the originals are separate parts.

    Args:
        tf_weight: :math:`\lambda_{tf}` of the predictions on the views, at least 0.
        ss_weight: :math:`\lambda_{ss}` of the similarities, at least 0.
        ratio_tf: Share :math:`\rho` of wrong views whose predictions are compared.
        ratio_ss: Share :math:`\rho` of wrong views whose similarities are compared.
        temperature: Of the predictions; ``inf`` is allowed. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.
        ss_temperature: :math:`\tau` of the similarities, finite.
        pretraining_epochs: Number of epochs that train the teacher's projection, at
            least 1.

    Returns:
        A distiller with views and pretraining. Then its parameters are the student's
        projection; its state is the teacher's. Its metrics are the two terms without
        their weights, ``transformed`` and ``similarity``.

    Raises:
        TypeError: If the number of epochs is not an integer.
        ValueError: If a setting is out of range; from ``init``, if there is no teacher
            or it has other classes; while tracing, if the images are not square.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(0.1, distillers.cross_entropy()),
        ...     kd=(0.9, distillers.soft_targets(temperature=4.0)),
        ...     sskd=(1.0, distillers.self_supervised()),
        ... )

    References:
        Xu et al., `Knowledge Distillation Meets Self-Supervision
        <https://arxiv.org/abs/2006.07114>`_, 2020, Sec. 3.
    """
    _checks.check_finite_not_negative(tf_weight=tf_weight, ss_weight=ss_weight)
    _checks.check_in_range(0.0, 1.0, ratio_tf=ratio_tf, ratio_ss=ratio_ss)
    check_beginning(_checks.check_temperature, temperature=temperature)
    _checks.check_finite_temperature(ss_temperature=ss_temperature)
    _checks.check_at_least(1, pretraining_epochs=pretraining_epochs)

    def init(rngs, spec):
        teacher = require_teacher(spec, "self_supervised")
        require_embeddings(spec, "self_supervised")
        params = {
            name: init_heads(_make_projection(output.embedding), rngs)[0]
            for name, output in (("student", spec.student), ("teacher", teacher))
        }
        return DistillerState(params, {})

    def contrast(params, extra, student, teacher, batch):
        del student
        _, views = _outputs(batch.views)
        embeddings = jax.lax.stop_gradient((views.embedding, teacher.embedding))
        similarities = _cosines(*_project(params["teacher"], *embeddings))
        scores = jax.nn.log_softmax(similarities / ss_temperature)
        own = _at(scores, _own_original(scores))
        return -jnp.mean(_by_example(own), axis=-1), extra, {}

    def loss(params, extra, student, teacher, batch):
        if "teacher" in params:
            raise not_pretrained("self_supervised")
        student_views, teacher_views = _outputs(batch.views)
        projected_student = _project(
            params["student"], student_views.embedding, student.embedding
        )
        projected_teacher = jax.lax.stop_gradient(
            _project(extra["teacher"], teacher_views.embedding, teacher.embedding)
        )
        t, scheduled = setting_at("temperature", temperature, batch)
        kl = losses.soft_target_kl(
            student_views.logits, teacher_views.logits, temperature=t
        )
        divergence = losses.self_supervised_similarity(
            *projected_student, *projected_teacher, temperature=ss_temperature
        )
        labels = _checks.as_class_numbers(batch.labels, "batch.labels")
        labels = jnp.tile(labels, _TURNS)
        similarities = _cosines(*projected_teacher)
        found = _own_original(similarities)
        transformed = _mean_selected(
            kl, teacher_views.logits, labels, ratio_tf, batch.labeled
        )
        similarity = _mean_selected(divergence, similarities, found, ratio_ss)
        metrics = {
            "transformed": jnp.mean(transformed),
            "similarity": jnp.mean(similarity),
            **scheduled,
        }
        return tf_weight * transformed + ss_weight * similarity, extra, metrics

    pretraining = Pretraining(
        pretraining_epochs, contrast, trains_student=False, finish=_keep_teacher
    )
    return Distiller(init, loss, pretraining, rotations)


def _keep_teacher(params: PyTree, extra: PyTree) -> DistillerState:
    """Move the teacher's projection, which was trained, to what does not learn."""
    return DistillerState(
        params={"student": params["student"]},
        extra={**extra, "teacher": params["teacher"]},
    )


def _make_projection(embedding):
    features, dtype = embedding.shape[-1], head_dtype(embedding)
    return lambda rngs: Projection(features, dtype=dtype, rngs=rngs)


def _project(params, *embeddings: Float[Array, "_ features"]) -> tuple[Array, ...]:
    projection = bind_heads(_make_projection(embeddings[0]), params, {})
    return tuple(projection(x) for x in embeddings)


def _outputs(views: Views | None) -> tuple[ModelOutput, ModelOutput]:
    """Return both networks' outputs for the rotated images."""
    if views is None or views.teacher is None:
        raise InvalidInputError(
            "self_supervised needs both networks' outputs for the rotated images in "
            "batch.views, but there are none; compute them from "
            "distiller.views(images), as training.make_train_step does",
            argument="batch",
        )
    return views.student, views.teacher


def _cosines(
    views: Float[Array, "views features"], originals: Float[Array, "batch features"]
) -> Float[Array, "views batch"]:
    rows, columns = l2_normalize(views), l2_normalize(originals)
    return jnp.matmul(rows, columns.T, precision="highest")


def _own_original(similarities: Float[Array, "views batch"]) -> Int[Array, " views"]:
    """Return the index of the original that each view was made from."""
    return jnp.tile(jnp.arange(similarities.shape[1]), _TURNS)


def _at(
    scores: Float[Array, "views choices"], choices: Int[Array, " views"]
) -> Float[Array, " views"]:
    return jnp.take_along_axis(scores, choices[:, None], axis=-1)[:, 0]


def _by_example(values: Shaped[Array, " views"]) -> Shaped[Array, "batch 3"]:
    return values.reshape(_TURNS, -1).T


def _mean_selected(
    values: Float[Array, " views"],
    scores: Float[Array, "views choices"],
    targets: Int[Array, " views"],
    ratio: float | int,
    known: Bool[Array, " batch"] | None = None,
) -> Float[Array, " batch"]:
    """Return one value per example, with the mean of the selected views' values.

    Views of examples whose target is not known are not selected, and do not count.
    """
    error = jnp.sum(scores > _at(scores, targets)[:, None], axis=-1)
    if known is None:
        selected = _select(_by_example(error).reshape(-1), ratio)
    else:
        own = jnp.repeat(known, _TURNS)
        selected = _select(_by_example(error).reshape(-1), ratio, own)
    selected = selected.reshape(-1, _TURNS)
    chosen = jnp.where(selected, _by_example(values), 0.0)
    count = jnp.maximum(jnp.sum(selected), 1).astype(values.dtype)
    return jnp.sum(chosen, axis=-1) * (len(chosen) / count)


def _select(
    error: Int[Array, " views"],
    ratio: float | int,
    known: Bool[Array, " views"] | None = None,
) -> Bool[Array, " views"]:
    """Select all correct views, and a share of the wrong ones with smallest error."""
    # Tabulated, so that the share is rounded down in double precision.
    shares = np.floor(ratio * np.arange(len(error) + 1)).astype(np.int32)
    count = len(error)
    if known is not None:  # the others have the last places and are not kept
        count = jnp.sum(known)
        wrong = jnp.sum((error > 0) & known)
        error = jnp.where(known, error, jnp.iinfo(error.dtype).max)
    else:
        wrong = jnp.sum(error > 0)
    place = jnp.argsort(jnp.argsort(error))  # both are stable
    kept = count - wrong + jnp.asarray(shares, wrong.dtype)[wrong]
    return place < kept.astype(place.dtype)

"""Distillers without parameters or state, from losses that are functions of arrays."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkd._errors import unknown_name
from jaxkd.distillers._base import (
    Batch,
    Distiller,
    DistillerState,
    Metrics,
    Spec,
    require_embeddings,
    require_stages,
    require_teacher,
)
from jaxkd.distillers._schedules import setting_at
from jaxkd.distillers._stages import require_maps, summed
from jaxkd.distillers._unlabeled import of_labeled
from jaxkd.models import ModelOutput

# The name of the arguments of a loss that is evaluated once.
_WHOLE = ""

_OutputMetrics = Callable[[ModelOutput, ModelOutput], Metrics]


class _Reader(NamedTuple):
    """The outputs that a loss reads.

    Attributes:
        require: ``(spec, method)``; raises unless the networks have these outputs.
        arguments: The loss's arguments, of student, teacher and batch: once, or once a
            stage, with the name of the stage.
        reports_agreement: Whether to report how often the predictions agree.
        reads_labels: Whether the loss is zero for images without a label.
    """

    require: Callable[[Spec, str], Any]
    arguments: Callable[..., Iterator[tuple[str, tuple[Array, ...]]]]
    reports_agreement: bool = False
    reads_labels: bool = False


def _once(read: Callable[..., tuple[Array, ...]]) -> Callable[..., Iterator[Any]]:
    """Return the arguments of a loss that is evaluated once."""

    def arguments(student: ModelOutput, teacher: ModelOutput, batch: Batch):
        yield _WHOLE, read(student, teacher, batch)

    return arguments


def _each_stage(student: ModelOutput, teacher: ModelOutput, batch: Batch):
    """Pair the feature maps of the networks, without those of the stems."""
    del batch
    pairs = zip(student.stages[1:], teacher.stages[1:], strict=True)
    for i, (s, t) in enumerate(pairs, start=1):
        yield f"stage{i}", (s, jax.lax.stop_gradient(t))


_READERS = {
    "logits": _Reader(
        require_teacher,
        _once(lambda s, t, batch: (s.logits, t.logits)),
        reports_agreement=True,
    ),
    "top_logits": _Reader(
        require_teacher,
        _once(lambda s, t, batch: (s.logits, t.logits, t.top_logits)),
        reports_agreement=True,
    ),
    "labeled_logits": _Reader(
        require_teacher,
        _once(lambda s, t, batch: (s.logits, t.logits, batch.labels)),
        reports_agreement=True,
        reads_labels=True,
    ),
    "embedding": _Reader(
        require_embeddings, _once(lambda s, t, batch: (s.embedding, t.embedding))
    ),
    "last_stage": _Reader(
        functools.partial(require_stages, equal=False),
        _once(lambda s, t, batch: (s.stages[-1], t.stages[-1])),
    ),
    "stages": _Reader(require_maps, _each_stage),
}


def from_loss(
    loss: Callable[..., Float[Array, " batch"]],
    *,
    reads: str,
    name: str | None = None,
    metrics: _OutputMetrics | None = None,
    **settings: Any,
) -> Distiller:
    """Build a distiller without parameters or state from a loss of arrays.

    Args:
        loss: A function of the student's array, then the teacher's, with one value per
            example, such as those of :mod:`jaxkd.losses`.
        reads: The outputs that the loss compares:

            - ``"logits"``;
            - ``"top_logits"``: the logits, with the teacher's
              :class:`jaxkd.losses.TopLogits` as a third argument, or None if all of its
              logits are known;
            - ``"labeled_logits"``: the logits, with the labels as a third argument; the
              loss is zero for images without a label;
            - ``"embedding"``;
            - ``"last_stage"``: the last feature maps, before pooling;
            - ``"stages"``: the feature maps of each stage but the stem; the losses of
              the stages are summed.
        name: The name of the method in errors, by default that of the loss.
        metrics: ``(student_output, teacher_output) -> {name: scalar}``; more metrics.
        **settings: Keyword arguments of the loss. A ``temperature`` may be a schedule,
            as the weights of :func:`weighted`.

    Returns:
        A distiller. If the loss reads logits, the metric ``agreement`` is the share of
        examples for which student and teacher predict the same class; if it reads the
        stages, the metrics are the mean loss of each stage, ``stage1`` and so on. If
        the temperature is a schedule, its value is the metric ``temperature``.

    Raises:
        ValueError: If ``reads`` is unknown; from ``init``, if there is no teacher or
            the networks do not have these outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import distillers
        >>> def cosine_distance(student, teacher):
        ...     cosine = jnp.sum(student * teacher, axis=-1)
        ...     lengths = [jnp.linalg.norm(x, axis=-1) for x in (student, teacher)]
        ...     return 1.0 - cosine / (lengths[0] * lengths[1])
        >>> method = distillers.from_loss(cosine_distance, reads="embedding")
    """
    if reads not in _READERS:
        raise unknown_name("reads", reads, _READERS)
    reader = _READERS[reads]
    method = name or getattr(loss, "__name__", "this method")
    temperature = settings.get("temperature")
    evaluate = functools.partial(loss, **settings)

    def init(rngs, spec):
        del rngs
        reader.require(spec, method)
        return DistillerState(params={}, extra={})

    def distiller_loss(params, extra, student, teacher, batch):
        del params
        arguments = reader.arguments(student, teacher, batch)
        _, scheduled = setting_at("temperature", temperature, batch)
        values = {stage: evaluate(*arrays, **scheduled) for stage, arrays in arguments}
        if _WHOLE in values:
            value, measured = values[_WHOLE], {}
            if reader.reads_labels:
                value = of_labeled(value, batch)
        else:
            value, measured = summed(values)
        if reader.reports_agreement:
            measured["agreement"] = _agreement(student, teacher, value)
        if metrics is not None:
            measured |= metrics(student, teacher)
        return value, extra, measured | scheduled

    return Distiller(init, distiller_loss)


def _agreement(
    student: ModelOutput, teacher: ModelOutput, value: Float[Array, " batch"]
) -> Float[Array, ""]:
    """Return the share of examples on which both networks predict the same class."""
    same = student.logits.argmax(-1) == teacher.logits.argmax(-1)
    return jnp.mean(same, dtype=value.dtype)

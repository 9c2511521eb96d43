"""Losses of arrays, between any layers of two networks."""

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxkd import heads
from jaxkd._errors import InvalidInputError, InvalidTypeError, unknown_name
from jaxkd._math import pool_to_match
from jaxkd.distillers._base import Distiller, DistillerState, LayerPaths, require_output
from jaxkd.distillers._named_layers import as_map, values_at
from jaxkd.distillers._stages import head_dtype

PairLoss = Callable[[Any, Any], Float[Array, " batch"]]
Project = Literal["linear", "conv"] | None


class _Pair(NamedTuple):
    """Two layers, and the loss between their outputs."""

    name: str
    student: Array
    teacher: Array
    loss: PairLoss


def at_layers(
    pairs: Mapping[tuple[str, str], PairLoss], *, project: Project = None
) -> Distiller:
    """Compare any layers of the student and the teacher, by losses of their outputs.

    The loss is the sum over all pairs of layers. Layers are named by their paths, which
    :func:`jaxkd.models.layers` lists; the networks need not know of them.

    Args:
        pairs: The loss of each pair of layers, ``(student's path, teacher's path)``. A
            loss takes the student's array, then the teacher's, and returns one value
            for each example: one of :mod:`jaxkd.losses` or your own. If both paths
            contain ``*``, the layers that they name are compared in order.
        project: Maps the student's output to the teacher's shape before the loss:

            - ``"linear"``: a linear layer from the student's channels to the teacher's,
              at each position. Of two maps of different sizes, the larger one is
              average-pooled to the smaller before;
            - ``"conv"``: a :class:`jaxkd.heads.Regressor` without ReLU, whose
              convolution also changes height and width. A sequence ``[batch, tokens,
              channels]`` is a map of one column;
            - None: nothing. The loss must accept the shapes.

    Returns:
        A distiller. Its parameters are those of the projections, its state their batch
        statistics; its metrics are the mean loss of each pair, by the student's path.

    Raises:
        TypeError: If a pair or its loss is of the wrong type.
        ValueError: If there is no pair or ``project`` is unknown; from ``init``, if
            there is no teacher, paths name different numbers of layers, a projection
            does not fit the shapes, or a loss does not return one value per example.

    Example:
        >>> from jaxkd import distillers, losses
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     kd=(1.0, distillers.soft_targets(temperature=4.0)),
        ...     hint=(100.0, distillers.at_layers(
        ...         {("blocks.1", "layers.11.mlp"): losses.hint}, project="linear"
        ...     )),
        ... )
        >>> objective.layers
        LayerPaths(student=('blocks.1',), teacher=('layers.11.mlp',))
    """
    _check_pairs(pairs)
    if project is not None and project not in _PROJECTIONS:
        raise unknown_name("project", project, [*_PROJECTIONS, "None"])
    projection = None if project is None else _PROJECTIONS[project]

    def each_pair(student, teacher) -> Iterator[_Pair]:
        for (s_path, t_path), loss in pairs.items():
            found = (
                values_at(student, s_path, "student"),
                values_at(teacher, t_path, "teacher"),
            )
            if len(found[0]) != len(found[1]):
                raise InvalidInputError(
                    f"{s_path!r} names {len(found[0])} layers of the student, and "
                    f"{t_path!r} {len(found[1])} of the teacher; name as many",
                    argument="pairs",
                )
            for i, (s, t) in enumerate(zip(*found, strict=True)):
                name = _metric(s_path, t_path, pairs) + f".{i}" * (len(found[0]) > 1)
                t = jax.lax.stop_gradient(t)
                if projection is not None:
                    s, t = projection.prepare(s, t, s_path, t_path)
                yield _Pair(name, s, t, loss)

    def init(rngs, spec):
        teacher = require_output(spec, "at_layers")
        shapes = jax.eval_shape(
            lambda s, t: {p.name: p[1:3] for p in each_pair(s, t)},
            spec.student,
            teacher,
        )
        params, extra = {}, {}
        if projection is not None:
            for name, (s, t) in shapes.items():
                params[name], extra[name] = heads.init_heads(
                    projection.make(s, t), rngs
                )
        jax.eval_shape(
            lambda s, t: loss(params, extra, s, t, None)[0], spec.student, teacher
        )
        return DistillerState(params, extra)

    def loss(params, extra, student, teacher, batch):
        del batch
        values, statistics = {}, {}
        for name, s, t, pair_loss in each_pair(student, teacher):
            if projection is not None:
                head = heads.bind_heads(
                    projection.make(s, t), params[name], extra[name]
                )
                s = head(s)
                statistics[name] = heads.rest_of(head)
            values[name] = _evaluated(name, pair_loss, s, t)
        metrics = {name: jnp.mean(value) for name, value in values.items()}
        return functools.reduce(operator.add, values.values()), statistics, metrics

    both = zip(*pairs, strict=True)
    paths = LayerPaths(*(tuple(dict.fromkeys(each)) for each in both))
    return Distiller(init, loss, layers=paths)


def _evaluated(name: str, loss: PairLoss, s: Array, t: Array) -> Array:
    """Evaluate the loss of a pair.

    Raises:
        InvalidInputError: If it does not accept the shapes, or does not return one
            value for each example.
    """
    try:
        value = loss(s, t)
    except (TypeError, ValueError) as error:
        if s.shape == t.shape:
            raise
        raise InvalidInputError(
            f"the loss of {name!r} does not accept the student's {list(s.shape)} and "
            f"the teacher's {list(t.shape)} ({error}). at_layers(..., "
            'project="linear") maps the first to the second.',
            argument="pairs",
        ) from error
    if jnp.shape(value) != s.shape[:1]:
        raise InvalidInputError(
            f"the loss of {name!r} must return one value for each example, "
            f"[{s.shape[0]}], got the shape {list(jnp.shape(value))}",
            argument="pairs",
        )
    return value


class _Projection(NamedTuple):
    """A way to map the student's output to the teacher's shape.

    Attributes:
        prepare: ``(student, teacher, *paths) -> (student, teacher)``, before the head.
        make: ``(student, teacher) -> (rngs -> head)``.
    """

    prepare: Callable[..., tuple[Array, Array]]
    make: Callable[[Any, Any], Callable[[nnx.Rngs], Any]]


def _pooled(s: Array, t: Array, s_path: str, t_path: str) -> tuple[Array, Array]:
    if s.ndim == t.ndim == 4:
        s, t = pool_to_match(s, t)
    if s.shape[:-1] != t.shape[:-1]:
        raise InvalidInputError(
            f"a linear projection changes channels only, but {s_path!r} returns "
            f"{list(s.shape)} and {t_path!r} {list(t.shape)}",
            argument="project",
        )
    return s, t


def _make_linear(s: Any, t: Any) -> Callable[[nnx.Rngs], nnx.Linear]:
    kind, widths = head_dtype(s), (s.shape[-1], t.shape[-1])
    return lambda rngs: nnx.Linear(*widths, dtype=kind, param_dtype=kind, rngs=rngs)


def _maps(s: Array, t: Array, s_path: str, t_path: str) -> tuple[Array, Array]:
    return as_map(s, s_path), as_map(t, t_path)


def _make_regressor(s: Any, t: Any) -> Callable[[nnx.Rngs], heads.Regressor]:
    shapes, kind = (s.shape[1:], t.shape[1:]), head_dtype(s)
    return lambda rngs: heads.Regressor(*shapes, activate=False, dtype=kind, rngs=rngs)


_PROJECTIONS = {
    "linear": _Projection(_pooled, _make_linear),
    "conv": _Projection(_maps, _make_regressor),
}


def _metric(s_path: str, t_path: str, pairs: Mapping[tuple[str, str], Any]) -> str:
    """Return the name of a pair's metric: the student's path, if no other has it."""
    if sum(path == s_path for path, _ in pairs) == 1:
        return s_path
    return f"{s_path}-{t_path}"


def _check_pairs(pairs: Any) -> None:
    """Raise unless the pairs are two paths and a loss each."""
    if not isinstance(pairs, Mapping) or not pairs:
        raise InvalidTypeError(
            "pairs must be a dictionary from (student's path, teacher's path) to a "
            f"loss, got {pairs!r}",
            argument="pairs",
        )
    for key, loss in pairs.items():
        both = isinstance(key, tuple) and len(key) == 2
        if not both or not all(isinstance(path, str) for path in key):
            raise InvalidTypeError(
                f"each key of pairs must be (student's path, teacher's path), got "
                f"{key!r}",
                argument="pairs",
            )
        if not callable(loss):
            raise InvalidTypeError(
                f"the loss of {key} must be a function of two arrays, such as "
                f"losses.hint, got {loss!r}",
                argument="pairs",
            )

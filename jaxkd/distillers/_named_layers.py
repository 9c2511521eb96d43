"""Layers that a method reads by their paths, instead of stages and embeddings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.distillers._base import Distiller, LayerPaths, Spec, Views
from jaxkd.models import ModelOutput

_ROLES = ("student", "teacher")


class Layers(NamedTuple):
    """The layers of two networks that methods compare, by their paths.

    :func:`jaxkd.models.layers` lists the paths of a network. A negative position counts
    from the end (``"blocks.-1"``), and ``*`` stands for all of a list (``"blocks.*"``).

    Attributes:
        student: Layers of the student, for methods that compare feature maps: they take
            the place of its stages, without the stem, and of the maps before their
            activation.
        teacher: As many layers of the teacher.
        student_embedding: The student's embedding, for methods that compare embeddings.
            Of a map or a sequence, it is the mean over all positions.
        teacher_embedding: The teacher's embedding.
    """

    student: Sequence[str] = ()
    teacher: Sequence[str] = ()
    student_embedding: str | None = None
    teacher_embedding: str | None = None

    def paths(self) -> LayerPaths:
        """Return the paths that each network is asked for.

        Raises:
            TypeError: If a path is not a string, or a single string is given for
                several paths.
        """
        found = []
        for role in _ROLES:
            maps, embedding = self.of(role)
            if isinstance(maps, str):
                raise InvalidTypeError(
                    f"{role} must be a sequence of paths, such as ({maps!r},), got "
                    f"{maps!r}",
                    argument=f"{role}_layers",
                )
            paths = tuple(dict.fromkeys([*maps, *([embedding] if embedding else [])]))
            for path in paths:
                if not isinstance(path, str):
                    raise InvalidTypeError(
                        f"paths of {role} must be strings, got {path!r}",
                        argument=f"{role}_layers",
                    )
            found.append(paths)
        return LayerPaths(*found)

    def of(self, role: str) -> tuple[Any, Any]:
        """Return the paths of one network's maps, and that of its embedding."""
        if role == "student":
            return self.student, self.student_embedding
        return self.teacher, self.teacher_embedding


def with_layers(
    distiller: Distiller, layers: Layers, *, stem: bool = True
) -> Distiller:
    """Let a method read layers by their paths, instead of stages and embeddings.

    Any method and any network can be combined: a network that returns logits alone
    has layers, too. Sequences ``[batch, tokens, channels]`` are maps of one column.

    Args:
        distiller: The method.
        layers: The layers.
        stem: Whether the method leaves the stem's map out. The first layer is then put
            in its place as well, so that all layers are compared. Only
            :func:`flow_of_solution` reads the stem.

    Returns:
        A distiller with the same parameters, state and metrics.

    Raises:
        TypeError: If paths are not strings.
        ValueError: If the method changes the student's network, so that the layers
            would be those of another network; from ``init``, if a path names several
            layers for an embedding.

    Example:
        >>> from jaxkd import distillers
        >>> layers = distillers.Layers(
        ...     student=("blocks.0", "blocks.-1"), teacher=("blocks.3", "blocks.-1")
        ... )
        >>> distillers.with_layers(distillers.attention_transfer(), layers).layers
        LayerPaths(student=('blocks.0', 'blocks.-1'), teacher=('blocks.3', 'blocks.-1'))
    """
    paths = layers.paths()
    if distiller.student is not None:
        raise InvalidInputError(
            "layers cannot be named for a method that changes the student's network",
            argument="layers",
        )

    def seen(output: ModelOutput, role: str) -> ModelOutput:
        return _in_place_of_stages(output, role, *layers.of(role), stem=stem)

    def seen_spec(spec: Spec) -> Spec:
        student = jax.eval_shape(lambda x: seen(x, "student"), spec.student)
        teacher = spec.teacher
        if teacher is not None:
            teacher = jax.eval_shape(lambda x: seen(x, "teacher"), teacher)
        return spec._replace(student=student, teacher=teacher)

    def reading(loss):
        def with_seen(params, extra, student, teacher, batch):
            student = seen(student, "student")
            teacher = None if teacher is None else seen(teacher, "teacher")
            if (views := batch.views) is not None:
                other = views.teacher
                other = None if other is None else seen(other, "teacher")
                views = Views(seen(views.student, "student"), other)
                batch = batch._replace(views=views)
            return loss(params, extra, student, teacher, batch)

        return with_seen

    stage = distiller.pretraining
    return distiller._replace(
        init=lambda rngs, spec: distiller.init(rngs, seen_spec(spec)),
        loss=reading(distiller.loss),
        pretraining=stage and stage._replace(loss=reading(stage.loss)),
        layers=paths.joined(distiller.layers),
    )


def values_at(output: ModelOutput, path: str, role: str) -> tuple[Array, ...]:
    """Return the outputs of the layers that a path names.

    Raises:
        InvalidInputError: If the output of the network does not have them.
    """
    if path not in output.layers:
        known = ", ".join(map(repr, output.layers)) or "none"
        raise InvalidInputError(
            f"the {role}'s output has no layer {path!r} (it has {known}). "
            f"compile_program and make_step record the paths in distiller.layers; in a "
            f"step of your own, use {_REMEDIES[role]}. A recording has the layers that "
            "were recorded.",
            argument=f"{role}_layers",
        )
    return tuple(output.layers[path])


_REMEDIES = {
    "student": "models.output_of(student, images, distiller.layers.student)",
    "teacher": "teacher.with_layers(distiller.layers.teacher)",
}


def as_map(x: Any, path: str) -> Any:
    """Return a layer's output as a map ``[batch, height, width, channels]``.

    Raises:
        InvalidInputError: If it is neither a map nor a sequence.
    """
    if x.ndim == 3:
        return x[:, :, None, :]
    if x.ndim != 4:
        raise InvalidInputError(
            f"layer {path!r} returns an array of shape {list(x.shape)}, but a method "
            "of feature maps needs [batch, height, width, channels], or a sequence "
            "[batch, tokens, channels]",
            argument="layers",
        )
    return x


def _in_place_of_stages(
    output: ModelOutput,
    role: str,
    maps: Sequence[str],
    embedding: str | None,
    *,
    stem: bool,
) -> ModelOutput:
    """Return an output with layers in place of its stages and its embedding."""
    if maps:
        found = tuple(
            as_map(x, path) for path in maps for x in values_at(output, path, role)
        )
        stages = found[:1] * stem + found
        output = output._replace(stages=stages, preactivations=stages)
    if embedding is not None:
        values = values_at(output, embedding, role)
        if len(values) != 1 or values[0].ndim < 2:
            shapes = ", ".join(str(list(x.shape)) for x in values)
            raise InvalidInputError(
                f"the {role}'s embedding must be one array [batch, features], or a map "
                f"or sequence, but {embedding!r} names {shapes}",
                argument=f"{role}_embedding",
            )
        x = values[0]
        x = jnp.mean(x, axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
        output = output._replace(embedding=x)
    return output

"""The specification of live networks, for training loops of your own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import ArrayLike

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.distillers._base import Classifier, Distiller, LayerPaths, Spec
from jaxkd.models import ModelOutput, output_of
from jaxkd.models._mode import mode_arguments

Network = nnx.Module | Callable[[Any], Any]


def spec(
    student: nnx.Module,
    teacher: Network | None,
    images: Any,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    distiller: Distiller | None = None,
) -> Spec:
    """Describe two networks and the labels, as :attr:`Distiller.init` needs it.

    Nothing is computed, and no variable of the networks is changed.

    Args:
        student: A Flax NNX module that returns logits or a
            :class:`jaxkd.models.ModelOutput`.
        teacher: A module or function that does, or None for training without one.
        images: A batch as the networks receive it, or its ``jax.ShapeDtypeStruct``.
            Integers stand for floats, which networks receive in their place.
        labels: Labels of the whole training set, by row number. Methods without a bank
            read none of them; for those, the labels of one batch suffice.
        num_classes: Number of classes; by default the number of the student's logits.
        distiller: The method, if it reads layers (:attr:`Distiller.layers`).

    Returns:
        The specification.

    Raises:
        InvalidTypeError: If the student is not a module.
        InvalidInputError: If a network's output is not valid, there are fewer logits
            than classes, or a label is not a class number.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import distillers, models
        >>> student, teacher = (
        ...     models.MLP(64, (width,), num_classes=10, rngs=nnx.Rngs(0))
        ...     for width in (8, 32)
        ... )
        >>> images, labels = jnp.ones((2, 8, 8, 1)), jnp.array([3, 7])
        >>> spec = distillers.spec(student, teacher, images, labels)
        >>> spec.teacher
        ModelOutput(logits=float32[2,10], embedding=float32[2,32])
        >>> spec.student.embedding.shape, spec.num_classes
        ((2, 8), 10)
    """
    if not isinstance(student, nnx.Module):
        raise InvalidTypeError(
            f"student must be a Flax NNX module, got {type(student).__name__}; wrap a "
            "Linen module with models.from_linen",
            argument="student",
        )
    paths = LayerPaths() if distiller is None else distiller.layers
    integers = jnp.issubdtype(images.dtype, jnp.integer)
    dtype = jnp.float32 if integers else images.dtype
    images = jax.ShapeDtypeStruct(images.shape, dtype)
    output = _abstract(student, images, paths.student, train=True)
    classes = output.logits.shape[-1] if num_classes is None else num_classes
    _checks.check_at_least(1, num_classes=classes)
    if output.logits.shape[-1] < classes:
        raise InvalidInputError(
            f"the student has {output.logits.shape[-1]} logits, but num_classes is "
            f"{classes}",
            argument="num_classes",
        )
    labels = np.asarray(_checks.as_class_numbers(labels))
    if labels.size and not -1 <= labels.min() <= labels.max() < classes:
        raise InvalidInputError(
            f"labels must be class numbers below {classes}, or -1 for none, got "
            f"{labels.min()} to {labels.max()}",
            argument="labels",
        )
    found = None
    if teacher is not None:
        found = _abstract(teacher, images, paths.teacher, train=False)
    return Spec(output, found, classes, labels, classifier_of(teacher))


def classifier_of(network: Any) -> Classifier | None:
    """Return a network's linear layer ``classifier``, or None if it has none."""
    if isinstance(known := getattr(network, "classifier", None), Classifier):
        return known  # of a frozen network
    if not isinstance(known, nnx.Linear):
        return None
    kernel = known.kernel.get_value()  # perhaps abstract
    if known.bias is None:
        return Classifier(kernel, jnp.zeros(kernel.shape[-1:], kernel.dtype))
    return Classifier(kernel, known.bias.get_value())


def call(
    network: Network, images: Any, layers: tuple[str, ...], *, train: bool
) -> ModelOutput:
    """Call a network of the user for its output; a frozen one returns its layers."""
    if hasattr(network, "with_layers"):
        return network.with_layers(layers)(images)  # pyright: ignore
    arguments: dict[str, Any] = mode_arguments(network, train=train)
    return output_of(network, images, layers, **arguments)


def _abstract(network: Network, images: Any, layers: tuple[str, ...], *, train: bool):
    if not isinstance(network, nnx.Module):
        return jax.eval_shape(lambda x: call(network, x, layers, train=train), images)
    # A copy, whose statistics and random streams may change.
    graphdef, state = nnx.split(network)

    def run(state, images):
        copy = nnx.merge(graphdef, state, copy=True)
        return call(copy, images, layers, train=train)

    return jax.eval_shape(run, state, images)

"""Which network of the zoo a state dict belongs to."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxkd import models
from jaxkd._errors import InvalidInputError
from jaxkd.interchange._layout import tensors, torch_layers
from jaxkd.interchange._state_dict import compare

Shapes = dict[str, tuple[int, ...]]


class Recognised(NamedTuple):
    """An architecture, as :func:`jaxkd.models.build` takes it.

    Attributes:
        name: One of :func:`jaxkd.models.names`.
        num_classes: Number of logits.
        in_channels: Channels of the images.
    """

    name: str
    num_classes: int
    in_channels: int


class _Template(NamedTuple):
    """A network's tensors, and the layers that classes and channels are read off."""

    shapes: Shapes
    classifier: str
    stem: str


def recognise(
    state: Mapping[str, np.ndarray],
    *,
    among: Sequence[str] | None = None,
    width: int | None = None,
    image_size: int = 32,
) -> Recognised:
    """Finds the architecture of a state dict by names and shapes alone.

    Nothing is allocated: networks are built abstractly. The number of classes is read
    off the layer that is the network's ``classifier``, the number of channels off its
    first convolution.

    Args:
        state: What :func:`jaxkd.interchange.read_state_dict` returned.
        among: Names of the architectures to consider; by default all.
        width: Base number of channels, if it is not the published one.
        image_size: Height and width of the images.

    Returns:
        The architecture that has exactly these tensors.

    Raises:
        InvalidInputError: If none has, with the nearest one and what keeps it from
            fitting, or if several have, with their names.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import interchange, models
        >>> network = models.build(
        ...     "resnet8", num_classes=10, image_shape=(32, 32, 1), rngs=nnx.Rngs(0)
        ... )
        >>> interchange.recognise(interchange.to_state_dict(network))
        Recognised(name='resnet8', num_classes=10, in_channels=1)
    """
    fitting: list[Recognised] = []
    nearest: tuple[float, str, str] | None = None
    for name in models.names() if among is None else among:
        try:
            template = _template(name, width, image_size)
        except InvalidInputError:
            if among is not None:
                raise
            continue  # made for larger images
        if template is None:
            continue
        found, shapes = _adapted(name, template, state)
        differences = compare(shapes, state)
        if not differences:
            fitting.append(found)
            continue
        likeness = _likeness(shapes, state)
        if nearest is None or likeness > nearest[0]:
            nearest = likeness, name, differences
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(found.name for found in fitting)
        raise InvalidInputError(
            f"the state dict fits several networks: {names}; choose one by name "
            "(--model on the command line)"
        )
    if nearest is None:
        which = "no network" if among is None else f"none of {', '.join(among)}"
        raise InvalidInputError(
            f"{which} has published names and takes images of "
            f"{image_size}x{image_size} pixels"
        )
    _, name, differences = nearest
    if among is not None and len(among) == 1:
        raise InvalidInputError(f"the state dict does not fit {name}: {differences}")
    raise InvalidInputError(
        "no network has exactly the tensors of this state dict; the nearest is "
        f"{name}, with {differences}"
    )


@functools.cache
def _template(name: str, width: int | None, image_size: int) -> _Template | None:
    """The network's tensors with 10 classes and 3 channels; None without names."""
    result = []

    def build() -> int:
        rngs: Any = nnx.Rngs(0)
        rngs.default = _OneKey(0, tag="default")
        network = models.build(
            name,
            num_classes=10,
            image_shape=(image_size, image_size, 3),
            width=width,
            rngs=rngs,
        )
        if hasattr(network, "torch_layers"):
            layers = torch_layers(network)
            last = getattr(network, "classifier", None)
            result.append(
                _Template(
                    {tensor.name: tensor.shape for tensor in tensors(network)},
                    next((n for n, x in layers[::-1] if x is last), layers[-1][0]),
                    next((n for n, x in layers if isinstance(x, nnx.Conv)), ""),
                )
            )
        return 0

    jax.eval_shape(build)
    return result[0] if result else None


class _OneKey(nnx.RngStream):
    """The same key for every parameter, whose values nobody reads.

    Counting keys while tracing takes Flax time in the square of their number.
    """

    def __call__(self) -> jax.Array:
        return self.key[...]


def _adapted(
    name: str, template: _Template, state: Mapping[str, np.ndarray]
) -> tuple[Recognised, Shapes]:
    """The template's shapes with the state dict's own numbers of classes, channels."""
    shapes = dict(template.shapes)
    weight, bias = f"{template.classifier}.weight", f"{template.classifier}.bias"
    stem = f"{template.stem}.weight"

    def size(tensor: str, axis: int, otherwise: int) -> int:
        found = state[tensor].shape if tensor in state else ()
        usual = len(found) == len(shapes.get(tensor, ())) > axis
        return max(1, found[axis]) if usual else otherwise

    num_classes = size(weight, 0, otherwise=size(bias, 0, otherwise=10))
    in_channels = size(stem, 1, otherwise=3)
    shapes[weight] = (num_classes, *shapes[weight][1:])
    if bias in shapes:
        shapes[bias] = (num_classes,)
    if stem in shapes:
        shapes[stem] = (shapes[stem][0], in_channels, *shapes[stem][2:])
    return Recognised(name, num_classes, in_channels), shapes


def _likeness(shapes: Shapes, state: Mapping[str, np.ndarray]) -> float:
    """Share of tensors of the same name and shape among all of both."""
    ours = set(shapes.items())
    theirs = {(name, array.shape) for name, array in state.items()}
    return len(ours & theirs) / len(ours | theirs)

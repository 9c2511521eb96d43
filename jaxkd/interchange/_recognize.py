"""Recognize the architecture of a state dict."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxkd import models
from jaxkd._errors import InvalidInputError
from jaxkd.interchange._dialects import aligned
from jaxkd.interchange._layout import tensors, torch_layers
from jaxkd.interchange._select import describe_prefixes
from jaxkd.interchange._state_dict import compare

Shapes = dict[str, tuple[int, ...]]

_CHANNELS = (3, 1)  # of images, for networks whose stem does not determine them
# First parts of names when a state dict holds several networks.
_HOLDERS = {
    *("model", "net", "network", "backbone", "encoder", "module", "student", "teacher"),
    *("ema", "ema_model", "model_ema", "online_model", "criterion", "loss", "loss_fn"),
    *("encoder_q", "encoder_k", "base_encoder", "momentum_encoder", "online_encoder"),
    *("online_network", "online_net", "target_encoder", "target_network", "head"),
}


class Recognized(NamedTuple):
    """Arguments of :func:`jaxkd.models.build` for an architecture.

    Attributes:
        name: One of :func:`jaxkd.models.names`.
        num_classes: Number of logits.
        in_channels: Channels of the images.
    """

    name: str
    num_classes: int
    in_channels: int


class _Template(NamedTuple):
    """Shapes of a network's tensors, and names of its first and last layers.

    The classifier determines the number of classes, the stem that of the channels.
    Networks without published names in PyTorch have their names in Flax.
    """

    shapes: Shapes
    classifier: str
    stem: str
    published: bool


def recognize(
    state: Mapping[str, np.ndarray],
    *,
    among: Sequence[str] | None = None,
    width: int | None = None,
    image_size: int = 32,
) -> Recognized:
    """Find the architecture of a state dict by the names and shapes of its tensors.

    Networks are built abstractly, so no arrays are allocated. The layer ``classifier``
    of the network determines the number of classes, and its first convolution the
    number of channels.

    Args:
        state: Result of :func:`jaxkd.interchange.read_state_dict`.
        among: Names of the architectures to consider; all by default.
        width: Base number of channels, if it is not the published one.
        image_size: Height and width of the images.

    Returns:
        The architecture that has exactly these tensors.

    Raises:
        InvalidInputError: If no architecture fits (the message names the nearest one
            and the differences), or several do (the message names them).

    Example:
        >>> from flax import nnx
        >>> from jaxkd import interchange, models
        >>> network = models.build(
        ...     "resnet8", num_classes=10, image_shape=(32, 32, 1), rngs=nnx.Rngs(0)
        ... )
        >>> interchange.recognize(interchange.to_state_dict(network))
        Recognized(name='resnet8', num_classes=10, in_channels=1)
    """
    fitting: list[Recognized] = []
    nearest: tuple[float, str, str] | None = None
    for name in models.names() if among is None else among:
        try:
            template = _template(name, width, image_size)
        except InvalidInputError:
            if among is not None:
                raise
            continue  # The network requires larger images.
        for found, shapes in _candidates(name, template, state, width, image_size):
            own = aligned(state, shapes)
            differences = compare(shapes, own)
            if not differences:
                fitting.append(found)
                break
            similarity = _similarity(shapes, own)
            if nearest is None or similarity > nearest[0]:
                nearest = similarity, name, differences
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(found.name for found in fitting)
        raise InvalidInputError(
            f"the state dict fits several networks: {names}; choose one of them "
            "(--model on the command line)",
            argument="among",
        )
    if nearest is None:
        which = "no network" if among is None else f"none of {', '.join(among)}"
        raise InvalidInputError(
            f"{which} has such tensors and accepts images of "
            f"{image_size}x{image_size} pixels",
            argument="image_size",
        )
    _, name, differences = nearest
    problem = (
        f"the state dict does not fit {name}: {differences}"
        if among is not None and len(among) == 1
        else "no network has exactly the tensors of this state dict; the nearest is "
        f"{name}, with {differences}"
    )
    raise InvalidInputError(f"{problem}{_hint(state)}", argument="state")


def _hint(state: Mapping[str, np.ndarray]) -> str:
    """Return how to choose one of several networks, if the names look like several."""
    firsts = {name.partition(".")[0] for name in state}
    if not firsts & _HOLDERS or len(firsts) == 1:
        return ""
    return (
        f". Names begin with {describe_prefixes(state)}; choose one network with "
        "key= (--key on the command line), or remove or replace prefixes with rename "
        "(--rename OLD NEW)"
    )


def _candidates(
    name: str,
    template: _Template,
    state: Mapping[str, np.ndarray],
    width: int | None,
    image_size: int,
) -> Iterator[tuple[Recognized, Shapes]]:
    """Yield variants of a network with the classes and channels of a state dict."""
    if template.published:
        found, shapes = _adapted(name, template, aligned(state, template.shapes))
        yield found, shapes
        return
    state = aligned(state, template.shapes)
    kernel = state.get(f"{template.classifier}.kernel")
    if kernel is None or kernel.ndim != 2:
        return
    classes = max(1, kernel.shape[-1])
    for channels in _CHANNELS:
        adapted = _template(name, width, image_size, classes, channels)
        yield Recognized(name, classes, channels), adapted.shapes


@functools.cache
def _template(
    name: str,
    width: int | None,
    image_size: int,
    num_classes: int = 10,
    in_channels: int = 3,
) -> _Template:
    """Return the template of a network for some images and classes."""
    result = []

    def build() -> int:
        rngs: Any = nnx.Rngs(0)
        rngs.default = _ConstantStream(0, tag="default")
        network = models.build(
            name,
            num_classes=num_classes,
            image_shape=(image_size, image_size, in_channels),
            width=width,
            rngs=rngs,
        )
        layers = torch_layers(network)
        names = layers or [("classifier", network)]
        last = getattr(network, "classifier", None)
        result.append(
            _Template(
                {tensor.name: tensor.shape for tensor in tensors(network)},
                next((n for n, x in names[::-1] if x is last), names[-1][0]),
                next((n for n, x in names if isinstance(x, nnx.Conv)), ""),
                layers is not None,
            )
        )
        return 0

    jax.eval_shape(build)
    return result[0]


class _ConstantStream(nnx.RngStream):
    """Stream that returns the same key for all parameters, whose values are not used.

    While tracing, the time that Flax takes to count keys is quadratic in their number.
    """

    def __call__(self) -> jax.Array:
        return self.key[...]


def _adapted(
    name: str, template: _Template, state: Mapping[str, np.ndarray]
) -> tuple[Recognized, Shapes]:
    """Adapt the shapes to the state dict's numbers of classes and channels."""
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
    return Recognized(name, num_classes, in_channels), shapes


def _similarity(shapes: Shapes, state: Mapping[str, np.ndarray]) -> float:
    """Compute the share of tensors with the same name and shape in both."""
    ours = set(shapes.items())
    theirs = {(name, array.shape) for name, array in state.items()}
    return len(ours & theirs) / len(ours | theirs)

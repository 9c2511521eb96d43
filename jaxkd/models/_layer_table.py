"""The layers of a network, with the shapes of their outputs."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.models._capture import Call, callable_modules, recording
from jaxkd.models._layer_paths import Path, joined
from jaxkd.models._linen import LinenNetwork
from jaxkd.models._mode import inference_view, mode_arguments


class Layer(NamedTuple):
    """A layer of a network.

    Attributes:
        path: The path that names it, such as ``"blocks.2"``.
        kind: Name of its class; empty for a layer inside a Linen module.
        shapes: Shape of the output of each call, or of each array if a call returns
            several; the batch is the first axis.
        calls: How often the network calls it, outside of transformations or inside.
        parameters: Number of trained parameters, including those of layers inside it.
        usable: Whether its output can be used: the network calls it once, outside of
            transformations such as ``nnx.scan``, and it returns one array. If it is
            called several times, append the number of the call, such as ``"act[1]"``.
    """

    path: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]
    calls: int
    parameters: int
    usable: bool


class LayerTable(tuple[Layer, ...]):
    """Layers in the order of their calls. Its text is a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        rows = [("path", "class", "output", "parameters", "")]
        for layer in self:
            shapes = " ".join("x".join(map(str, shape)) for shape in layer.shapes)
            note = "" if layer.usable else _note(layer)
            rows.append((layer.path, layer.kind, shapes, f"{layer.parameters:,}", note))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            f"{path:{widths[0]}}  {kind:{widths[1]}}  {shape:{widths[2]}}  "
            f"{parameters:>{widths[3]}}  {note}".rstrip()
            for path, kind, shape, parameters, note in rows
        )


def layers(network: nnx.Module, images: Any) -> LayerTable:
    """List the layers of a network, with their paths and the shapes of their outputs.

    Nothing is computed. The network is called in inference mode.

    A path consists of the names of attributes and of positions in lists, from the
    network to the layer. In methods that take paths, a negative position counts from
    the end (``"blocks.-1"``), ``*`` stands for all of a list (``"blocks.*"``), and a
    layer that is called several times needs the number of the call (``"act[1]"``).

    Args:
        network: A Flax NNX module, or the result of :func:`from_linen`.
        images: Images, or their shape, such as ``(1, 32, 32, 3)``.

    Returns:
        The layers. Printed, they are a table.

    Raises:
        InvalidTypeError: If the network is not a module.
        InvalidInputError: If the images have no channels.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> network = models.MLP(64, (16, 8), num_classes=10, rngs=nnx.Rngs(0))
        >>> print(models.layers(network, (1, 8, 8, 1)))
        path        class   output  parameters
        layers.0    Linear  1x16         1,040
        layers.1    Linear  1x8            136
        classifier  Linear  1x10            90
    """
    if not isinstance(network, nnx.Module):
        raise InvalidTypeError(
            f"network must be a Flax NNX module, got {type(network).__name__}; wrap a "
            "Linen module with models.from_linen",
            argument="network",
        )
    if not hasattr(images, "shape"):
        images = jax.ShapeDtypeStruct(tuple(images), jnp.float32)
    if len(images.shape) != 4:
        raise InvalidInputError(
            "images must be of shape [batch, height, width, channels], got "
            f"{list(images.shape)}",
            argument="images",
        )
    view = inference_view(network)
    arguments = mode_arguments(network, train=False)
    graphdef, state = nnx.split(view)
    found: dict[Path, list[Call]] = {}

    def call(state: Any, images: Any) -> None:
        module = nnx.merge(graphdef, state, copy=True)
        with recording(module) as recorder:
            module(images, **arguments)
        # Only their shapes are read.
        found.update(recorder.calls)

    jax.eval_shape(call, state, images)
    modules = dict(callable_modules(network))
    return LayerTable(
        Layer(
            joined(path),
            type(modules[path]).__name__ if path in modules else "",
            tuple(shape for call in calls for shape in _shapes(call.value)),
            len(calls),
            _count_parameters(path, modules),
            len(calls) == 1 and calls[0].outside and hasattr(calls[0].value, "shape"),
        )
        for path, calls in found.items()
    )


def _note(layer: Layer) -> str:
    return "called several times" if layer.calls > 1 else "not usable"


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in jax.tree.leaves(value) if hasattr(x, "shape")]


def _count_parameters(path: Path, modules: dict[Path, nnx.Module]) -> int:
    """Count the parameters of a module, or of a layer inside a Linen module."""
    inner: Sequence[str] = ()
    while path not in modules:
        path, inner = path[:-1], (path[-1], *inner)
    module = modules[path]
    tree: Any = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    if inner and isinstance(module, LinenNetwork):
        tree = tree["variables"].get("params", {})
        for name in inner:
            tree = tree.get(name, {})
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))

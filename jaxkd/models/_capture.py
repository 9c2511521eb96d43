"""Record the outputs of a network's layers, which are named by their paths.

For the time of one call, the class of each layer is replaced by a subclass that calls
the layer and notes its output. Nothing else of the network is changed, so that any
network of Flax NNX can be used. XLA removes what nothing reads.
"""

import contextlib
import contextvars
import functools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array

from jaxkd._errors import InvalidInputError
from jaxkd.models._layer_paths import Named, Path, find_layers, joined
from jaxkd.models._linen import LinenNetwork
from jaxkd.models._mode import name_of
from jaxkd.models._output import ModelOutput, as_output
from jaxkd.models._reused import ReusedClassifier

Layers = dict[str, tuple[Array, ...]]
"""Outputs of layers, by the paths that name them."""


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        value: Its output.
        outside: Whether no transformation inside the network, such as ``nnx.scan``,
            surrounds the call. Otherwise the value cannot be used.
    """

    value: Any
    outside: bool


class Recorder:
    """The calls of a network's layers.

    Attributes:
        calls: The calls of each layer, in the order in which they begin.
    """

    def __init__(self, modules: Sequence[tuple[Path, nnx.Module]]):
        self.calls: dict[Path, list[Call]] = {}
        self._paths = {id(module): path for path, module in modules}
        self._trace = _trace()

    def begin(self, module: nnx.Module) -> None:
        """Note that a module is being called."""
        if path := self._paths.get(id(module)):
            self.calls.setdefault(path, [])

    def end(self) -> None:
        """Add the layers that were not called."""
        for path in filter(None, self._paths.values()):
            self.calls.setdefault(path, [])

    def note(self, module: nnx.Module, value: Any) -> None:
        """Note the output of a module; copies of one inside of nnx.scan are unknown."""
        if path := self._paths.get(id(module)):
            self.calls.setdefault(path, []).append(Call(value, _trace() == self._trace))

    def note_linen(self, module: LinenNetwork, calls: dict[Path, tuple]) -> None:
        """Note the outputs of the layers inside a Linen module."""
        if (path := self._paths.get(id(module))) is not None:
            outside = _trace() == self._trace
            for name, values in calls.items():
                noted = self.calls.setdefault((*path, *name), [])
                noted += [Call(value, outside) for value in values]


_recorder: contextvars.ContextVar[Recorder] = contextvars.ContextVar("recorder")


def _call_with_layers(
    network: Callable[..., Any],
    images: Any,
    paths: Sequence[str],
    **arguments: Any,
) -> tuple[Any, Layers]:
    """Call a network, and return its output and those of some of its layers.

    Args:
        network: A Flax NNX module; or a function, if there are no paths.
        images: Its input.
        paths: Paths of layers (:func:`jaxkd.models.layers`).
        **arguments: Further arguments of the call.

    Returns:
        The output of the network, and the outputs of the layers that each path names.

    Raises:
        InvalidInputError: If a path names no layer, or one whose output cannot be used.
    """
    if not paths:
        return network(images, **arguments), {}
    if not isinstance(network, nnx.Module):
        raise InvalidInputError(
            f"the network is a function, so its layers have no paths such as "
            f"{paths[0]!r}. Let it return models.ModelOutput(logits, embedding, "
            f"layers={{{paths[0]!r}: array}}).",
            argument="layers",
        )
    with recording(network) as recorder:
        output = network(images, **arguments)
    calls = recorder.calls
    return output, {
        path: tuple(_value_of(named, calls) for named in find_layers(path, list(calls)))
        for path in paths
    }


def output_of(
    network: Callable[..., Any],
    images: Any,
    layers: Sequence[str] = (),
    *,
    name: str | None = None,
    **arguments: Any,
) -> ModelOutput:
    """Call a network, and return its output together with those of some layers.

    The network is called in the mode that it is in. Call this function inside the
    function that is differentiated or compiled.

    Args:
        network: A Flax NNX module that returns logits or a :class:`ModelOutput`; or a
            function that does.
        images: Its input, NHWC.
        layers: Paths of layers (:func:`layers`); their outputs are in
            :attr:`ModelOutput.layers`.
        name: What errors call the network; by default the name of its class.
        **arguments: Further arguments of the call.

    Returns:
        The output. Its embedding has no features if the network returns logits alone.

    Raises:
        InvalidInputError: If the output is of another kind, or a path names no layer,
            or one whose output cannot be used.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> class Classifier(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.hidden = nnx.Linear(64, 16, rngs=rngs)
        ...         self.last = nnx.Linear(16, 10, rngs=rngs)
        ...     def __call__(self, images):
        ...         return self.last(nnx.relu(self.hidden(images.reshape(-1, 64))))
        >>> network, images = Classifier(nnx.Rngs(0)), jnp.ones((2, 8, 8, 1))
        >>> output = models.output_of(network, images, ["hidden"])
        >>> output.logits.shape, output.layers["hidden"][0].shape
        ((2, 10), (2, 16))
    """
    name = name or name_of(network)
    try:
        output, found = _call_with_layers(network, images, layers, **arguments)
    except InvalidInputError as error:
        if error.argument != "layers":
            raise
        raise InvalidInputError(f"{name}: {error}", argument="layers") from None
    output = as_output(output, name, rows=jnp.shape(images)[0])
    return output._replace(layers={**output.layers, **found})


@contextlib.contextmanager
def recording(network: nnx.Module) -> Iterator[Recorder]:
    """Return a context in which the calls of a network's layers are recorded."""
    modules = callable_modules(network)
    recorder = Recorder(modules)
    token = _recorder.set(recorder)
    kinds = [type(module) for _, module in modules]
    try:
        for _, module in modules:
            object.__setattr__(module, "__class__", _noting(type(module)))
        yield recorder
        recorder.end()
    finally:
        for (_, module), kind in zip(modules, kinds, strict=True):
            object.__setattr__(module, "__class__", kind)
        _recorder.reset(token)


def note(module: nnx.Module, value: Any) -> None:
    """Note the output of a layer, if the calls of its network are being recorded."""
    if (recorder := _recorder.get(None)) is not None:
        recorder.note(module, value)


def callable_modules(network: nnx.Module) -> list[tuple[Path, nnx.Module]]:
    """Return the modules of a network that can be called, with their paths."""
    found = [
        (tuple(map(str, path)), module)
        for path, module in nnx.iter_modules(network)
        if callable(module)
    ]
    if isinstance(network, ReusedClassifier):
        # Paths are those of the student's network as it was before.
        found = [
            (path[1:] if path[:1] == ("network",) else path, module)
            for path, module in found
        ]
    return found


@functools.cache
def _noting(kind: Any) -> Any:
    """Return a subclass of a module's class that notes the output of each call."""

    @functools.wraps(kind.__call__)
    def call(self, *inputs: Any, **arguments: Any) -> Any:
        recorder = _recorder.get(None)
        if recorder is not None:
            recorder.begin(self)
        value = kind.__call__(self, *inputs, **arguments)
        note(self, value)
        return value

    def apply(self, images: Any, *, train: bool) -> tuple[Any, Any]:
        output, updates, calls = kind.apply_with_calls(self, images, train=train)
        if (recorder := _recorder.get(None)) is not None:
            recorder.note_linen(self, calls)
        return output, updates

    methods: dict[str, Any] = {"__call__": call, "__module__": kind.__module__}
    if issubclass(kind, LinenNetwork):
        methods["apply"] = apply
    return types.new_class(
        kind.__name__, (kind,), exec_body=lambda x: x.update(methods)
    )


def _trace() -> Any:
    """Return the innermost transformation of JAX, to compare with others."""
    return get_opaque_trace_state(convention="nnx")


def _value_of(named: Named, calls: dict[Path, list[Call]]) -> Array:
    """Return the output of a layer's call, if there is exactly one to use.

    Raises:
        InvalidInputError: If there is none, or several.
    """
    name, found = joined(named.path), calls[named.path]
    if not found or not all(call.outside for call in found):
        raise InvalidInputError(
            f"the output of layer {name!r} cannot be taken: the network calls the "
            "layer inside a transformation such as nnx.scan or nnx.vmap, or not at "
            f"all; {_nearest(named, calls)}",
            argument="layers",
        )
    if named.call is None and len(found) > 1:
        choices = " or ".join(repr(f"{name}[{i}]") for i in range(len(found)))
        raise InvalidInputError(
            f"layer {name!r} is called {len(found)} times; write {choices}",
            argument="layers",
        )
    if (index := named.call or 0) >= len(found):
        times = "once" if len(found) == 1 else f"{len(found)} times"
        raise InvalidInputError(
            f"layer {name!r} is called {times}, so there is no {name}[{index}]; calls "
            "are counted from 0",
            argument="layers",
        )
    value = found[index].value
    if not isinstance(value, jax.Array):
        length = f" of length {len(value)}" if isinstance(value, tuple | list) else ""
        raise InvalidInputError(
            f"layer {name!r} returns a {type(value).__name__}{length}, not an array; "
            "name a layer inside of it, or one that follows",
            argument="layers",
        )
    return value


def _nearest(named: Named, calls: dict[Path, list[Call]]) -> str:
    """Return the nearest layer around one that can be used, for an error."""
    for depth in range(len(named.path) - 1, 0, -1):
        around = calls.get(named.path[:depth], [])
        if around and all(call.outside for call in around):
            return f"the nearest layer around it is {joined(named.path[:depth])!r}"
    return "no layer around it can be used either"

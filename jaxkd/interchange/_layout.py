"""Mapping between a network's arrays and the tensors of its PyTorch state dict."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from flax import nnx

from jaxkd._errors import InvalidInputError
from jaxkd.models import TorchLayer

# PyTorch counts batches for averages without momentum, which jaxkd does not use.
BATCHES = "num_batches_tracked"
_VARIANCES = ("running_var", "var")
# Variables that are not learned: random states, and results of a single call.
_TRANSIENT = (nnx.RngState, nnx.Cache, nnx.Intermediate)


class Tensor(NamedTuple):
    """Tensor of a state dict.

    Attributes:
        name: Name in PyTorch.
        variable: The network's array; None for the count of batches, which it lacks.
        axes: Axes of the array in PyTorch's order.
    """

    name: str
    variable: nnx.Variable | None
    axes: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in PyTorch."""
        if self.variable is None:
            return ()
        shape = self.variable.get_value().shape
        return tuple(shape[axis] for axis in self.axes)

    @property
    def dtype(self) -> Any:
        """Dtype of the network's array."""
        assert self.variable is not None
        return self.variable.get_value().dtype

    @property
    def is_variance(self) -> bool:
        """Whether this is the running variance of a batch normalization."""
        last = self.name.rpartition(".")[2]
        return isinstance(self.variable, nnx.BatchStat) and last in _VARIANCES


def torch_layers(network: nnx.Module) -> list[TorchLayer] | None:
    """Return the network's layers with their published names; None if it has none."""
    layers = getattr(network, "torch_layers", None)
    return None if layers is None else list(layers())


def tensors(network: nnx.Module) -> list[Tensor]:
    """Return the tensors of the network's state dict.

    They have their names, order and layout in PyTorch, or, if the network has no method
    ``torch_layers``, those in Flax, such as ``layers.0.kernel``.

    Raises:
        InvalidInputError: If the network has PyTorch names, but not exactly one for
            each array.
    """
    layers = torch_layers(network)
    if layers is None:
        return [
            Tensor(".".join(map(str, path)), v, tuple(range(v.get_value().ndim)))
            for path, v in variables(network)
        ]
    found = [t for layer in layers for t in _layer_tensors(*layer)]
    named = [id(t.variable) for t in found if t.variable is not None]
    kinds = (nnx.Param, nnx.BatchStat)
    held = {id(v) for _, v in variables(network) if isinstance(v, kinds)}
    if set(named) != held or len(named) != len(held):
        raise InvalidInputError(
            f"torch_layers() of {type(network).__name__} must name each array once; "
            f"it gives {len(named)} names to {len(set(named) & held)} of "
            f"{len(held)} arrays",
            argument="network",
        )
    return found


def variables(network: nnx.Module) -> list[tuple[tuple[Any, ...], nnx.Variable]]:
    """Return a network's variables and their paths, without transient ones."""
    return [
        (path, node)
        for path, node in nnx.iter_graph(network)
        if isinstance(node, nnx.Variable) and not isinstance(node, _TRANSIENT)
    ]


def _layer_tensors(name: str, layer: nnx.Module | nnx.Param) -> Iterator[Tensor]:
    if isinstance(layer, nnx.Param):
        yield Tensor(name, layer, tuple(range(layer.get_value().ndim)))
        return
    if isinstance(layer, (nnx.Conv, nnx.Linear)):
        weight, bias = layer.kernel, layer.bias
    elif isinstance(layer, (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm)):
        weight, bias = layer.scale, layer.bias
    else:
        raise InvalidInputError(
            "torch_layers() must return convolutions, linear layers, normalizations "
            f"and parameters, got {type(layer).__name__} for {name!r}",
            argument="network",
        )
    if weight is not None:
        # Kernels are [*positions, in, out] in Flax and [out, in, *positions] in
        # PyTorch, with or without groups. Vectors are the same.
        dims = weight.get_value().ndim
        axes = (0,) if dims == 1 else (dims - 1, dims - 2, *range(dims - 2))
        yield Tensor(f"{name}.weight", weight, axes)
    if bias is not None:
        yield Tensor(f"{name}.bias", bias, (0,))
    if isinstance(layer, nnx.BatchNorm):
        yield Tensor(f"{name}.running_mean", layer.mean, (0,))
        yield Tensor(f"{name}.running_var", layer.var, (0,))
        yield Tensor(f"{name}.{BATCHES}", None)

"""Which array of a network is which tensor of its PyTorch state dict."""

from collections.abc import Iterator
from typing import NamedTuple

from flax import nnx

from jaxkd._errors import InvalidInputError
from jaxkd.models import TorchLayer

# PyTorch counts batches for averages without momentum; the networks here have one.
BATCHES = "num_batches_tracked"


class Tensor(NamedTuple):
    """One tensor of a state dict.

    Attributes:
        name: Its name in PyTorch.
        variable: The network's array, or None for the count of batches, which has none.
        axes: The array's axes in PyTorch's order.
    """

    name: str
    variable: nnx.Variable | None
    axes: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in PyTorch."""
        if self.variable is None:
            return ()
        shape = self.variable.get_value().shape
        return tuple(shape[axis] for axis in self.axes)


def torch_layers(network: nnx.Module) -> list[TorchLayer]:
    """The network's layers by their published names.

    Raises:
        InvalidInputError: If it has no such names.
    """
    layers = getattr(network, "torch_layers", None)
    if layers is None:
        raise InvalidInputError(
            "the network must give its layers' names in PyTorch by a method "
            f"torch_layers(); {type(network).__name__} has none"
        )
    return list(layers())


def tensors(network: nnx.Module) -> list[Tensor]:
    """The tensors of the network's state dict, in PyTorch's order.

    Raises:
        InvalidInputError: If the network has no PyTorch names, or not for each array.
    """
    found = [t for layer in torch_layers(network) for t in _layer_tensors(*layer)]
    named = [id(t.variable) for t in found if t.variable is not None]
    kinds = (nnx.Param, nnx.BatchStat)
    held = {id(v) for _, v in nnx.iter_graph(network) if isinstance(v, kinds)}
    if set(named) != held or len(named) != len(held):
        raise InvalidInputError(
            f"torch_layers() of {type(network).__name__} must name each array once; "
            f"it gives {len(named)} names to {len(set(named) & held)} of {len(held)}"
        )
    return found


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
            "torch_layers() must give convolutions, linear layers, normalisations and "
            f"parameters, got {type(layer).__name__} for {name!r}"
        )
    if weight is not None:
        # [*positions, in, out] here, [out, in, *positions] there: nothing else moves,
        # with groups or without, and a vector stays as it is.
        dims = weight.get_value().ndim
        axes = (0,) if dims == 1 else (dims - 1, dims - 2, *range(dims - 2))
        yield Tensor(f"{name}.weight", weight, axes)
    if bias is not None:
        yield Tensor(f"{name}.bias", bias, (0,))
    if isinstance(layer, nnx.BatchNorm):
        yield Tensor(f"{name}.running_mean", layer.mean, (0,))
        yield Tensor(f"{name}.running_var", layer.var, (0,))
        yield Tensor(f"{name}.{BATCHES}", None)

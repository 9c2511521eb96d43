"""A network's arrays as a PyTorch state dict, and back."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd._errors import InvalidInputError
from jaxkd.interchange._layout import BATCHES, tensors

_SHOWN = 3  # names of each kind in a message


def load_state_dict(network: nnx.Module, state: Mapping[str, np.ndarray]) -> None:
    """Gives a network the arrays of a PyTorch state dict.

    Every tensor is used exactly once and every shape is checked before anything is
    changed. Kernels are transposed from ``[out, in, height, width]`` to
    ``[height, width, in, out]``, linear weights from ``[out, in]`` to ``[in, out]``;
    values are taken as they are, in the dtype of the network's arrays.

    PyTorch stores the unbiased variance of the batches in ``running_var``, and
    normalises with that very number in inference mode. So does the converted network:
    in inference mode both compute the same function, and only training on would
    average it with variances of the biased kind. The counts ``num_batches_tracked``
    are not used: they serve averages without momentum. They may be absent.

    Args:
        network: Has a method ``torch_layers()``, as the networks of the zoo. Updated in
            place; it may be abstract (``nnx.eval_shape``).
        state: What :func:`jaxkd.interchange.read_state_dict` returned.

    Raises:
        InvalidInputError: If a tensor is missing, left over, of another shape, not of
            real numbers or not finite: all in one message, the first few by name.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import interchange, models
        >>> def build(seed):
        ...     return models.CifarResNet(
        ...         8, (4, 4, 8, 16), num_classes=10, rngs=nnx.Rngs(seed)
        ...     )
        >>> network = build(0)
        >>> interchange.load_state_dict(network, interchange.to_state_dict(build(1)))
        >>> bool((network.stem.conv.kernel == build(1).stem.conv.kernel).all())
        True
    """
    wanted = tensors(network)
    differences = compare({tensor.name: tensor.shape for tensor in wanted}, state)
    if differences:
        raise InvalidInputError(
            f"the state dict does not fit {type(network).__name__}: {differences}"
        )
    used = [tensor for tensor in wanted if tensor.variable is not None]
    _check_values({tensor.name: state[tensor.name] for tensor in used})
    for tensor in used:
        variable = tensor.variable
        assert variable is not None  # for the type checker
        array = np.transpose(state[tensor.name], np.argsort(tensor.axes))
        variable.set_value(jnp.asarray(array, variable.get_value().dtype))


def to_state_dict(network: nnx.Module) -> dict[str, np.ndarray]:
    """A network's arrays under their PyTorch names, in PyTorch's order and layout.

    :func:`load_state_dict` with what this returns restores the same bits, and PyTorch's
    ``load_state_dict(strict=True)`` accepts it. The counts ``num_batches_tracked`` are
    zero: the networks here do not count.

    Args:
        network: Has a method ``torch_layers()``, as the networks of the zoo.

    Returns:
        Arrays of their own, contiguous, in the dtype of the network's.

    Raises:
        InvalidInputError: If the network has no PyTorch names.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import interchange, models
        >>> network = models.CifarResNet(
        ...     8, (4, 4, 8, 16), num_classes=10, rngs=nnx.Rngs(0)
        ... )
        >>> state = interchange.to_state_dict(network)
        >>> state["conv1.weight"].shape, state["fc.weight"].shape
        ((4, 3, 3, 3), (10, 16))
    """
    state = {}
    for tensor in tensors(network):
        if tensor.variable is None:
            state[tensor.name] = np.zeros((), np.int64)
        else:
            array = np.asarray(jax.device_get(tensor.variable.get_value()))
            state[tensor.name] = np.array(array.transpose(tensor.axes), order="C")
    return state


def compare(
    wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, np.ndarray]
) -> str:
    """What keeps a state dict from fitting, in a few words; empty if it fits."""
    missing = [
        name for name in wanted if name not in state and not name.endswith(BATCHES)
    ]
    extra = [name for name in state if name not in wanted]
    shaped = [
        f"{name} ({list(state[name].shape)}, must be {list(shape)})"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    kinds = {"missing": missing, "left over": extra, "of another shape": shaped}
    return "; ".join(
        f"{len(names)} {kind}: {_few(names)}" for kind, names in kinds.items() if names
    )


def _check_values(state: Mapping[str, np.ndarray]) -> None:
    typed = [
        f"{name} ({array.dtype})"
        for name, array in state.items()
        if not jnp.issubdtype(array.dtype, jnp.floating)
    ]
    if typed:
        raise InvalidInputError(f"weights must be floating point, got {_few(typed)}")
    broken = [name for name, array in state.items() if not np.isfinite(array).all()]
    if broken:
        raise InvalidInputError(
            f"weights must be finite; {len(broken)} are not: {_few(broken)}"
        )


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""Convert a network's arrays to a PyTorch state dict, and back."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd._errors import InvalidInputError
from jaxkd.interchange._layout import BATCHES, tensors

_MAX_NAMES = 3  # Number of names of each kind in a message.


def load_state_dict(network: nnx.Module, state: Mapping[str, np.ndarray]) -> None:
    """Load a PyTorch state dict into a network, in place.

    Each tensor is used exactly once, and all shapes are checked before any array is
    changed. Kernels are transposed from ``[out, in, height, width]`` to
    ``[height, width, in, out]`` and linear weights from ``[out, in]`` to ``[in, out]``.
    Values do not change, except for the conversion to the dtype of the network's
    arrays.

    PyTorch stores the unbiased variance of the batches in ``running_var`` and uses it
    to normalize in inference mode. The converted network does the same, so both compute
    the same function in inference mode. If training continues, the variance is averaged
    with biased variances. The counts ``num_batches_tracked`` are not used, because they
    serve averages without momentum only. They may be absent.

    Args:
        network: Network with a method ``torch_layers()``, such as those of
            :mod:`jaxkd.models`. It is updated in place and may be abstract
            (``nnx.eval_shape``).
        state: Result of :func:`jaxkd.interchange.read_state_dict`.

    Raises:
        InvalidInputError: If a tensor is missing, left over, has another shape, is not
            floating point or is not finite. One message names the first few of all
            problems.

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
            f"the state dict does not fit {type(network).__name__}: {differences}",
            argument="state",
        )
    used = [tensor for tensor in wanted if tensor.variable is not None]
    _check_values({tensor.name: state[tensor.name] for tensor in used})
    for tensor in used:
        variable = tensor.variable
        assert variable is not None  # For the type checker.
        array = np.transpose(state[tensor.name], np.argsort(tensor.axes))
        variable.set_value(jnp.asarray(array, variable.get_value().dtype))


def to_state_dict(network: nnx.Module) -> dict[str, np.ndarray]:
    """Return a network's arrays with PyTorch's names, order and layout.

    :func:`load_state_dict` restores the same bits from the result, and PyTorch's
    ``load_state_dict(strict=True)`` accepts it. The counts ``num_batches_tracked`` are
    zero, because jaxkd's networks do not count batches.

    Args:
        network: Network with a method ``torch_layers()``, such as those of
            :mod:`jaxkd.models`.

    Returns:
        Contiguous copies of the arrays, in the network's dtypes.

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
    """Describe the differences between a state dict and the shapes; empty if none."""
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
        raise InvalidInputError(
            f"weights must be floating point, got {_few(typed)}", argument="state"
        )
    broken = [name for name, array in state.items() if not np.isfinite(array).all()]
    if broken:
        raise InvalidInputError(
            f"weights must be finite; {len(broken)} are not: {_few(broken)}",
            argument="state",
        )


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more

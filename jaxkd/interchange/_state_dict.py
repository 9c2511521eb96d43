"""Convert a network's arrays to a PyTorch state dict, and back."""

from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd._errors import InvalidInputError
from jaxkd.interchange._dialects import aligned
from jaxkd.interchange._layout import BATCHES, Tensor, tensors

_MAX_NAMES = 3  # Number of names of each kind in a message.
# Messages about values that cannot be weights.
_PROBLEMS = {
    "dtype": "weights must be floating point, got {names}; convert them before you "
    "save them, for instance by model.float()",
    "not finite": "weights must be finite; {count} are not: {names}",
    "too large": "weights must fit into the network's dtype; {count} do not: {names}",
    "negative": "variances must not be negative; {count} are: {names}",
}


def load_state_dict(network: nnx.Module, state: Mapping[str, np.ndarray]) -> None:
    """Load a state dict into a network, in place.

    Names and layout are those of :func:`to_state_dict`. A prefix that all names share,
    such as ``model.``, is removed if the network's names do not have it. torchvision's
    names of vision transformers and timm's of EfficientNet-Lite0 are replaced.

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
        network: A network. It is updated in place and may be abstract
            (``nnx.eval_shape``).
        state: Result of :func:`jaxkd.interchange.read_state_dict`.

    Raises:
        InvalidInputError: If a tensor is missing, left over, has another shape, is not
            floating point, is not finite or too large for the network's dtype, or is a
            negative variance, or if all weights are constant. One message names the
            first few of all problems.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import interchange, models
        >>> def build(seed):
        ...     return models.CifarResNet(
        ...         8, (4, 4, 8, 16), num_classes=10, rngs=nnx.Rngs(seed)
        ...     )
        >>> network = build(0)
        >>> interchange.load_state_dict(network, interchange.to_state_dict(build(1)))
        >>> weights = [x.stem.conv.kernel[...] for x in (network, build(1))]
        >>> bool((weights[0] == weights[1]).all())
        True
    """
    wanted = tensors(network)
    state = aligned(state, [tensor.name for tensor in wanted])
    differences = compare({tensor.name: tensor.shape for tensor in wanted}, state)
    if differences:
        raise InvalidInputError(
            f"the state dict does not fit {type(network).__name__}: {differences}",
            argument="state",
        )
    used = [tensor for tensor in wanted if tensor.variable is not None]
    _check_values(used, state)
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

    A network without a method ``torch_layers()`` has no names in PyTorch. Its arrays
    are returned under their names in Flax, such as ``layers.0.kernel``, and in Flax's
    layout.

    Args:
        network: A network.

    Returns:
        Contiguous copies of the arrays, in the network's dtypes.

    Raises:
        InvalidInputError: If the network's ``torch_layers()`` do not name each array
            once.

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


def _check_values(used: Sequence[Tensor], state: Mapping[str, np.ndarray]) -> None:
    """Check that the values can be weights of the network."""
    wrong: dict[str, list[str]] = {kind: [] for kind in _PROBLEMS}
    for tensor in used:
        array, dtype = state[tensor.name], tensor.dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            continue
        if not jnp.issubdtype(array.dtype, jnp.floating):
            wrong["dtype"].append(f"{tensor.name} ({array.dtype})")
        elif not np.isfinite(array).all():
            wrong["not finite"].append(tensor.name)
        elif np.abs(array).max(initial=0) > float(jnp.finfo(dtype).max):
            wrong["too large"].append(f"{tensor.name} ({np.abs(array).max():.2g})")
        elif tensor.is_variance and array.min(initial=0) < 0:
            wrong["negative"].append(f"{tensor.name} ({array.min():.2g})")
    for kind, names in wrong.items():
        if names:
            raise InvalidInputError(
                _PROBLEMS[kind].format(count=len(names), names=_few(names)),
                argument="state",
            )
    matrices = [state[x.name] for x in used if state[x.name].ndim > 1]
    if matrices and not any(np.ptp(matrix) for matrix in matrices):
        raise InvalidInputError(
            f"each of the {len(matrices)} weight arrays has one value only, such as "
            f"{matrices[0].flat[0]:g}: the network was saved before its weights were "
            "loaded, or without them",
            argument="state",
        )


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more

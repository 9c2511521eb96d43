"""Read state dicts from files without running code that they may contain."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxkd._errors import InvalidInputError

_PYTORCH = (".pth", ".pt", ".ckpt", ".tar")
_SAFETENSORS = ".safetensors"
# Entries of the state dict in checkpoints with epoch, accuracy and optimizer.
_ENTRIES = ("model", "state_dict")
# Prefixes that torch.nn.DataParallel and torch.compile add to all names.
_WRAPPERS = ("module.", "_orig_mod.")
# NumPy has no name for bfloat16.
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def read_state_dict(path: Path | str) -> dict[str, np.ndarray]:
    """Read a PyTorch checkpoint or a safetensors file.

    A PyTorch file (in the zip format or the older one) may contain the state dict
    itself, or have it in the entry ``model`` or ``state_dict``, as published
    checkpoints do; other entries are ignored. The prefixes ``module.`` and
    ``_orig_mod.`` are removed if all names have them. PyTorch files are read by
    ``torch.load(weights_only=True)``, which builds only tensors, plain containers and,
    here, NumPy's scalars. A file that requires running other code is rejected, and none
    of its code is run.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.tar`` file (requires PyTorch, the
            extra ``torch``), or a ``.safetensors`` file.

    Returns:
        Arrays by name, in the file's order; bfloat16 and float16 as float32.

    Raises:
        InvalidInputError: If the file does not exist, has another suffix, is damaged,
            is not a checkpoint, or is not safe to read, or if PyTorch is not installed.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise InvalidInputError(
            f"path must be a checkpoint file, but {path} {reason}", argument="path"
        )
    suffix = path.suffix.lower()
    if suffix == _SAFETENSORS:
        state = _read_safetensors(path)
    elif suffix in _PYTORCH:
        state = _read_pytorch(path)
    else:
        raise InvalidInputError(
            f"{path}: the suffix must be {', '.join(_PYTORCH)} (PyTorch) or "
            f"{_SAFETENSORS}, got {suffix or 'none'!r}",
            argument="path",
        )
    return _unwrapped(state)


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InvalidInputError(
            f"{path} is a PyTorch file, which only PyTorch reads; install it in the "
            "checkout: pip install '.[torch]', or use a .safetensors file",
            argument="path",
        ) from None

    # Accuracies are often NumPy scalars. Their constructor and dtypes run no code.
    # Files of NumPy 1 use the constructor's former name. The published `*_last.pth`
    # also contain the script's arguments, in a class that only stores attributes.
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(letter)) for letter in "?bBhHiIlLefd"}
    allowed = [
        *(scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes),
        argparse.Namespace,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A file that is not a checkpoint can make the reader fail in any way.
    except Exception as error:
        message = _reading_error(path, error)
        raise InvalidInputError(message, argument="path") from error

    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
            break
    if not isinstance(content, Mapping) or not content:
        raise InvalidInputError(
            f"{path} must contain a state dict, but it contains "
            f"{'nothing' if isinstance(content, Mapping) else type(content).__name__}; "
            "save model.state_dict()",
            argument="path",
        )
    return {name: _as_array(path, name, value) for name, value in content.items()}


def _reading_error(path: Path, error: Exception) -> str:
    text = str(error)
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return (
            f"{path} is refused, and nothing in it was run: it contains more than "
            f"tensors and calls {wanted[1]}; save model.state_dict() alone"
        )
    reason = text.strip().splitlines()[0][:120] if text.strip() else ""
    return (
        f"{path} is damaged or not a PyTorch checkpoint "
        f"({type(error).__name__}{': ' if reason else ''}{reason})"
    )


def _as_array(path: Path, name: Any, value: Any) -> np.ndarray:
    import torch

    dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
    if not isinstance(name, str) or not dense or value.is_quantized:
        raise InvalidInputError(
            f"{path} must contain a state dict of plain tensors, but {name!r} is a "
            f"{type(value).__name__}; save model.state_dict()",
            argument="path",
        )
    value = value.detach()
    if value.is_floating_point() and value.element_size() < 4:
        value = value.float()
    return value.numpy().copy()


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors

    try:
        content = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise InvalidInputError(
            f"{path} is damaged or not a safetensors file ({error})", argument="path"
        ) from error
    state = {}
    for name, tensor in content:
        if tensor["dtype"] not in _DTYPES:
            raise InvalidInputError(
                f"{path}: {name} has dtype {tensor['dtype']}; the dtype must be one "
                f"of {', '.join(_DTYPES)}",
                argument="path",
            )
        array = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        if jnp.issubdtype(array.dtype, jnp.floating) and array.itemsize < 4:
            array = array.astype(np.float32)
        state[name] = array.reshape(tensor["shape"])
    return state


def _unwrapped(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in _WRAPPERS * 2:  # They occur in both orders.
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): x for name, x in state.items()}
    return state

"""State dicts from files, without running anything that a file may hold."""

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
# Where checkpoints keep the state dict beside epoch, accuracy and optimizer.
_ENTRIES = ("model", "state_dict")
# Put before every name by torch.nn.DataParallel and torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")
# NumPy's own names lack bfloat16.
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
    """Reads a PyTorch checkpoint or a safetensors file.

    PyTorch's files (both its zip format and the older one) may hold the state dict
    itself, or have it under ``model`` or ``state_dict``, as published checkpoints do;
    what else is there is left aside. Prefixes ``module.`` and ``_orig_mod.`` that all
    names share are removed. They are read by ``torch.load(weights_only=True)``, which
    builds tensors and plain containers, and NumPy's scalars here: a file that wants
    to run anything else is refused and nothing of it is run.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.tar`` file (these take PyTorch, the
            extra ``torch``), or a ``.safetensors`` file.

    Returns:
        Arrays by name, in the file's order; bfloat16 and float16 as float32.

    Raises:
        InvalidInputError: If there is no such file, its suffix is another, it is
            damaged, no checkpoint, or not safe to read, or PyTorch is not installed.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InvalidInputError(f"a checkpoint file is needed; {path} {what}")
    suffix = path.suffix.lower()
    if suffix == _SAFETENSORS:
        state = _read_safetensors(path)
    elif suffix in _PYTORCH:
        state = _read_pytorch(path)
    else:
        raise InvalidInputError(
            f"{path}: the suffix must be {', '.join(_PYTORCH)} (PyTorch) or "
            f"{_SAFETENSORS}, got {suffix or 'none'!r}"
        )
    return _unwrapped(state)


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InvalidInputError(
            f"{path}: PyTorch's files are read by PyTorch; install it in the "
            "checkout: pip install '.[torch]', or bring a .safetensors file"
        ) from None

    # Accuracies are often NumPy's. Their constructor and dtypes hold no code; files of
    # NumPy 1 know it under its former name. The published `*_last.pth` hold the
    # script's arguments beside the weights, in a class whose instances are only filled.
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(letter)) for letter in "?bBhHiIlLefd"}
    allowed = [
        *(scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes),
        argparse.Namespace,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A file that is no checkpoint makes the reader fail in any way.
    except Exception as error:
        raise InvalidInputError(_refusal(path, error)) from error

    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
            break
    if not isinstance(content, Mapping) or not content:
        raise InvalidInputError(
            f"{path} holds no state dict, but "
            f"{'nothing' if isinstance(content, Mapping) else type(content).__name__}; "
            "save model.state_dict()"
        )
    return {name: _as_array(path, name, value) for name, value in content.items()}


def _refusal(path: Path, error: Exception) -> str:
    text = str(error)
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return (
            f"{path} is refused, and nothing in it was run: it is more than tensors "
            f"and calls {wanted[1]}; save model.state_dict() alone"
        )
    reason = text.strip().splitlines()[0][:120] if text.strip() else ""
    return (
        f"{path} is damaged or no PyTorch checkpoint "
        f"({type(error).__name__}{': ' if reason else ''}{reason})"
    )


def _as_array(path: Path, name: Any, value: Any) -> np.ndarray:
    import torch

    dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
    if not isinstance(name, str) or not dense or value.is_quantized:
        raise InvalidInputError(
            f"{path} holds no state dict of plain tensors: {name!r} is a "
            f"{type(value).__name__}; save model.state_dict()"
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
            f"{path} is damaged or no safetensors file ({error})"
        ) from error
    state = {}
    for name, tensor in content:
        if tensor["dtype"] not in _DTYPES:
            raise InvalidInputError(
                f"{path}: {name} is of dtype {tensor['dtype']}; the dtype must be one "
                f"of {', '.join(_DTYPES)}"
            )
        array = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        if jnp.issubdtype(array.dtype, jnp.floating) and array.itemsize < 4:
            array = array.astype(np.float32)
        state[name] = array.reshape(tensor["shape"])
    return state


def _unwrapped(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in _WRAPPERS * 2:  # either may be inside the other
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): x for name, x in state.items()}
    return state

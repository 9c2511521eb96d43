"""Read state dicts from files without running code that they may contain."""

import argparse
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.interchange._select import below_prefix, select_state_dict, unwrapped

_PYTORCH = (".pth", ".pt", ".ckpt", ".bin", ".tar")
_SAFETENSORS = ".safetensors"
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


def read_state_dict(
    path: Path | str, *, key: str | None = None
) -> dict[str, np.ndarray]:
    """Read a PyTorch checkpoint or a safetensors file.

    A PyTorch file (in the zip format or the older one) may contain the state dict
    itself, or have it in an entry such as ``model``, ``state_dict``,
    ``model_state_dict`` or ``net``, or in an entry of an entry. If it contains several,
    such as the weights and their moving average, ``key`` must name one. Entries of
    optimizers and of the script are ignored. What DataParallel, AveragedModel,
    ``torch.compile``, FSDP and activation checkpointing add to the names is removed.

    PyTorch files are read by ``torch.load(weights_only=True)``, which builds only
    tensors, plain containers and, here, NumPy's scalars. A file that requires running
    other code is rejected, and none of its code is run.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt``, ``.bin`` or ``.tar`` file (requires
            PyTorch, the extra ``torch``), or a ``.safetensors`` file.
        key: The entry to read, such as ``"model_ema"``; with dots, an entry of an
            entry. It may also be the first part of the names of one of several
            networks in a state dict, as in ``"state_dict.student"``.

    Returns:
        Arrays by name, in the file's order; bfloat16 and float16 as float32.

    Raises:
        InvalidInputError: If the file does not exist, has another suffix, is damaged,
            is not a checkpoint, or is not safe to read, if PyTorch is not installed, or
            if ``key`` is required or not in the file.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise InvalidInputError(
            f"path must be a checkpoint file, but {path} {reason}", argument="path"
        )
    suffix = path.suffix.lower()
    if suffix == _SAFETENSORS:
        state, prefix = _read_safetensors(path), key
    elif suffix in _PYTORCH:
        state, prefix = _read_pytorch(path, key)
    else:
        raise InvalidInputError(
            f"{path}: the suffix must be {', '.join(_PYTORCH)} (PyTorch) or "
            f"{_SAFETENSORS}, got {suffix or 'none'!r}",
            argument="path",
        )
    if prefix is not None:
        state = below_prefix(state, prefix)
    return unwrapped(state)


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Read the metadata that :func:`write_safetensors` wrote to a file's header.

    Args:
        path: A file that :func:`read_state_dict` can read.

    Returns:
        The metadata, such as ``model``; empty if jaxkd did not write the file.
    """
    import safetensors

    if Path(path).suffix.lower() != _SAFETENSORS:
        return {}
    with safetensors.safe_open(path, framework="numpy") as file:
        header = file.metadata() or {}
    return {name: _parsed(text) for name, text in header.items() if "jaxkd" in header}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # Strings are written as they are.
        return text


def _read_pytorch(
    path: Path, key: str | None
) -> tuple[dict[str, np.ndarray], str | None]:
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
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A file that is not a checkpoint can make the reader fail in any way.
    except Exception as error:
        message = _reading_error(path, error)
        raise InvalidInputError(message, argument="path") from error

    if not isinstance(content, Mapping) or not content:
        raise InvalidInputError(
            f"{path} must contain a state dict, but it contains "
            f"{'nothing' if isinstance(content, Mapping) else type(content).__name__}; "
            "save model.state_dict()",
            argument="path",
        )
    state, prefix = select_state_dict(content, key, torch.Tensor)
    return {n: _as_array(path, n, value) for n, value in state.items()}, prefix


def _reading_error(path: Path, error: Exception) -> str:
    text = str(error)
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return (
            f"{path} is refused, and nothing in it was run: it contains more than "
            f"tensors and calls {wanted[1]}; save model.state_dict() alone"
        )
    if "TorchScript" in text:
        return f"{path} is a TorchScript program; save model.state_dict() instead"
    reason = text.strip().splitlines()[0][:120] if text.strip() else ""
    return (
        f"{path} is damaged or not a PyTorch checkpoint "
        f"({type(error).__name__}{': ' if reason else ''}{reason})"
    )


def _as_array(path: Path, name: Any, value: Any) -> np.ndarray:
    import torch

    kind = ""
    if isinstance(value, torch.Tensor) and value.is_quantized:
        kind = " (quantized)"
    elif isinstance(value, torch.Tensor) and value.layout != torch.strided:
        kind = f" ({value.layout})"
    if kind or not isinstance(name, str) or not isinstance(value, torch.Tensor):
        raise InvalidInputError(
            f"{path} must contain a state dict of plain tensors, but {name!r} is a "
            f"{type(value).__name__}{kind}; save model.state_dict()",
            argument="path",
        )
    if value.is_meta:
        raise InvalidInputError(
            f"{path} has no values: {name} is a meta tensor, of shape "
            f"{list(value.shape)}; load the weights into the model before you save it",
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

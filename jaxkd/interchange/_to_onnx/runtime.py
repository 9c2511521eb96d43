"""Run ONNX files with ONNX Runtime."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from jaxkd._errors import InvalidInputError

_INSTALL = "Install them in the checkout with: pip install '.[onnx]'"


def require_onnx() -> None:
    """Raise unless the packages of the extra ``onnx`` are installed.

    Raises:
        InvalidInputError: If one is missing. The message has the command.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(
            f"ONNX needs the packages onnx and onnxruntime ({error}). {_INSTALL}"
        ) from error


class Session:
    """An ONNX model that ONNX Runtime computes on the CPU.

    Args:
        model: Path or contents of the file.

    Raises:
        InvalidInputError: If ONNX Runtime cannot load it, or is not installed.
    """

    def __init__(self, model: str | os.PathLike | bytes):
        require_onnx()
        import onnxruntime

        settings: Any = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors
        given = model if isinstance(model, bytes) else os.fspath(model)
        try:
            self._session = onnxruntime.InferenceSession(
                given, settings, providers=["CPUExecutionProvider"]
            )
        # Its errors have no class in common below Exception.
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            name = "the model" if isinstance(model, bytes) else str(model)
            raise InvalidInputError(
                f"ONNX Runtime cannot load {name} ({reason})", argument="path"
            ) from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Shaped[np.ndarray, "batch h w c"]) -> Any:
        """Return the first output for a batch."""
        return self._session.run(None, {self._input: images})[0]


def run_onnx(
    path: str | os.PathLike,
    images: Shaped[np.ndarray, "images h w c"],
    *,
    batch_size: int = 256,
) -> Float[np.ndarray, "images classes"]:
    """Compute the logits of images with an ONNX file, in ONNX Runtime on the CPU.

    Args:
        path: File of :func:`write_onnx` or :func:`quantize_onnx`.
        images: uint8 images as stored.
        batch_size: Images per call.

    Returns:
        The logits.

    Raises:
        InvalidInputError: If there is no such file, or ONNX Runtime cannot load it.
    """
    if not Path(path).is_file():
        raise InvalidInputError(f"there is no file {path}", argument="path")
    session = Session(path)
    return np.concatenate(
        [
            session(images[start : start + batch_size])
            for start in range(0, len(images), batch_size)
        ]
    )

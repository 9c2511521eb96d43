"""Quantize an ONNX file to 8-bit integers."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxkd._errors import InvalidInputError
from jaxkd._files import check_free, write_whole
from jaxkd.interchange._to_onnx.graph import INPUT
from jaxkd.interchange._to_onnx.runtime import require_onnx

_BATCH = 64
# Normalizations and softmax stay in float32: they need the range, and take little time.
_QUANTIZED = [
    "Conv",
    "MatMul",
    "Gemm",
    "Add",
    "Relu",
    "MaxPool",
    "AveragePool",
    "Concat",
]


def quantize_onnx(
    path: str | os.PathLike,
    out: str | os.PathLike,
    images: UInt8[np.ndarray, "images h w c"],
) -> int:
    """Quantize an ONNX file to 8 bits with ONNX Runtime's static quantizer.

    Weights become int8, with a scale for each output channel, and values between
    layers uint8, with scales from their range on the calibration images. The input,
    the output, normalizations and softmax stay as they are.

    Args:
        path: File of :func:`write_onnx`.
        out: File to write.
        images: Calibration images, uint8; some hundred training images of all classes.

    Returns:
        The size of the new file in bytes.

    Raises:
        InvalidInputError: If ``out`` exists, there are no images, a package is
            missing, or the quantizer cannot read the file.
    """
    require_onnx()
    out = Path(out)
    check_free(out)
    if not len(images):
        raise InvalidInputError(
            "images has no image to calibrate with; give some hundred training images",
            argument="images",
        )
    with tempfile.TemporaryDirectory(prefix="jaxkd-") as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        with _quiet():
            _quantize(os.fspath(path), prepared, quantized, images)
        content = quantized.read_bytes()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, content)
    return len(content)


def _quantize(path: str, prepared: Path, quantized: Path, images: np.ndarray) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(quantization.CalibrationDataReader):
        """The calibration images, as the quantizer reads them."""

        def __init__(self):
            self._starts = iter(range(0, len(images), _BATCH))

        def get_next(self) -> Any:
            start = next(self._starts, None)
            return None if start is None else {INPUT: images[start : start + _BATCH]}

    try:
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantized,
            Batches(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    # Its errors have no class in common below Exception.
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidInputError(
            f"ONNX Runtime cannot quantize {path} ({reason})", argument="path"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the quantizer's remarks, which go to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

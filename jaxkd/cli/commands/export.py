"""``jaxkd export``."""

import dataclasses
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from jaxkd import __version__, _checks, _json, data, interchange, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import check_free
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import check_fits
from jaxkd.cli._options import Export


def run(options: Export, arguments: list[str]) -> None:
    """Write a run's network to a file that other programs can read."""
    del arguments
    out = options.out
    check_free(out, "--out", argument="out")
    _check_quantize(options)
    announce(f"loading {options.run}")
    loaded = runs.load_network(options.run, trial=options.trial)
    description = _description(loaded)
    written = str(out)
    announce(f"writing {out}")
    if options.format == "stablehlo":
        frozen = training.freeze(loaded.module, loaded.normalization)
        beside = interchange.write_stablehlo(
            out, frozen, loaded.network.image_shape, description=description
        )
        written = f"{out} and {beside.name}"
    elif options.format == "onnx":
        _write_onnx(loaded, description, options)
    elif options.format == "safetensors":
        # The header of the format holds strings only.
        metadata = {
            name: x if isinstance(x, str) else _json.dumps(x)
            for name, x in description.items()
            if x is not None
        }
        interchange.write_safetensors(out, loaded.module, metadata=metadata)
    else:
        interchange.write_orbax(out, loaded.module)
    Console().tell(f"{loaded.network.model} ({loaded.version}) is in {written}")


def _check_quantize(options: Export) -> None:
    """Raise if a network is to be quantized that is not written as ONNX."""
    if options.quantize is not None and options.format != "onnx":
        raise InvalidInputError(
            f"--quantize is {options.quantize}, but only ONNX files are quantized. Use "
            "--format onnx",
            argument="quantize",
        )
    _checks.check_at_least(1, calibration=options.calibration)


def _write_onnx(
    loaded: runs.LoadedNetwork, description: dict[str, Any], options: Export
) -> None:
    """Write an ONNX file and print how much its logits differ from JAX's."""
    dataset = None if options.quantize is None else _dataset(loaded, options)
    module = _in_float32(loaded)
    frozen = training.freeze_teacher(module, loaded.normalization)
    shape = loaded.network.image_shape
    with tempfile.TemporaryDirectory(prefix="jaxkd-") as folder:
        path = options.out if dataset is None else Path(folder, "float32.onnx")
        check = interchange.write_onnx(path, frozen, shape, description=description)
        Console().tell(
            f"ONNX Runtime and JAX differ by at most {check.deviation:.1e} in the "
            f"logits of {check.num_images} random images, of which the largest is "
            f"{check.largest:.3g}; {check.size / 1e3:,.0f} kB"
        )
        if dataset is not None:
            _quantize(path, dataset, options)


def _in_float32(loaded: runs.LoadedNetwork) -> nnx.Module:
    """Return the network so that it computes in float32, as ONNX files do."""
    if loaded.network.compute_dtype == "float32":
        return loaded.module
    network = dataclasses.replace(loaded.network, compute_dtype="float32")
    module = network.abstract()
    nnx.update(module, nnx.state(loaded.module))
    return module


def _dataset(loaded: runs.LoadedNetwork, options: Export) -> data.ImageDataset:
    """Load the dataset of the run, whose training images calibrate the quantizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.UnlabeledSplitWarning)
        dataset = data.load(
            runs.source_of(loaded, None),
            data_dir=options.data_dir,
            cache_dir=options.cache_dir,
            **loaded.load_options,
        )
    check_fits(loaded, dataset)
    return dataset


def _quantize(path: Path, dataset: data.ImageDataset, options: Export) -> None:
    """Write the quantized file, and print its accuracy beside that of float32."""
    rows = min(options.calibration, len(dataset.train.labels))
    chosen = data.take_subset(dataset, rows, seed=0).train.images
    size = interchange.quantize_onnx(path, options.out, _in_8_bits(chosen[:rows]))
    Console().tell(
        f"quantized to int8 with {count(rows, 'training image')}; {size / 1e3:,.0f} kB"
    )
    images, labels = _in_8_bits(dataset.test.images[:]), dataset.test.labels
    before, after = (
        np.mean(interchange.run_onnx(file, images).argmax(axis=1) == labels)
        for file in (path, options.out)
    )
    Console().tell(
        f"test accuracy on {dataset.name}: {before:.2%} in float32, {after:.2%} in "
        f"int8 ({100 * (after - before):+.2f} points), "
        f"{count(len(labels), 'image')}"
    )


def _in_8_bits(images: Any) -> np.ndarray:
    """Return images as an ONNX file takes them: uint8."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(images * 255).astype(np.uint8)


def _description(loaded: runs.LoadedNetwork) -> dict[str, Any]:
    """Describe the network and its images."""
    network, names = loaded.network, loaded.class_names
    return {
        "model": network.model,
        "width": network.width,
        "num_classes": network.num_classes,
        "class_names": None if names is None else list(names),
        "image_shape": list(network.image_shape),
        "reused_features": network.reused_features,
        "normalization": {
            name: np.asarray(values, float).tolist()
            for name, values in loaded.normalization._asdict().items()
        },
        "jaxkd": __version__,
    }

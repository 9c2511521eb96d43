"""Options of the commands that read and write files of other programs."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxkd.cli._option_groups import option

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a PyTorch checkpoint into a run folder, for `distill --teacher`.

    A file of `jaxkd export` contains its model, image size, mean, std and class names.
    """

    checkpoint: Positional[Path]
    """A .pth, .pt, .ckpt, .bin, .tar (needs the extra `torch`) or .safetensors file."""
    out: Path
    """Run folder to create."""
    model: Annotated[
        str | None, option(default="the network with the same names and shapes")
    ] = None
    """Name of the network."""
    width: Annotated[int | None, option(default="published width")] = None
    """Base number of channels."""
    key: Annotated[
        str | None,
        option(
            "State dict to read, if the file contains several: an entry such as "
            "model_ema. Dots lead to inner entries, or to the tensors whose names have "
            "a prefix, such as state_dict.student.",
            default="the only one",
        ),
    ] = None
    rename: Annotated[
        tuple[tuple[str, str], ...],
        tyro.conf.arg(
            help="Replace the prefix OLD of tensors' names by NEW. * stands for "
            "characters without a dot, which NEW repeats at its own *. Repeat the "
            "option for several prefixes.",
            metavar="OLD NEW",
        ),
        tyro.conf.UseAppendAction,
    ] = ()
    image_size: Annotated[
        int | None,
        option(
            "Height and width of the images that the network was trained on; 224 for "
            "most ImageNet networks.",
            default="32 for networks made for CIFAR, otherwise required",
        ),
    ] = None
    mean: Annotated[
        tuple[float, ...] | None,
        option(
            "Mean of each channel during training, for images in [0, 1].",
            default="that of CIFAR-100, 0.5071 0.4867 0.4408, for 32x32x3 images and "
            "networks made for CIFAR, otherwise required",
        ),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        option(
            "Standard deviation of each channel during training.",
            default="that of CIFAR-100, 0.2675 0.2565 0.2761, for the same images",
        ),
    ] = None
    class_names: Annotated[
        Path | None,
        option(
            "File with the names of the classes in the order of the logits: one per "
            "line, or a JSON list. `evaluate` and `distill` compare them with those of "
            "the dataset.",
            default="not known",
        ),
    ] = None
    dataset: Annotated[
        str | None,
        option(
            "Dataset that `distill` and `evaluate` load by default: the name of a TFDS "
            "dataset, or a .npz file.",
            default="none",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write a trained network to a file that other programs can read."""

    run: Positional[Path]
    """Run folder."""
    format: Annotated[
        Literal["safetensors", "stablehlo", "onnx", "orbax"],
        option(
            "safetensors: weights under their PyTorch names, or their Flax names if "
            "the network has none in PyTorch. stablehlo: program from "
            "stored images to logits, which runs in JAX without jaxkd. onnx: the same "
            "for ONNX runtimes, compared with JAX before it is written (needs the "
            "extra `onnx`). orbax: weights under their Flax names."
        ),
    ]
    out: Path
    """File to create; for orbax, a folder."""
    trial: int = 0
    """Trial of the run to export."""
    quantize: Annotated[
        Literal["int8"] | None,
        option(
            "Quantize an ONNX file to 8 bits with ONNX Runtime, calibrated on training "
            "images of the run, and print the test accuracy before and after.",
            default="off",
        ),
    ] = None
    calibration: int = 512
    """Training images to calibrate --quantize with."""
    data_dir: Annotated[Path | None, option(default="$TFDS_DATA_DIR")] = None
    """Folder of prepared TFDS datasets, for --quantize."""
    cache_dir: Annotated[
        Path | None, option(default="$JAXKD_CACHE_DIR or ~/.cache/jaxkd")
    ] = None
    """Folder for decoded images, for --quantize."""

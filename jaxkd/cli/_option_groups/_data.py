"""Datasets: rows, loading and augmentation."""

import dataclasses
from pathlib import Path
from typing import Annotated

from jaxkd.cli._option_groups._option import option

# Options of every command that loads images.
Background = Annotated[
    str | None,
    option(
        "Color behind transparent pixels of image files: white, black, gray or "
        "#RRGGBB.",
        default="white, or that of the run",
    ),
]
TestResize = Annotated[
    int | None,
    option(
        "Length that the shorter side of test images is scaled to before the center of "
        "--image-size is cropped: 256 with --image-size 224 is ImageNet's evaluation. "
        "Training images do not depend on it.",
        default="off, or that of the run",
    ),
]
ValueRange = Annotated[
    tuple[float, float] | None,
    option(
        "Values of black and white in a .npz file whose images are neither uint8 nor "
        "in 0 to 1, such as 0 65535 or -1 1.",
        default="0 255 for uint8, 0 1 for floating point, or that of the run",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Rows of a dataset."""

    train_split: Annotated[
        str | None,
        option(
            "Rows to train on, in the syntax of TFDS: 'train[:90%]', 'train[1000:]', "
            "'train+validation'. A slice of a TFDS dataset takes rows in order; of "
            "other datasets, the same share of each class.",
            default="train, or that of the run",
        ),
    ] = None
    test_split: Annotated[
        str | None,
        option(
            "Rows to test on, such as 'train[90%:]'. If the split test has no labels, "
            "validation is used.",
            default="test or validation, or that of the run",
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class DataOptions(RowOptions):
    """Training data and data augmentation."""

    data_dir: Annotated[Path | None, option(default="$TFDS_DATA_DIR")] = None
    """Folder of prepared TFDS datasets."""
    cache_dir: Annotated[
        Path | None, option(default="$JAXKD_CACHE_DIR or ~/.cache/jaxkd")
    ] = None
    """Folder for decoded images."""
    image_size: Annotated[
        int | None,
        option(
            "Height and width to resize images to. Required if the images have "
            "different sizes.",
            default="size of the images",
        ),
    ] = None
    test_resize: TestResize = None
    stream: bool = False
    """Decode images when they are needed, for datasets that do not fit in memory."""
    workers: int = 0
    """Number of processes that read streamed images; 0 uses threads."""
    background: Background = None
    value_range: ValueRange = None
    subset: Annotated[int | None, option(default="all images")] = None
    """Train on this many training images, with an equal share of each class."""
    validation: Annotated[float | None, option(default="none")] = None
    """Share of the training images to hold out for validation, such as 0.1."""
    crop_padding: Annotated[int | None, option(default="chosen by the dataset")] = None
    """Zero pixels to add on each side of an image before a random crop."""
    random_resized_crop: Annotated[
        tuple[float, float] | None,
        option(
            "Smallest and largest share of an image's area in a random crop, such as "
            "0.08 1; it is resized to the image's size. Replaces --crop-padding.",
            default="off",
        ),
    ] = None
    flip: Annotated[bool | None, option(default="chosen by the dataset")] = None
    """Whether to mirror images at random."""
    randaugment: Annotated[tuple[int, float] | None, option(default="off")] = None
    """RandAugment: operations per image and magnitude from 0 to 10, such as 2 9."""
    mixup: float = 0.0
    """Parameter of mixup's Beta distribution, such as 0.2; 0 turns mixup off."""
    cutmix: float = 0.0
    """Parameter of CutMix's Beta distribution, such as 1; 0 turns CutMix off."""

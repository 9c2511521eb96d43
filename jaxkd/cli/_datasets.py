"""Datasets of the commands."""

import dataclasses
import os
import warnings
from collections.abc import Mapping
from typing import Any

from jaxkd import data, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import announce, say
from jaxkd.cli._options import DataOptions

_LOADING = frozenset({"data_dir", "cache_dir", "stream", "workers", *runs.LOAD_OPTIONS})
_DEFAULT_BACKGROUND = "white"
_NO_OPTIONS: Mapping[str, Any] = {}


def load_dataset(name: str, options: DataOptions) -> data.ImageDataset:
    """Load a dataset with the rows and the augmentation of the options."""
    dataset = load_and_warn(name, options)
    if options.subset is not None:
        dataset = data.take_subset(dataset, options.subset, seed=0)
    if options.validation is not None:
        doubts = len(dataset.doubts)
        dataset = data.hold_out(dataset, options.validation, seed=0)
        for doubt in dataset.doubts[doubts:] if training.is_first() else ():
            say(f"warning: {doubt}")
    own = dataset.augmentation
    crop, flip = options.crop_padding, options.flip
    if crop is None:
        crop = own.crop_padding if options.random_resized_crop is None else 0
    augmentation = data.Augmentation(
        crop_padding=crop,
        flip=own.flip if flip is None else flip,
        randaugment=options.randaugment and data.RandAugment(*options.randaugment),
        mixup=options.mixup,
        cutmix=options.cutmix,
        random_resized_crop=options.random_resized_crop,
    )
    return dataclasses.replace(dataset, augmentation=augmentation)


def add_unlabeled(
    dataset: data.ImageDataset, folder: str | os.PathLike | None, options: DataOptions
) -> data.ImageDataset:
    """Add the images of a folder to the training set, if there is one."""
    if folder is None:
        return dataset
    return data.with_unlabeled(
        dataset,
        os.fspath(folder),
        cache_dir=options.cache_dir,
        background=options.background or _DEFAULT_BACKGROUND,
    )


def load_and_warn(
    name: str, options: Any, recorded: Mapping[str, Any] = _NO_OPTIONS
) -> data.ImageDataset:
    """Load a dataset with the options of a command, and print warnings about it.

    Args:
        name: Name or path of the dataset.
        options: The options of a command.
        recorded: Options of a run, for those that the command line leaves out.
    """
    dataset = load_silently(name, options, recorded)
    if training.is_first():
        for doubt in (*dataset.doubts, *data.doubts_about(dataset.train.images)):
            say(f"warning: {doubt}")
    return dataset


def load_silently(
    name: str, options: Any, recorded: Mapping[str, Any] = _NO_OPTIONS
) -> data.ImageDataset:
    """Load a dataset with the options of a command, without printing warnings."""
    given = {
        field.name: value
        for field in dataclasses.fields(options)
        if field.name in _LOADING
        and (value := getattr(options, field.name)) is not None
    }
    announce(f"loading {name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.UnlabeledSplitWarning)
        return data.load(name, **given | options_not_given(options, recorded))


def options_not_given(options: Any, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return those recorded options that have the default on the command line."""
    defaults = DataOptions()
    return {
        name: value
        for name, value in recorded.items()
        if getattr(options, name) == getattr(defaults, name)
    }


def check_fits(loaded: runs.LoadedNetwork, dataset: data.ImageDataset) -> None:
    """Check that a trained network and a dataset have the same images and classes.

    Raises:
        InvalidInputError: If the images or the classes differ; see
            :func:`jaxkd.runs.class_difference`.
    """
    difference = runs.class_difference(loaded, dataset)
    if difference:
        raise InvalidInputError(
            f"{difference}. Use the network's classes, with the same names in the same "
            "order"
        )
    check_images(loaded, dataset)


def check_images(loaded: runs.LoadedNetwork, dataset: data.ImageDataset) -> None:
    """Check that a trained network takes the images of a dataset.

    Raises:
        InvalidInputError: If their shape differs.
    """
    taken, shape = loaded.network.image_shape, dataset.image_shape
    if taken != shape:
        raise InvalidInputError(
            f"dataset {dataset.name} has images of shape {shape}, but the network "
            f"takes images of shape {taken}. Load them in that size with --image-size",
        )

"""Datasets of the commands."""

import dataclasses

from jaxkd import data, runs
from jaxkd._errors import InvalidInputError
from jaxkd.cli._options import DataOptions


def load_dataset(name: str, options: DataOptions) -> data.ImageDataset:
    """Load a dataset with the subset and the augmentation of the options."""
    dataset = data.load(
        name,
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        image_size=options.image_size,
        stream=options.stream,
        workers=options.workers,
        background=options.background or "white",
        value_range=options.value_range,
    )
    if options.subset is not None:
        dataset = data.take_subset(dataset, options.subset, seed=0)
    own = dataset.augmentation
    crop, flip = options.crop_padding, options.flip
    augmentation = data.Augmentation(
        crop_padding=own.crop_padding if crop is None else crop,
        flip=own.flip if flip is None else flip,
        randaugment=options.randaugment and data.RandAugment(*options.randaugment),
        mixup=options.mixup,
        cutmix=options.cutmix,
    )
    return dataclasses.replace(dataset, augmentation=augmentation)


def check_fits(loaded: runs.LoadedNetwork, dataset: data.ImageDataset) -> None:
    """Check that a trained network and a dataset have the same images and classes.

    Classes are compared by name if both have names. Numbers are the names of classes
    that have none.

    Raises:
        InvalidInputError: If the images or the classes differ.
    """
    network = loaded.network
    shape = tuple(dataset.train.images.shape[1:])
    if network.num_classes != dataset.num_classes:
        raise InvalidInputError(
            f"dataset {dataset.name} has {dataset.num_classes} classes, but the "
            f"network was trained on {network.num_classes} classes",
        )
    if network.image_shape != shape:
        raise InvalidInputError(
            f"dataset {dataset.name} has images of shape {shape}, but the network "
            f"takes images of shape {network.image_shape}",
        )
    numbers = tuple(map(str, range(dataset.num_classes)))
    ours, theirs = loaded.class_names, dataset.class_names
    if ours is None or numbers in (ours, theirs):
        return
    others = [i for i in range(len(numbers)) if ours[i] != theirs[i]]
    if others:
        i = others[0]
        raise InvalidInputError(
            f"dataset {dataset.name} calls class {i} {theirs[i]!r}, but the network "
            f"was trained with the name {ours[i]!r} ({len(others)} of {len(numbers)} "
            "classes differ). Use the network's classes, with the same names in the "
            "same order",
        )

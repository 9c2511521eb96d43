"""Check that a training run shows its student the images of a recording."""

from typing import Any

from jaxkd._errors import InvalidInputError
from jaxkd._text import printable
from jaxkd.data import Augmentation, ImageDataset
from jaxkd.recordings._views import Views, describe, is_on, plain


def check_run(
    path: Any,
    views: Views,
    class_names: tuple[str, ...],
    dataset: ImageDataset,
    *,
    augmentation: Augmentation | None,
    batch_size: int,
    data_seed: int,
    epochs: int,
) -> None:
    """Check that a run with these settings shows the images of the views.

    Raises:
        InvalidInputError: Naming the first setting that differs, both values and the
            remedy.
    """
    name = f"the recording {printable(str(path))}"
    _check_dataset(name, views, class_names, dataset)
    if views.clean:
        if is_on(augmentation):
            raise InvalidInputError(
                f"{name} holds the teacher's answers for clean images, but training "
                f"augments them ({describe(augmentation)}): the student would see "
                f"other images. Record with --epochs {epochs}, or train without "
                "augmentation: --crop-padding 0 --flip False, and no --randaugment, "
                "--mixup or --cutmix.",
                argument="recorded",
            )
        return
    used = plain(augmentation) if augmentation is not None else None
    if used != views.augmentation:
        raise InvalidInputError(
            f"{name} was made with the augmentation {describe(views.augmentation)}, "
            f"but training uses {describe(augmentation)}: the student would see other "
            "images. Train with the recorded augmentation, or record again.",
            argument="recorded",
        )
    for argument, recorded, given in (
        ("data_seed", views.data_seed, data_seed),
        ("batch_size", views.batch_size, batch_size),
    ):
        if recorded != given:
            words = argument.replace("_", " ")
            raise InvalidInputError(
                f"{argument} is {given}, but {name} was made with the {words} "
                f"{recorded}: the student would see other images. Use {recorded}, or "
                f"record again with {given}.",
                argument=argument,
            )
    if epochs > views.epochs:
        raise InvalidInputError(
            f"epochs is {epochs}, but {name} has {views.epochs}. Use at most "
            f"{views.epochs}, or continue the recording: run its `jaxkd record` again "
            f"for {epochs}.",
            argument="epochs",
        )


def _check_dataset(
    name: str, views: Views, class_names: tuple[str, ...], dataset: ImageDataset
) -> None:
    if dataset.fingerprint != views.fingerprint and dataset.name != views.dataset:
        raise InvalidInputError(
            f"dataset is {dataset.name}, but {name} was made with "
            f"{printable(views.dataset)}. Train on that dataset, or record again.",
            argument="dataset",
        )
    if dataset.image_shape != views.image_shape:
        sizes = [
            "x".join(map(str, x)) for x in (dataset.image_shape, views.image_shape)
        ]
        raise InvalidInputError(
            f"image_size gives images of {sizes[0]}, but {name} was made with images "
            f"of {sizes[1]}. Use {views.image_shape[0]}, or record again.",
            argument="image_size",
        )
    rows = len(dataset.train.labels)
    if rows != views.rows:
        raise InvalidInputError(
            f"dataset {dataset.name} has {rows:,} training rows, but {name} was made "
            f"with {views.rows:,}. Use the same rows (--subset, --train-split), or "
            "record again.",
            argument="dataset",
        )
    if dataset.fingerprint != views.fingerprint:
        raise InvalidInputError(
            f"dataset {dataset.name} has the fingerprint {dataset.fingerprint}, but "
            f"{name} was made with {printable(views.fingerprint)}: the images, their "
            "order or how they are loaded differ. Load the dataset as before, or "
            "record again.",
            argument="dataset",
        )
    if dataset.class_names != class_names:
        both = zip(dataset.class_names, class_names, strict=False)
        differing = next((f"{x} and {y}" for x, y in both if x != y), None)
        counts = f"{len(dataset.class_names)} and {len(class_names)} classes"
        raise InvalidInputError(
            f"dataset {dataset.name} and {name} have other classes "
            f"({printable(differing or counts)}). Load the dataset as before, or "
            "record again.",
            argument="dataset",
        )

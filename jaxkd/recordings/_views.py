"""Which images a teacher saw."""

from typing import Any, NamedTuple

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data import Augmentation, ImageDataset, RandAugment, steps_per_epoch


class Views(NamedTuple):
    """The training images that a teacher saw, in which order and augmentation.

    The order of an epoch and the augmentation of a step depend only on the data seed,
    the batch size and the step. Every run with the same views therefore shows its
    student the images that the teacher saw.

    Attributes:
        dataset: Name of the dataset.
        fingerprint: Its fingerprint.
        rows: Number of training rows.
        image_shape: Height, width and channels of the images.
        epochs: Number of augmented epochs; 0 for clean images, one answer per row.
        batch_size: Number of images in a batch. The views of an augmented epoch depend
            on it; clean images do not.
        data_seed: Seed of order and augmentation, or None for clean images.
        augmentation: Settings of the augmentation, or None for clean images.
    """

    dataset: str
    fingerprint: str
    rows: int
    image_shape: tuple[int, int, int]
    epochs: int
    batch_size: int
    data_seed: int | None
    augmentation: Augmentation | None

    @classmethod
    def of(
        cls, dataset: ImageDataset, *, epochs: int, batch_size: int, data_seed: int
    ) -> "Views":
        """Describe the views of a training run.

        Args:
            dataset: The dataset, with the augmentation of the run.
            epochs: Number of epochs; 0 for clean images.
            batch_size: Number of images in a batch.
            data_seed: Seed of order and augmentation; unused for clean images.

        Raises:
            InvalidInputError: If a number is out of range, or several epochs of a
                dataset without augmentation are asked for, which are all equal.
        """
        _checks.check_at_least(0, epochs=epochs)
        rows = len(dataset.train.labels)
        steps_per_epoch(rows, batch_size)  # checks the batch size
        augmentation = None
        if epochs:
            _checks.check_seed(data_seed=data_seed)
            augmentation = plain(dataset.augmentation)
            if not is_on(augmentation):
                raise InvalidInputError(
                    f"epochs is {epochs}, but {dataset.name} has no augmentation here: "
                    "the teacher would see the same images in every epoch. Use 0, "
                    "which records one answer per image for any number of epochs.",
                    argument="epochs",
                )
        return cls(
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            rows=rows,
            image_shape=dataset.image_shape,
            epochs=int(epochs),
            batch_size=int(batch_size),
            data_seed=int(data_seed) if epochs else None,
            augmentation=augmentation,
        )

    @property
    def clean(self) -> bool:
        """Whether the images are not augmented."""
        return self.epochs == 0

    @property
    def rows_per_epoch(self) -> int:
        """Number of recorded rows in an epoch.

        With augmentation, the last batch of an epoch is filled up with other views of
        the epoch's first rows.
        """
        if self.clean:
            return self.rows
        return self.steps_per_epoch * self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return -(-self.rows // self.batch_size)


def is_on(augmentation: Augmentation | None) -> bool:
    """Return whether the settings change any image."""
    if augmentation is None:
        return False
    return augmentation != Augmentation()


def plain(augmentation: Augmentation) -> Augmentation:
    """Return the settings with Python's own numbers, as JSON needs them."""
    randaugment = augmentation.randaugment
    if randaugment is not None:
        randaugment = RandAugment(int(randaugment[0]), float(randaugment[1]))
    scale = augmentation.random_resized_crop
    if scale is not None:
        scale = (float(scale[0]), float(scale[1]))
    return Augmentation(
        crop_padding=int(augmentation.crop_padding),
        flip=bool(augmentation.flip),
        randaugment=randaugment,
        mixup=float(augmentation.mixup),
        cutmix=float(augmentation.cutmix),
        random_resized_crop=scale,
    )


def describe(augmentation: Augmentation | None) -> str:
    """Describe settings of augmentation in a few words."""
    if augmentation is None or not is_on(augmentation):
        return "none"
    parts = []
    if augmentation.crop_padding:
        parts.append(f"crops with padding {augmentation.crop_padding}")
    if augmentation.random_resized_crop is not None:
        low, high = augmentation.random_resized_crop
        parts.append(f"crops of {low:g} to {high:g} of the area")
    if augmentation.flip:
        parts.append("flips")
    if augmentation.randaugment is not None:
        operations, magnitude = augmentation.randaugment
        parts.append(f"RandAugment {operations} {magnitude:g}")
    parts += [
        f"{name} {value:g}"
        for name, value in (
            ("mixup", augmentation.mixup),
            ("CutMix", augmentation.cutmix),
        )
        if value
    ]
    return ", ".join(parts)


def to_json(views: Views) -> dict[str, Any]:
    """Return the entries of a manifest."""
    content = views._asdict() | {"image_shape": list(views.image_shape)}
    augmentation = views.augmentation
    if augmentation is not None:
        content["augmentation"] = augmentation._asdict()
        if augmentation.randaugment is not None:
            content["augmentation"]["randaugment"] = list(augmentation.randaugment)
    return content


def from_json(content: dict[str, Any]) -> Views:
    """Return the views of a checked manifest."""
    augmentation = content["augmentation"]
    if augmentation is not None:
        pair = augmentation["randaugment"]
        scale = augmentation.get("random_resized_crop")
        made = {
            "randaugment": None if pair is None else RandAugment(*pair),
            "random_resized_crop": None if scale is None else tuple(scale),
        }
        augmentation = Augmentation(**{**augmentation, **made})
    height, width, channels = content["image_shape"]
    found = {name: content[name] for name in Views._fields}
    return Views(
        **found
        | {"image_shape": (height, width, channels), "augmentation": augmentation}
    )

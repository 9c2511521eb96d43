"""From the options of ``train`` and ``distill`` to a checked job."""

import dataclasses
from typing import Any

from jaxkd import _checks, data, distillers, models, reports
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._files import expand_home
from jaxkd._text import count
from jaxkd.cli import _devices, _method, _optimizer
from jaxkd.cli._datasets import options_not_given
from jaxkd.cli._options import (
    DataOptions,
    Distill,
    NetworkOptions,
    OutputOptions,
    RunOptions,
    Train,
)
from jaxkd.distillers import Distiller

MAX_SKIPPED = 10
"""Largest number of consecutive steps that ``--on-nonfinite skip`` skips."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A training run whose options are checked, as far as they need no data.

    Attributes:
        options: The options.
        arguments: The command line.
        distiller: The objective.
        mesh_axes: The size of each axis of ``--mesh``; ``None`` if it is not given.
    """

    options: Train | Distill
    arguments: list[str]
    distiller: Distiller
    mesh_axes: _devices.Axes | None

    @property
    def trials(self) -> int | None:
        """The number of students; ``None`` for one, whose state has no such axis."""
        return None if self.options.trials == 1 else self.options.trials

    @property
    def backs_off(self) -> bool:
        """Whether a loss that is not finite lowers the learning rate."""
        return self.options.on_nonfinite == "back-off"

    @property
    def max_skipped(self) -> int:
        """Largest number of consecutive steps to skip."""
        return MAX_SKIPPED if self.options.on_nonfinite == "skip" else 0

    def with_load_options(self, recorded: dict[str, Any]) -> "Job":
        """Return the job with its teacher's loading options where it has defaults.

        They become options of the job, because they are needed to load the dataset of
        the student's run folder.
        """
        given = self.options.data
        completed = dataclasses.replace(given, **options_not_given(given, recorded))
        options = dataclasses.replace(self.options, data=completed)
        return dataclasses.replace(self, options=options)

    def total_steps(self, dataset: data.ImageDataset) -> int:
        """Return the number of training steps on a dataset.

        Raises:
            InvalidInputError: If the dataset is smaller than a batch, or the run too
                short for an update.
        """
        rows, stage = len(dataset.train.labels), self.distiller.pretraining
        if self.options.batch_size > rows:
            raise InvalidInputError(
                f"--batch-size is {self.options.batch_size}, but {dataset.name} has "
                f"only {count(rows, 'training image')}. Lower --batch-size",
                argument="batch_size",
            )
        per_epoch = data.steps_per_epoch(rows, self.options.batch_size)
        steps = self.options.epochs * per_epoch
        pretraining_steps = 0 if stage is None else stage.epochs * per_epoch
        _optimizer.check_length(self.options.optimizer, steps, pretraining_steps)
        return steps


def resolve(options: Train | Distill, arguments: list[str]) -> Job:
    """Check the options of a run, before anything is read, built or written.

    Args:
        options: The options of the command line.
        arguments: The command line.

    Raises:
        InvalidInputError: If an option is out of range, unknown, or has no effect.
    """
    _check_network(options)
    _check_run(options)
    check_data(options.data)
    _check_output(options)
    _check_validation(options)
    _optimizer.check(options.optimizer)
    mesh_axes = _devices.check(options.devices)
    if isinstance(options, Distill):
        options = _with_absolute_path(options)
        _check_teacher(options)
        distiller = _method.make_distiller(options)
        options = _method.with_ramps(options)
    else:
        distiller = distillers.recipe("ce")
    return Job(options, arguments, distiller, mesh_axes)


def _check_teacher(options: Distill) -> None:
    """Check that there is exactly one teacher, and no option without effect."""
    _checks.check_at_least(0, teacher_trial=options.teacher_trial)
    if (options.teacher is None) == (not options.recorded):
        given = "both are" if options.recorded else "neither is"
        raise InvalidInputError(
            f"distill needs either --teacher or --recorded, but {given} given. Give "
            "the teacher's run folder, or a recording of its outputs (`jaxkd record`)",
            argument="teacher",
        )
    if options.recorded_weights is not None:
        weights, count_of = options.recorded_weights, len(options.recorded)
        if count_of < 2 or len(weights) != count_of:
            raise InvalidInputError(
                f"--recorded-weights has {count(len(weights), 'value')}, but "
                f"--recorded names {count(count_of, 'recording')}. Give one weight for "
                "each of two or more recordings",
                argument="recorded_weights",
            )
    if not options.recorded:
        return
    for name, given in {
        "teacher_trial": options.teacher_trial != 0,
        "teacher_dtype": options.teacher_dtype is not None,
        "equal_means": options.equal_means,
    }.items():
        if given:
            flag = "--" + name.replace("_", "-")
            raise InvalidInputError(
                f"{flag} changes the teacher's network, but --recorded has the outputs "
                f"of a network as it was recorded. Leave {flag} out, or use --teacher",
                argument=name,
            )


def _with_absolute_path(options: Distill) -> Distill:
    """Return the options with a folder of unlabeled images that any process finds."""
    if options.unlabeled is None:
        return options
    folder = expand_home(options.unlabeled, "unlabeled").absolute()
    return dataclasses.replace(options, unlabeled=folder)


def _check_network(options: NetworkOptions) -> None:
    if options.model not in models.names():
        raise unknown_name("model", options.model, models.names())
    if options.width is not None:
        _checks.check_width(width=options.width)
    if options.new_classifier and options.init is None:
        raise InvalidInputError(
            "--new-classifier has no effect, because every network without --init "
            "starts with a new classifier. Leave it out",
            argument="new_classifier",
        )


def _check_run(options: RunOptions) -> None:
    _checks.check_at_least(
        1,
        epochs=options.epochs,
        batch_size=options.batch_size,
        trials=options.trials,
    )
    _checks.check_seed(options.trials, seed=options.seed)
    _checks.check_seed(data_seed=options.data_seed)
    if options.ema is not None and not 0 < options.ema < 1:
        raise InvalidInputError(
            f"--ema must lie between 0 and 1, both excluded, got {options.ema}",
            argument="ema",
        )
    if options.on_nonfinite == "back-off" and options.trials > 1:
        raise InvalidInputError(
            "--on-nonfinite back-off lowers the learning rate of a run, which its "
            f"{options.trials} trials share. Train them in separate runs, or use "
            "--on-nonfinite skip",
            argument="on_nonfinite",
        )


def check_data(options: DataOptions) -> None:
    """Check the options of a dataset, as far as they need no data.

    Raises:
        InvalidInputError: If an option is out of range or has no effect.
    """
    _checks.check_at_least(0, workers=options.workers)
    if options.workers and not options.stream:
        raise InvalidInputError(
            f"--workers is {options.workers}, but workers read streamed images only. "
            "Add --stream or leave --workers out",
            argument="workers",
        )
    for name in ("image_size", "test_resize", "subset"):
        if (value := getattr(options, name)) is not None:
            _checks.check_at_least(1, **{name: value})
    if options.crop_padding is not None:
        _checks.check_at_least(0, crop_padding=options.crop_padding)
    for name in ("mixup", "cutmix"):
        value = getattr(options, name)
        if not 0 <= value < float("inf"):
            raise InvalidInputError(
                f"--{name} must be a finite number of at least 0, got {value}",
                argument=name,
            )
    if options.randaugment is not None:
        _check_randaugment(*options.randaugment)
    if options.random_resized_crop is not None:
        _check_random_resized_crop(options)


def _check_validation(options: Train | Distill) -> None:
    """Check that epochs are chosen by validation images, not by the test set."""
    if options.patience is not None:
        _checks.check_at_least(1, patience=options.patience)
    if options.data.validation is not None:
        _checks.check_fraction(validation=options.data.validation)
        return
    for name, given in (
        ("keep", options.keep and "--keep best"),
        ("patience", options.patience and f"--patience {options.patience}"),
    ):
        if given:
            raise InvalidInputError(
                f"{given} needs validation images, because nothing is chosen by the "
                "test accuracy. Add --validation 0.1 to hold a tenth of the training "
                "images out",
                argument=name,
            )


def _check_randaugment(operations: int, magnitude: float) -> None:
    if operations < 1 or not 0 <= magnitude <= 10:
        raise InvalidInputError(
            f"--randaugment is {operations} {magnitude:g}, but it must be at least 1 "
            "operation per image and a magnitude from 0 to 10, such as 2 9",
            argument="randaugment",
        )


def _check_random_resized_crop(options: DataOptions) -> None:
    assert options.random_resized_crop is not None
    low, high = options.random_resized_crop
    if not 0 < low <= high <= 1:
        raise InvalidInputError(
            f"--random-resized-crop is {low:g} {high:g}, but it must be the smallest "
            "and the largest share of an image's area, above 0 and at most 1, such as "
            "0.08 1",
            argument="random_resized_crop",
        )
    if options.crop_padding:
        raise InvalidInputError(
            f"--crop-padding is {options.crop_padding}, but --random-resized-crop "
            "replaces the crop of the padded image. Leave one of them out",
            argument="crop_padding",
        )


def _check_output(options: OutputOptions) -> None:
    if options.checkpoint_every is not None:
        _checks.check_at_least(1, checkpoint_every=options.checkpoint_every)
    _checks.check_positive(checkpoint_minutes=options.checkpoint_minutes)
    if options.wandb is not None:
        reports.require_wandb()

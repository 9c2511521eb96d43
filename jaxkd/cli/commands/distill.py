"""``jaxkd distill``."""

from typing import NamedTuple

from jaxkd import data, runs, training
from jaxkd._messages import announce
from jaxkd.cli import _devices, _method, _recorded
from jaxkd.cli._datasets import add_unlabeled, check_images, load_dataset
from jaxkd.cli._job import Job, resolve
from jaxkd.cli._options import Distill
from jaxkd.cli._train_network import Teacher, center_classifier, join, train_network


class _Loaded(NamedTuple):
    """A job with its teacher and dataset.

    Attributes:
        job: The job, with the teacher's options where it has defaults.
        source: The dataset's name.
        dataset: The dataset.
        teacher: The teacher.
    """

    job: Job
    source: str
    dataset: data.ImageDataset
    teacher: Teacher


def run(options: Distill, arguments: list[str]) -> None:
    """Train a student with the help of a trained teacher, or of its outputs."""
    job = resolve(options, arguments)
    join(job)
    load = _load_recorded if options.recorded else _load
    loaded = training.all_or_none(
        lambda: load(job, options), _devices.ANOTHER_PROCESS_FAILED
    )
    if training.is_first() and not options.resume:
        _method.warn_of_short_run(options)
    train_network(*loaded, equal_means=options.equal_means)


def _load(job: Job, options: Distill) -> _Loaded:
    """Load the teacher, and the rows of the dataset at the teacher's image size."""
    assert options.teacher is not None
    announce(f"loading {options.teacher}")
    loaded = runs.load_network(options.teacher, trial=options.teacher_trial)
    source = runs.source_of(loaded, options.dataset)
    if options.dataset is None:
        job = job.with_load_options(loaded.load_options)
    dataset = load_dataset(source, job.options.data)
    dataset = add_unlabeled(dataset, options.unlabeled, job.options.data)
    check_images(loaded, dataset)
    if difference := runs.class_difference(loaded, dataset):
        _method.check_other_classes(options, difference)
    module = loaded.module
    if options.equal_means:
        module = center_classifier(module, "teacher")
    frozen = training.freeze_teacher(module, loaded.normalization)
    # Its fingerprint is that of the stored teacher, in whichever dtype it computes.
    description = runs.describe_teacher(options.teacher, options.teacher_trial, frozen)
    if options.teacher_dtype is not None:
        frozen = training.freeze_teacher(
            module, loaded.normalization, dtype=options.teacher_dtype
        )
    teacher = Teacher(frozen, description, other_classes=bool(difference))
    return _Loaded(job, source, dataset, teacher)


def _load_recorded(job: Job, options: Distill) -> _Loaded:
    """Open the recording, and load the dataset as it was recorded."""
    recording = _recorded.open_recordings(options)
    options = _recorded.with_recorded_options(options, job.arguments, recording)
    job = resolve(options, job.arguments)
    source = _recorded.source_of(options, recording)
    dataset = load_dataset(source, job.options.data)
    dataset = add_unlabeled(dataset, options.unlabeled, job.options.data)
    teacher = Teacher(
        recording,
        runs.describe_recorded_teacher(recording),
        runs.describe_recording(recording, options.recorded),
    )
    return _Loaded(job, source, dataset, teacher)

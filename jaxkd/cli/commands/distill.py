"""``jaxkd distill``."""

from jaxkd import data, runs, training
from jaxkd.cli import _devices
from jaxkd.cli._datasets import check_fits, load_dataset
from jaxkd.cli._job import Job, resolve
from jaxkd.cli._options import Distill
from jaxkd.cli._train_network import Teacher, center_classifier, join, train_network


def run(options: Distill, arguments: list[str]) -> None:
    """Train a student with the help of a trained teacher."""
    job = resolve(options, arguments)
    join(job)
    loaded, job, source, dataset = training.all_or_none(
        lambda: _load(job, options), _devices.ANOTHER_PROCESS_FAILED
    )
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
    train_network(
        job,
        source,
        dataset,
        Teacher(frozen, description),
        equal_means=options.equal_means,
    )


def _load(
    job: Job, options: Distill
) -> tuple[runs.LoadedNetwork, Job, str, data.ImageDataset]:
    """Load the teacher, and the rows of the dataset at the teacher's image size.

    Returns:
        The teacher, the job, the dataset's name, and the dataset.
    """
    teacher = runs.load_network(options.teacher, trial=options.teacher_trial)
    source = runs.source_of(teacher, options.dataset)
    if options.dataset is None:
        job = job.with_load_options(teacher.load_options)
    dataset = load_dataset(source, job.options.data)
    check_fits(teacher, dataset)
    return teacher, job, source, dataset

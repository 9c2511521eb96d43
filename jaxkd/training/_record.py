"""Record a teacher's outputs for the images that its students will see."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from rich.console import Console

from jaxkd import recordings
from jaxkd._errors import Interrupted, InvalidInputError
from jaxkd._files import expand_home
from jaxkd.data import Augmentation, ImageDataset, channel_statistics
from jaxkd.recordings._manifest import LAYER
from jaxkd.training._experiment import frozen_teacher
from jaxkd.training._progress import FitProgress
from jaxkd.training._shown import Shown, as_shown, outputs_of
from jaxkd.training._step import FrozenNetwork
from jaxkd.training._step.verify import verify_inference_mode

_GROUPS = ("logits", "embedding", "stages", "preactivations")

Shapes = dict[str, tuple[int, ...]]
"""The shape of a row of each output, by name: ``logits``, ``stages.2``."""


def record(
    teacher: FrozenNetwork | nnx.Module,
    dataset: ImageDataset,
    path: str | os.PathLike,
    *,
    epochs: int,
    outputs: Sequence[str] | None = None,
    batch_size: int = 64,
    data_seed: int = 0,
    augmentation: Augmentation | None = None,
    dtype: str = "float32",
    top_k: int | None = None,
    about: Mapping[str, Any] | None = None,
    load_options: Mapping[str, Any] | None = None,
    resume: bool = True,
    stop: Callable[[], bool] | None = None,
    console: Console | None = None,
) -> recordings.Recording:
    """Record a teacher's outputs for the training images, as its students see them.

    Order and augmentation of a run depend on the data seed, the batch size and the step
    only. All students of the same views can therefore be distilled from one recording:
    pass it to :func:`compile_program` as ``teacher``. On CPU, a float32 recording has
    the bits that the teacher computes inside a run.

    Args:
        teacher: The frozen teacher (:func:`freeze_teacher`). A module is frozen with
            the dataset's normalization.
        dataset: The dataset, whose training images are shown to the teacher.
        path: The folder to create.
        epochs: Epochs that a run can take, including epochs of pretraining; 0 for one
            answer per image without augmentation, which fits runs of any length
            without augmentation.
        outputs: Names of the outputs to record: ``"logits"``, ``"embedding"``,
            ``"stages"`` or ``"preactivations"`` for all of these feature maps,
            ``"stages.2"`` for one of them. Other names are paths of layers
            (:func:`jaxkd.models.layers`), as methods name them: ``"blocks.-1"``. By
            default the logits, and the embedding if the network has one.
        batch_size: Examples in a batch of the run.
        data_seed: The seed of order and augmentation of the run.
        augmentation: The augmentation of the run. By default it is the dataset's.
        dtype: ``"float32"``, or ``"float16"`` for half the size.
        top_k: Number of largest logits to record of each image; all by default.
        about: Facts about the teacher for the recording's manifest.
        load_options: How the dataset was loaded, for the manifest.
        resume: Whether to continue a recording with the same settings that is in the
            folder already, after its last complete epoch. The number of epochs may be
            larger than before.
        stop: Called before each batch. If it returns True, recording ends early, and
            can be resumed after the last complete epoch.
        console: Where to show size and progress; by default nowhere.

    Returns:
        The recording.

    Raises:
        InvalidInputError: If a setting is out of range, an output does not exist,
            ``epochs`` is 0 but the images are augmented, the folder is taken, or the
            disk has too little free space.
        Interrupted: If ``stop`` returned True before the end.
    """
    console = console or Console(quiet=True)
    dataset = as_shown(dataset, epochs, augmentation)
    views = recordings.Views.of(
        dataset, epochs=epochs, batch_size=batch_size, data_seed=data_seed
    )
    if not isinstance(teacher, FrozenNetwork):
        teacher = frozen_teacher(teacher, channel_statistics(dataset.train.images))
    teacher, available, chosen = _choose(teacher, dataset, outputs)
    path = expand_home(path, "path")
    with recordings.create(
        path,
        views,
        class_names=dataset.class_names,
        teacher=about,
        dtype=dtype,
        top_k=top_k,
        load_options=load_options,
        available=tuple(available),
        resume=resume,
    ) as writer:
        planned = recordings.describe_size(views, chosen, dtype=dtype, top_k=top_k)
        console.print(f"{path}: {planned}", highlight=False, soft_wrap=True)
        shown = Shown(
            *(dataset, views, teacher),
            lambda lesson: (outputs_of(lesson.teacher, chosen), lesson.rows),
        )
        _write(writer, shown, stop, console)
        writer.finish(teacher.classifier)
    return recordings.open(path)


def _choose(
    teacher: FrozenNetwork, dataset: ImageDataset, outputs: Sequence[str] | None
) -> tuple[FrozenNetwork, Shapes, Shapes]:
    """Return the teacher with the layers to record, and its and the chosen outputs."""
    names = list(("logits", "embedding") if outputs is None else outputs)
    paths = [name for name in names if name.partition(".")[0] not in _GROUPS]
    if several := [path for path in paths if "*" in path]:
        raise InvalidInputError(
            f"outputs names {several[0]!r}, which stands for several layers; name each "
            "by its path",
            argument="outputs",
        )
    teacher = teacher.with_layers([path.removeprefix(LAYER) for path in paths])
    try:
        available = _shapes(teacher, dataset)
    except InvalidInputError as error:
        if error.argument != "layers":
            raise
        raise InvalidInputError(
            f"outputs names other things than {', '.join(_GROUPS)}, so they must be "
            f"paths of layers: {error}",
            argument="outputs",
        ) from None
    names = [f"{LAYER}{x.removeprefix(LAYER)}" if x in paths else x for x in names]
    if outputs is None and "embedding" not in available:
        names.remove("embedding")
    return teacher, available, choose_outputs(names, available)


def choose_outputs(names: Sequence[str], available: Shapes) -> Shapes:
    """Return the shapes of the outputs with given names.

    Args:
        names: Names of outputs; ``"stages"`` stands for all that begin with it.
        available: The outputs that the teacher has.

    Raises:
        InvalidInputError: If there is no such output. The message lists all of them.
    """
    chosen = set()
    for name in names:
        group = name if name in _GROUPS else None
        found = {x for x in available if name == x or x.partition(".")[0] == group}
        if not found:
            listed = [
                f"{x} ({' x '.join(map(str, shape))})" for x, shape in available.items()
            ]
            raise InvalidInputError(
                f"outputs names {name!r}, but the outputs of the teacher are "
                f"{', '.join(listed)}",
                argument="outputs",
            )
        chosen |= found
    if not chosen:
        raise InvalidInputError(
            "outputs is empty, so there is nothing to record. Name logits or others.",
            argument="outputs",
        )
    return {name: shape for name, shape in available.items() if name in chosen}


def _shapes(teacher: FrozenNetwork, dataset: ImageDataset) -> Shapes:
    """Return the shapes of all outputs; check that the teacher is one."""
    stored = dataset.train.images
    shape = tuple(stored.shape[1:])
    verify_inference_mode(teacher, shape, stored.dtype, role="teacher")
    images = jax.ShapeDtypeStruct((1, *shape), stored.dtype)
    output = jax.eval_shape(teacher.apply, teacher.variables, images)
    return {name: tuple(x.shape[1:]) for name, x in outputs_of(output).items()}


def _write(
    writer: recordings.Writer,
    shown: Shown,
    stop: Callable[[], bool] | None,
    console: Console,
) -> None:
    """Write the epochs that are not complete."""
    first, steps = writer.next_epoch, shown.steps_per_epoch
    progress = FitProgress(
        console,
        "recording",
        epochs=shown.epochs,
        steps_per_epoch=steps,
        completed=first * steps,
    )
    with progress, shown.feeding():
        for epoch in range(first, shown.epochs):
            started = time.perf_counter()
            writer.begin_epoch()
            for place, (outputs, rows) in enumerate(shown.epoch(epoch)):
                if stop is not None and stop():
                    raise Interrupted(
                        epoch * steps,
                        f"interrupted with {epoch} of {shown.epochs} epochs recorded",
                    )
                writer.append(outputs, rows=rows)
                progress.show_step(epoch * steps + place + 1, epoch + 1, {})
            writer.end_epoch()
            seconds = time.perf_counter() - started
            speed = steps * shown.batch_size / seconds
            progress.show_epoch({"epoch": epoch + 1, "images_per_second": speed})

"""``jaxkd record``."""

import dataclasses
import sys
from typing import Any

from jaxkd import _checks, data, recordings, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd._messages import announce
from jaxkd._text import shell_line
from jaxkd.cli import _pipes, _signals
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import (
    add_unlabeled,
    check_images,
    load_dataset,
    options_not_given,
)
from jaxkd.cli._job import check_data
from jaxkd.cli._options import Record
from jaxkd.cli._recorded import RECORDED_OPTIONS

_STOPPING = "stopping after the current batch; complete epochs are kept"


def run(options: Record, arguments: list[str]) -> None:
    """Record a teacher's outputs for all training images."""
    del arguments
    _check(options)
    announce(f"loading {options.teacher}")
    loaded = runs.load_network(options.teacher, trial=options.teacher_trial)
    source = runs.source_of(loaded, options.dataset)
    if options.dataset is None:
        completed = options_not_given(options.data, loaded.load_options)
        own = dataclasses.replace(options.data, **completed)
        options = dataclasses.replace(options, data=own)
    dataset = load_dataset(source, options.data)
    dataset = add_unlabeled(dataset, options.unlabeled, options.data)
    check_images(loaded, dataset)
    _check_classes(options, runs.class_difference(loaded, dataset))
    frozen = training.freeze_teacher(loaded.module, loaded.normalization)
    # Its fingerprint is that of the stored teacher, in whichever dtype it computes.
    described = runs.describe_teacher(options.teacher, options.teacher_trial, frozen)
    if options.teacher_dtype is not None:
        frozen = training.freeze_teacher(
            loaded.module, loaded.normalization, dtype=options.teacher_dtype
        )
    stdout: Any = _pipes.UntilClosed(sys.stdout)
    console = Console(file=stdout)
    with _signals.stop_when_asked(_STOPPING) as stop:
        recording = training.record(
            frozen,
            dataset,
            options.out,
            epochs=options.epochs,
            outputs=options.outputs,
            batch_size=options.batch_size,
            data_seed=options.data_seed,
            dtype=options.dtype,
            top_k=options.top_k,
            about={
                "name": options.teacher.absolute().name,
                "trial": options.teacher_trial,
                "dtype": options.teacher_dtype,
                **described,
            },
            load_options=_load_options(source, options),
            stop=stop,
            console=console,
        )
    console.tell(f"distill from it with: {_use(recording)}")


def _check(options: Record) -> None:
    """Check the options before anything is loaded."""
    _checks.check_at_least(
        0, epochs=options.epochs, teacher_trial=options.teacher_trial
    )
    _checks.check_at_least(1, batch_size=options.batch_size)
    if options.top_k is not None:
        _checks.check_at_least(1, top_k=options.top_k)
    _checks.check_seed(data_seed=options.data_seed)
    check_data(options.data)


def _check_classes(options: Record, difference: str) -> None:
    """Check that logits are recorded only if they belong to the dataset's classes."""
    if difference and "logits" in options.outputs:
        others = [name for name in options.outputs if name != "logits"]
        raise InvalidInputError(
            f"{difference}. Its logits are not those of the dataset's classes. To "
            "record its other outputs, for methods that compare embeddings or feature "
            f"maps, give --outputs {' '.join(others) or 'embedding'}",
            argument="outputs",
        )


def _load_options(source: str, options: Record) -> dict[str, Any]:
    """Return how the dataset was loaded, for students without the teacher's folder."""
    if data.is_path(source):
        source = str(expand_home(source, "dataset").absolute())
    named = {name: getattr(options.data, name) for name in RECORDED_OPTIONS}
    if options.unlabeled is not None:
        named["unlabeled"] = str(expand_home(options.unlabeled, "unlabeled").absolute())
    given = {name: value for name, value in named.items() if value is not None}
    return {"source": source, **given}


def _use(recording: recordings.Recording) -> str:
    """Return a command that distills from the recording."""
    words = ["jaxkd", "distill", "--recorded", str(recording.path)]
    if not recording.views.clean:
        words += ["--epochs", str(recording.views.epochs)]
    method = "" if "logits" in recording.outputs else " --method METHOD"
    return f"{shell_line(words)}{method} --model NETWORK --out RUN"

"""Run folders as a report sees them: what they have in common, and their results."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxkd import runs
from jaxkd._errors import InvalidInputError
from jaxkd.runs import _resume, _summary

# What may differ between runs that count as trials of the same experiment.
_FREE = ("seed", "data_seed", "trials", *_resume.HARMLESS)


class Trained(NamedTuple):
    """A network and what it was trained on."""

    network: str
    dataset: str


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher and its student.

    Attributes:
        teacher: The teacher's network.
        student: The student's, and the dataset.
        teacher_accuracy: On the test set, in ``[0, 1]``, if it is known.
    """

    teacher: str
    student: Trained
    teacher_accuracy: float | None = dataclasses.field(default=None, compare=False)

    @property
    def label(self) -> str:
        """How a table calls it."""
        return f"{self.teacher} → {self.student.network}, {self.student.dataset}"


class Run(NamedTuple):
    """One run folder.

    Attributes:
        folder: Where it is.
        student: The network that was trained.
        pair: With its teacher, or None if it learnt alone.
        method: The recipe, or ``student``.
        settings: All options that trials have in common.
        summary: What ``summary.json`` holds.
        curves: Test accuracies by epoch and trial.
    """

    folder: Path
    student: Trained
    pair: Pair | None
    method: str
    settings: dict[str, Any]
    summary: dict[str, Any]
    curves: list[list[float]]


class Group(NamedTuple):
    """Runs of one experiment: its trials.

    Attributes:
        student: The network that was trained.
        pair: With its teacher, or None.
        method: The recipe.
        seeds: Of all trials.
        last: Mean, deviation and values of the last epoch.
        best: The same of each trial's best epoch.
        curves: Test accuracies by epoch and trial.
    """

    student: Trained
    pair: Pair | None
    method: str
    seeds: list[int]
    last: dict[str, Any]
    best: dict[str, Any]
    curves: list[list[float]]


class UnfinishedError(InvalidInputError):
    """A run whose training has not ended."""


def read_run(folder: Path) -> Run:
    """Reads a finished run folder.

    Raises:
        UnfinishedError: If its training has not ended.
        ValueError: If it is no run folder, or does not say what a report needs.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"there is no run folder {folder}")
    config = runs.read_config(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError:
        raise UnfinishedError(
            f"{folder} has no summary.json; finish its training first (--resume)"
        ) from None
    options = dict(config["options"])
    if "trials" not in summary or not options:
        raise InvalidInputError(
            f"{folder} does not say its seeds; train it again with this version"
        )
    student = Trained(_name(config["network"]), Path(config["dataset"]["source"]).stem)
    pair, teacher = None, config.get("teacher")
    if teacher is not None:
        pair = Pair(_name(teacher["network"]), student, teacher["test_accuracy"])
    data_options = {
        key: value
        for key, value in options.pop("data", {}).items()
        if key not in _resume.HARMLESS_DATA
    }
    settings = {key: value for key, value in options.items() if key not in _FREE}
    return Run(
        folder,
        student,
        pair,
        options.get("method", "student"),
        settings | {f"data.{key}": value for key, value in data_options.items()},
        summary,
        _summary.accuracies(runs.read_metrics(folder / "metrics.jsonl")),
    )


def _name(network: dict[str, Any]) -> str:
    width = network["width"]
    return network["model"] + ("" if width is None else f" (width {width})")


def collect(runs: Sequence[Run]) -> list[Group]:
    """Groups runs that differ in their seeds alone.

    Raises:
        ValueError: If runs of the same method and networks differ in other options, or
            a seed is there twice.
    """
    together: dict[Any, list[Run]] = {}
    for run in runs:
        together.setdefault((run.student, run.pair, run.method), []).append(run)
    return [_merge(members) for members in together.values()]


def _merge(runs: list[Run]) -> Group:
    first = runs[0]
    seeds, last, best = [], [], []
    for run in runs:
        for key in sorted({*first.settings, *run.settings}):
            there, here = first.settings.get(key), run.settings.get(key)
            if there != here:
                raise InvalidInputError(
                    f"{first.folder} and {run.folder} are both {run.method} but differ "
                    f"in {key}: {there!r} and {here!r}; report them apart"
                )
        trials, data_seed = run.summary["trials"], run.summary["data_seed"]
        for seed in trials["seeds"]:
            if (seed, data_seed) in seeds:
                raise InvalidInputError(
                    f"{run.folder} repeats seed {seed} of {run.method}; give each run "
                    "once"
                )
            seeds.append((seed, data_seed))
        last += trials["test_accuracy_last"]["values"]
        best += trials["test_accuracy_best"]["values"]
    curves = [
        [value for epoch in epochs for value in epoch]
        for epochs in zip(*(run.curves for run in runs), strict=True)
    ]
    return Group(
        first.student,
        first.pair,
        first.method,
        [seed for seed, _ in seeds],
        _summary.mean_and_deviation(last),
        _summary.mean_and_deviation(best),
        curves,
    )

"""Finished runs as the comparison reads them, grouped by experiment."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxkd import runs
from jaxkd._errors import InvalidInputError

# Options that may differ between runs that count as trials of one experiment.
_SEEDS = ("seed", "data_seed", "trials")


class Trained(NamedTuple):
    """A network and the dataset it was trained on."""

    network: str
    dataset: str


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher and its student.

    Attributes:
        teacher: The teacher's network.
        student: The student's network and dataset.
        teacher_accuracy: The teacher's test accuracy in ``[0, 1]``, if it is known. It
            is not part of the pair's identity.
    """

    teacher: str
    student: Trained
    teacher_accuracy: float | None = dataclasses.field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Title of the pair's column."""
        return f"{self.teacher} → {self.student.network}, {self.student.dataset}"


class Run(NamedTuple):
    """One finished run.

    Attributes:
        folder: Its run folder.
        student: The network that was trained.
        pair: The same with its teacher; None if it was trained without one.
        method: Name of the recipe, or ``student`` without a teacher.
        settings: All options that trials of one experiment have in common.
        summary: Contents of its ``summary.json``.
        curves: Test accuracies, by epoch and trial.
    """

    folder: Path
    student: Trained
    pair: Pair | None
    method: str
    settings: dict[str, Any]
    summary: dict[str, Any]
    curves: list[list[float]]


class Group(NamedTuple):
    """All trials of one experiment.

    Attributes:
        student: The network that was trained.
        pair: The same with its teacher; None if it was trained without one.
        method: Name of the recipe.
        seeds: Seeds of the trials.
        last: Mean, deviation and values of the last epoch's test accuracy.
        best: The same of the best epoch, which each trial has for itself.
        curves: Test accuracies, by epoch and trial.
    """

    student: Trained
    pair: Pair | None
    method: str
    seeds: list[int]
    last: dict[str, Any]
    best: dict[str, Any]
    curves: list[list[float]]


class UnfinishedError(InvalidInputError):
    """The training of a run has not finished."""


def read_run(folder: Path) -> Run:
    """Read a finished run from its folder.

    Raises:
        UnfinishedError: If the training of the run has not finished.
        ValueError: If the folder is not a run folder, or lacks what a comparison needs.
    """
    if not folder.is_dir():
        raise InvalidInputError(
            f"there is no run folder {folder}. Check the path.", argument="folder"
        )
    config = runs.read_config(folder)
    summary = runs.read_summary(folder)
    if summary is None:
        raise UnfinishedError(
            f"{folder} has no {runs.RunFolder(folder).summary.name}, because its "
            "training has not finished. Continue it with --resume.",
            argument="folder",
        )
    if "trials" not in summary or not config["options"]:
        raise InvalidInputError(
            f"{folder} does not record its seeds. Train it again with this version.",
            argument="folder",
        )
    student = Trained(
        _name(config["network"]), Path(config["dataset"]["source"] or "").stem
    )
    pair, teacher = None, config.get("teacher")
    if teacher is not None:
        pair = Pair(_name(teacher["network"]), student, teacher["test_accuracy"])
    return Run(
        folder,
        student,
        pair,
        config["options"].get("method", "student"),
        _settings(config),
        summary,
        runs.accuracies(runs.read_metrics(folder)),
    )


def _name(network: dict[str, Any]) -> str:
    width = network["width"]
    return network["model"] + ("" if width is None else f" (width {width})")


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options that trials have in common, those of the data by path."""
    options = runs.effective_options(config)
    data_options = options.pop("data", {})
    settings = {key: value for key, value in options.items() if key not in _SEEDS}
    return settings | {f"data.{key}": value for key, value in data_options.items()}


def collect(finished: Sequence[Run]) -> list[Group]:
    """Group the runs that differ only in their seeds.

    Raises:
        ValueError: If runs of the same method and networks differ in other options, or
            a seed occurs twice.
    """
    groups: dict[Any, list[Run]] = {}
    for run in finished:
        groups.setdefault((run.student, run.pair, run.method), []).append(run)
    return [_merge(members) for members in groups.values()]


def _merge(members: list[Run]) -> Group:
    first = members[0]
    seeds, last, best = [], [], []
    for run in members:
        _check_same_settings(first, run)
        trials, data_seed = run.summary["trials"], run.summary["data_seed"]
        for seed in trials["seeds"]:
            if (seed, data_seed) in seeds:
                raise InvalidInputError(
                    f"{run.folder} repeats seed {seed} of {run.method}. Give each run "
                    "once.",
                    argument="runs",
                )
            seeds.append((seed, data_seed))
        last += trials["test_accuracy_last"]["values"]
        best += trials["test_accuracy_best"]["values"]
    curves = [
        [value for epoch in epochs for value in epoch]
        for epochs in zip(*(run.curves for run in members), strict=True)
    ]
    return Group(
        first.student,
        first.pair,
        first.method,
        [seed for seed, _ in seeds],
        runs.mean_and_deviation(last),
        runs.mean_and_deviation(best),
        curves,
    )


def _check_same_settings(first: Run, other: Run) -> None:
    for key in sorted({*first.settings, *other.settings}):
        one, two = first.settings.get(key), other.settings.get(key)
        if one != two:
            raise InvalidInputError(
                f"{first.folder} and {other.folder} both use {other.method} but differ "
                f"in {key}: {one!r} and {two!r}. Report them separately.",
                argument="runs",
            )

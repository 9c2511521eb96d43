"""Group runs by experiment, and arrange the groups in a table."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd import runs
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.reports._comparison_runs import (
    STUDENT,
    Named,
    Pair,
    Run,
    Settings,
)
from jaxkd.reports._improvement import average_relative_improvement

_DEFAULT_BASELINE = "hkd+kd"
# Settings of a method's own parts, which only runs of that method can share.
_OF_ONE_METHOD = ("weights.", "settings.", "weight_warmup.", "weight_ramp")
# Settings that several methods have, but not all, and no student alone.
_OF_A_PART = ("temperature", "hkd.", "equal_means")


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """All trials of one experiment.

    Attributes:
        student: The network that was trained.
        dataset: Its dataset.
        pair: Both with the teacher; None if it was trained without one.
        method: Name of the recipe, or ``student``.
        settings: All options apart from seeds.
        seeds: Seed and data seed of each trial.
        last: Mean, deviation and values of the last epoch's test accuracy.
        best: The same of the highest test accuracy of any epoch of each trial.
        curves: Test accuracies, by epoch and trial.
        folders: The folders of its runs.
        top5: The same of the top-5 test accuracy after the last epoch; None if not all
            runs record it.
        chosen: The same of the test accuracy at the best validation accuracy.
    """

    student: str
    dataset: Named
    pair: Pair | None
    method: str
    settings: Settings
    seeds: list[tuple[int, int]]
    last: dict[str, Any]
    best: dict[str, Any]
    curves: list[list[float]]
    folders: list[Path]
    top5: dict[str, Any] | None = None
    chosen: dict[str, Any] | None = None

    @property
    def keeps_best(self) -> bool:
        """Whether the network of the best validation accuracy was kept."""
        return self.chosen is not None and self.settings.get("keep") == "best"

    @property
    def reported(self) -> dict[str, Any]:
        """The accuracies of the networks that the runs keep."""
        return self.chosen if self.keeps_best and self.chosen else self.last

    def trained_like(self, other: "Group") -> bool:
        """Return whether both differ in nothing but the method and its settings."""
        return not self.differing(other)

    def differing(self, other: "Group") -> tuple[str, ...]:
        """Return the settings that differ, apart from those of the methods."""
        ours, theirs = _shared(self.settings), _shared(other.settings)
        names = sorted(ours.keys() | theirs.keys())
        return tuple(_setting(n) for n in names if ours.get(n) != theirs.get(n))


def collect(finished: Sequence[Run]) -> list[Group]:
    """Group the runs that differ only in their seeds.

    Raises:
        ValueError: If a seed occurs twice.
    """
    groups: dict[Any, list[Run]] = {}
    for run in finished:
        settings = tuple(sorted(run.settings.items()))
        key = (run.student, run.dataset, run.pair, run.method, settings)
        groups.setdefault(key, []).append(run)
    return [_merge(members) for members in groups.values()]


def _merge(members: list[Run]) -> Group:
    first, trained = members[0], {}
    for run in members:
        for seed in run.seeds:
            if seed in trained:
                raise InvalidInputError(
                    f"{run.folder} repeats seed {seed[0]} of {run.method} with data "
                    f"seed {seed[1]}, which {trained[seed]} has. The same seed twice "
                    "is not two trials: leave one of them out.",
                    argument="runs",
                )
            trained[seed] = run.folder
    longest = max(len(run.curves) for run in members)
    stop_early = "patience" in first.settings
    if not stop_early and any(len(run.curves) < longest for run in members):
        raise InvalidInputError(
            f"{', '.join(str(run.folder) for run in members)} have the same settings, "
            "but metrics of different numbers of epochs. Leave out the damaged one.",
            argument="runs",
        )
    return Group(
        first.student,
        first.dataset,
        first.pair,
        first.method,
        first.settings,
        [seed for run in members for seed in run.seeds],
        runs.mean_and_deviation([x for run in members for x in run.last]),
        runs.mean_and_deviation([x for run in members for x in run.best]),
        [
            [value for epoch in epochs for value in epoch]
            for epochs in zip(
                *(_padded(run.curves, longest) for run in members), strict=True
            )
        ],
        [run.folder for run in members],
        _results([run.top5 for run in members]),
        _results([run.chosen for run in members]),
    )


def _padded(curves: list[list[float]], epochs: int) -> list[list[float]]:
    """Repeat the last accuracies of a run that stopped early."""
    return curves + curves[-1:] * (epochs - len(curves))


def _results(values: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Return mean, deviation and values of all runs; None if a run has none."""
    if not all(values):
        return None
    return runs.mean_and_deviation([x for each in values for x in each])


class Table:
    """Methods in rows, pairs of networks in columns.

    Runs with different teachers, students or datasets are in different columns. Runs
    with different settings are in different rows, whose names have the settings.

    Args:
        groups: The experiments.
        baseline: The method or row whose improvement over the others is shown; None
            for the default.

    Attributes:
        pairs: The columns.
        rows: The rows: the student alone first, the baseline last.
        baseline: The method or row whose improvement is shown; None if there is none.
        cells: The experiment of each pair and row.
        unused: Students alone that are in no column, because no run with a teacher has
            their network and dataset.

    Raises:
        ValueError: If no run has a teacher, or the baseline is not among the methods.
    """

    def __init__(self, groups: Sequence[Group], baseline: str | None):
        taught = [group for group in groups if group.pair is not None]
        alone = [group for group in groups if group.pair is None]
        self.pairs = list(dict.fromkeys(g.pair for g in taught if g.pair is not None))
        if not self.pairs:
            raise InvalidInputError(
                "none of the runs has a teacher. Add a run of `jaxkd distill`.",
                argument="runs",
            )
        self.cells: dict[tuple[Pair, str], Group] = {}
        for pair in self.pairs:
            column = [g for g in alone if _fits(g, pair)]
            column += [g for g in taught if g.pair == pair]
            for group in column:
                self._add(pair, _row(group, column), group)
        self.unused = [
            g for g in alone if not any(_fits(g, pair) for pair in self.pairs)
        ]
        methods = {g.method for g in taught}
        names = methods | {row for (_, row), g in self.cells.items() if g.pair}
        if baseline is None and _DEFAULT_BASELINE in methods:
            baseline = _DEFAULT_BASELINE
        if baseline is not None and baseline not in names:
            raise unknown_name("baseline", baseline, names)
        self.baseline = baseline
        self.rows = sorted({row for _, row in self.cells}, key=self._place)

    def _add(self, pair: Pair, row: str, group: Group) -> None:
        other = self.cells.setdefault((pair, row), group)
        if other is not group:
            raise InvalidInputError(
                f"{other.folders[0]} and {group.folders[0]} differ, but both are "
                f"called {row}. Report them separately.",
                argument="runs",
            )

    def _place(self, row: str) -> tuple[int, str]:
        """Return the key by which rows are sorted."""
        group = next(g for (_, name), g in self.cells.items() if name == row)
        first, last = group.method == STUDENT, self._is_baseline(row, group)
        return (0 if first else 2 if last else 1), row

    def _is_baseline(self, row: str, group: Group) -> bool:
        return self.baseline is not None and self.baseline in (row, group.method)

    def labels(self) -> dict[Pair, str]:
        """Return the titles of the columns, with fingerprints where names are equal."""
        return {
            pair: f"{teacher} → {pair.student}, {dataset}"
            for pair, (teacher, dataset) in self.names().items()
        }

    def names(self) -> dict[Pair, tuple[str, str]]:
        """Return unique names of each pair's teacher and dataset.

        If columns share a name but differ in the teacher or dataset, a fingerprint
        follows the name.
        """
        found = {}
        for pair in self.pairs:
            alike = [other for other in self.pairs if _title(other) == _title(pair)]
            found[pair] = (
                _distinct(pair.teacher, [other.teacher for other in alike]),
                _distinct(pair.dataset, [other.dataset for other in alike]),
            )
        return found

    def improvement(self, row: str) -> float | None:
        """Return the baseline's ARI over a row; None if it is not defined."""
        means = [[g.reported["mean"] for g in groups] for groups in self.compared(row)]
        if not means:
            return None
        try:
            ours, theirs, student = zip(*means, strict=True)
            return average_relative_improvement(ours, theirs, student)
        except InvalidInputError:  # a method equals the student alone
            return None

    def is_near_tie(self, row: str) -> bool:
        """Return whether the ARI over a row divides by noise on any pair.

        One pair is enough, because the ARI is a mean of quotients.
        """
        return any(
            abs(theirs.reported["mean"] - student.reported["mean"])
            < max(theirs.reported["std"] or 0.0, student.reported["std"] or 0.0)
            for _, theirs, student in self.compared(row)
        )

    def curves(self, pair: Pair) -> dict[str, np.ndarray]:
        """Return the accuracies of a column, of shape ``[seeds, epochs]``, by row."""
        return {row: np.array(g.curves).T for row, g in self.column(pair).items()}

    def column(self, pair: Pair) -> dict[str, Group]:
        """Return the experiments of a column, by row."""
        cells = {row: self.cells.get((pair, row)) for row in self.rows}
        return {row: group for row, group in cells.items() if group is not None}

    def compared(self, row: str) -> list[tuple[Group, Group, Group]]:
        """Return baseline, row and student alone on each pair that has all three.

        They were trained with equal settings, apart from those of the methods.
        """
        found = []
        for pair in self.pairs:
            group = self.cells.get((pair, row))
            if group is None or not self._takes_improvement(row, group):
                continue
            ours, student = self.references(pair)
            like = [[g for g in gs if g.trained_like(group)] for gs in (ours, student)]
            if all(len(gs) == 1 for gs in like):
                found.append((like[0][0], group, like[1][0]))
        return found

    def incomparable(self) -> list[str]:
        """Return the rows whose ARI leaves out a pair because settings differ.

        The pair has a baseline and a student alone, but they were trained with other
        settings, or there are several baselines.
        """
        return [
            row
            for row in self.rows
            if len(self.compared(row))
            < sum(
                self._takes_improvement(row, group) and all(self.references(pair))
                for (pair, name), group in self.cells.items()
                if name == row
            )
        ]

    def _takes_improvement(self, row: str, group: Group) -> bool:
        return (
            self.baseline is not None
            and group.method != STUDENT
            and not self._is_baseline(row, group)
        )

    def references(self, pair: Pair) -> tuple[list[Group], list[Group]]:
        """Return the baselines and the students alone of a column."""
        column = [(row, g) for (its, row), g in self.cells.items() if its == pair]
        ours = [g for row, g in column if self._is_baseline(row, g)]
        return ours, [g for _, g in column if g.method == STUDENT]


def _fits(group: Group, pair: Pair) -> bool:
    """Return whether a student alone is the student of a pair."""
    return (group.student, group.dataset) == (pair.student, pair.dataset)


def _row(group: Group, column: Sequence[Group]) -> str:
    """Return the name of a group's row: its method, and what differs in the column."""
    names = {name for other in column for name in other.settings}
    differing = [
        f"{_setting(name)} {group.settings.get(name, 'default')}"
        for name in sorted(names)
        if len({g.settings.get(name) for g in _peers(name, group, column)}) > 1
    ]
    return group.method + (f" ({', '.join(differing)})" if differing else "")


def _peers(name: str, group: Group, column: Sequence[Group]) -> list[Group]:
    """Return the groups of a column that could have the same value of a setting."""
    same_method = [other for other in column if other.method == group.method]
    if name.startswith(_OF_ONE_METHOD):
        return same_method
    if name.startswith(_OF_A_PART):
        if not any(name in other.settings for other in same_method):
            return []
        return same_method + [other for other in column if name in other.settings]
    return list(column)


def _setting(name: str) -> str:
    """Return the name of a setting as a row shows it."""
    return re.sub(r"^(optimizer|data|settings)\.", "", name).replace("_", " ")


def _shared(settings: Settings) -> Settings:
    own = (*_OF_ONE_METHOD, *_OF_A_PART)
    return {k: v for k, v in settings.items() if not k.startswith(own)}


def _title(pair: Pair) -> tuple[str, str, str]:
    return pair.teacher.name, pair.student, pair.dataset.name


def _distinct(one: Named, alike: Sequence[Named]) -> str:
    if len(set(alike)) == 1:
        return one.name
    return f"{one.name} ({_short(one.identity)})"


def _short(identity: str) -> str:
    """Shorten the checksums in an identity to eight digits."""
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]+\b", r"\1", identity)

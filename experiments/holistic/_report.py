"""Tabulate and draw the stored numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._numbers import mean_and_deviation
from experiments.holistic import _methods
from experiments.holistic._evidence import Difference, Evidence, paired
from experiments.studies import _tables

ALONE, KD, KD_FULL = "alone", "KD", "KD, full labels"
# From few labels to all, then from right labels to wrong ones.
FEWER = ("10 labels", "100 labels", "1000 labels", "all labels")
NOISIER = ("all labels", "20 % noise", "40 % noise")
_EMBEDDINGS = {
    "accuracy": "accuracy",
    "recall": "recall@1",
    "new_recall": "recall@1, new classes",
    "new_probe": "linear probe, new classes",
}


def _measured(evidence: Evidence, student: str, scenario: str) -> list[str]:
    """Return the methods of a student in a scenario, in the order of the methods."""
    return [
        method
        for method in _methods.METHODS
        if f"{student}; {scenario}; {method}" in evidence.cells
    ]


def methods(evidence: Evidence) -> str:
    """Tabulate the methods with all labels, one table for each measured student."""
    scenario = "all labels"
    students = dict.fromkeys(name.split("; ")[0] for name in evidence.cells)
    return "\n\n".join(
        _methods_of(evidence, student)
        for student in students
        if _measured(evidence, student, scenario)
    )


def _methods_of(evidence: Evidence, student: str) -> str:
    scenario = "all labels"

    def of(method: str, what: str) -> np.ndarray:
        return evidence.values(student, scenario, method, what)

    def accuracy(method: str) -> float:
        return of(method, "accuracy").mean()

    (teacher,) = evidence.values("teacher", scenario, "", "accuracy")
    (recall,) = evidence.values("teacher", scenario, "", "recall")
    rows = [["teacher", "", f"{teacher:.2f}", "", "", f"{recall:.2f}"]]
    found = _measured(evidence, student, scenario)
    for method in sorted(found, key=accuracy, reverse=True):
        cell = evidence.cells[f"{student}; {scenario}; {method}"]
        name = _methods.METHODS[method].hyperparameter
        rows.append(
            [
                method,
                f"{cell['learning_rate']:g}; {name} {cell['value']:g}",
                mean_and_deviation(of(method, "accuracy")),
                *(
                    str(paired(of(method, "accuracy"), of(base, "accuracy")))
                    if method != base
                    else ""
                    for base in (ALONE, KD_FULL)
                ),
                mean_and_deviation(of(method, "recall")),
            ]
        )
    head = [student, "learning rate; setting", "test accuracy (%)", "over alone"]
    return _tables.markdown([*head, f"over {KD_FULL}", "recall@1 (%)"], rows)


def scenarios(evidence: Evidence) -> str:
    """Tabulate the accuracy by labels, and what HKD adds to KD, seed by seed."""
    shown = _complete(evidence, (*FEWER[:3], *NOISIER))
    rows = [
        [
            method,
            *(
                mean_and_deviation(evidence.values("MLP", s, method, "accuracy"))
                for s in shown
            ),
        ]
        for method in _methods.COMPARED
    ]
    for one, other in (
        ("HKD", ALONE),
        ("HKD", KD),
        ("HKD+KD", KD_FULL),
        ("HKD+KD", KD),
    ):
        differences = [_between(evidence, s, one, other, "accuracy") for s in shown]
        rows.append([f"{one} - {other}", *map(str, differences)])
    return _tables.markdown(["", *shown], rows)


def _complete(evidence: Evidence, names: Sequence[str]) -> list[str]:
    """Return the scenarios in which all methods are measured."""
    return [
        name
        for name in names
        if set(_methods.COMPARED) <= set(_measured(evidence, "MLP", name))
    ]


def embeddings(evidence: Evidence) -> str:
    """Tabulate accuracy and embeddings of networks that saw five classes."""
    scenario = "five classes"
    rows = [
        [
            name or "teacher",
            *(
                mean_and_deviation(evidence.values(student, scenario, name, what))
                for what in _EMBEDDINGS
            ),
        ]
        for student, name in (("teacher", ""), *(("MLP", m) for m in _methods.COMPARED))
    ]
    for one, other in (
        ("HKD", ALONE),
        ("HKD", KD),
        ("HKD+KD", KD_FULL),
        ("PKT+KD", KD_FULL),
    ):
        found = [_between(evidence, scenario, one, other, w) for w in _EMBEDDINGS]
        rows.append([f"{one} - {other}", *map(str, found)])
    return _tables.markdown(["", *_EMBEDDINGS.values()], rows)


def _between(
    evidence: Evidence, scenario: str, one: str, other: str, what: str
) -> Difference:
    return paired(
        evidence.values("MLP", scenario, one, what),
        evidence.values("MLP", scenario, other, what),
    )


def draw_methods(evidence: Evidence) -> Figure:
    """Draw the paired differences of all methods with their intervals."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    found = _measured(evidence, "MLP", "all labels")
    ranked = sorted(
        found, key=lambda m: evidence.values("MLP", "all labels", m, "accuracy").mean()
    )
    for axes, base in zip(panels, (ALONE, KD_FULL), strict=True):
        for place, method in enumerate(ranked):
            if method != base:
                difference = _between(evidence, "all labels", method, base, "accuracy")
                _draw_interval(axes, place, difference, _color(method))
        axes.axvline(0, color=_tables.GRAY, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_xlabel(f"points of accuracy over {base}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.9", linewidth=0.8)
    panels[0].set_yticks(range(len(ranked)), ranked)
    return figure


def draw_scenarios(evidence: Evidence) -> Figure:
    """Draw the accuracy by the number of labels and by the share of wrong ones."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, every in zip(panels, (FEWER, NOISIER), strict=True):
        names = _complete(evidence, every)
        for shift, (method, style) in enumerate(_STYLES.items()):
            values = np.stack(
                [evidence.values("MLP", name, method, "accuracy") for name in names]
            )
            at = np.arange(len(names)) + 0.06 * (shift - 2.5)
            axes.plot(at, values.mean(1), style, label=method, color=_color(method))
            axes.plot(at, values, ".", color=_color(method), ms=3, alpha=0.6)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("test accuracy (%)")
        _tables.tidy(axes)
    panels[0].set_xlabel("labeled images of each class")
    panels[1].set_xlabel("share of wrong labels")
    panels[0].legend(frameon=False)
    return figure


def draw_embeddings(evidence: Evidence) -> Figure:
    """Draw the accuracy and the scores of the embeddings, every student as a dot."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, len(_EMBEDDINGS))
    for axes, (what, title) in zip(panels, _EMBEDDINGS.items(), strict=True):
        for place, method in enumerate(_methods.COMPARED):
            values = evidence.values("MLP", "five classes", method, what)
            place_of_all = np.full(len(values), place)
            axes.plot(place_of_all, values, "o", color=_color(method), ms=4, alpha=0.6)
            axes.plot(place, values.mean(), "_", color=_color(method), ms=16)
        axes.set_title(f"{title} (%)", fontsize=9)
        axes.set_xticks(
            range(len(_methods.COMPARED)), _methods.COMPARED, rotation=45, ha="right"
        )
        _tables.tidy(axes)
    return figure


def _draw_interval(axes: Axes, place: int, found: Difference, color: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=color, linewidth=2)
    axes.plot(found.mean, place, "o", color=color)


def _color(method: str) -> str:
    if method.startswith("HKD"):
        return _tables.ORANGE
    return _tables.GRAY if method == ALONE else _tables.BLUE


_STYLES = {
    ALONE: "o:",
    KD: "s-",
    KD_FULL: "s--",
    "PKT+KD": "v-.",
    "HKD": "o:",
    "HKD+KD": "o-",
}

TABLES: Mapping[str, Callable[[Evidence], str]] = {
    "methods": methods,
    "scenarios": scenarios,
    "embeddings": embeddings,
}
FIGURES: Mapping[str, Callable[[Evidence], Figure]] = {
    "methods": draw_methods,
    "scenarios": draw_scenarios,
    "embeddings": draw_embeddings,
}


def draw(evidence: Evidence, folder: Path) -> None:
    """Draw all figures into a folder."""
    for name, figure in FIGURES.items():
        figure(evidence).savefig(folder / f"holistic_{name}.png", dpi=150)

"""Define the cells of the experiment, measure them, and keep their numbers.

A cell is a student, a scenario and a method. Its settings are chosen first: two
students of each setting are trained for 10 epochs without 6,000 training images, and
the setting with the best mean accuracy on these images wins. Then the students of all
seeds are trained for 40 epochs on all training images, and judged on the test images.
Few and wrong labels share their settings, and vision transformers and convolutional
networks take those of the perceptron.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from experiments.holistic import _lessons, _methods, _students
from experiments.holistic._lessons import SCENARIOS
from experiments.holistic._methods import Setting

EPOCHS, TUNING_EPOCHS = 40, 10
SEEDS, TUNING_SEEDS = 5, 2
# Far from the seeds of the measured students.
_FIRST_TUNING_SEED = 100

# Settings for few labels are chosen with 100, and for wrong labels with 40 % of them.
_TUNED_IN = {
    "10 labels": "100 labels",
    "1000 labels": "100 labels",
    "20 % noise": "40 % noise",
}

# They are chosen at one learning rate, which every method chose with all labels.
_ONE_RATE = {"100 labels": 0.003, "40 % noise": 0.003}


@dataclasses.dataclass(frozen=True)
class Cell:
    """Students that differ only in their seed.

    Attributes:
        student: A key of ``_students.STUDENTS``.
        scenario: A key of ``_lessons.SCENARIOS``.
        method: A key of ``_methods.METHODS``.
    """

    student: str
    scenario: str
    method: str

    @property
    def name(self) -> str:
        """Name in the stored results."""
        return f"{self.student}; {self.scenario}; {self.method}"

    @property
    def tuned_as(self) -> "Cell":
        """The cell whose settings this one uses: that of the perceptron."""
        scenario = _TUNED_IN.get(self.scenario, self.scenario)
        return Cell("MLP", scenario, self.method)


def cells() -> Iterator[Cell]:
    """Yield all cells, those of the perceptron first."""
    for scenario in SCENARIOS:
        methods = _methods.METHODS if scenario == "all labels" else _methods.COMPARED
        for method in methods:
            yield Cell("MLP", scenario, method)
    for student in ("ViT", "CNN"):
        for method in _methods.COMPARED:
            yield Cell(student, "all labels", method)


def measure(work: Path, cell: Cell) -> None:
    """Choose the cell's settings and train its students, unless that was done."""
    if (numbers := _file(work, "cell", cell)).exists():
        return
    setting = _choose(work, cell.tuned_as)
    lesson = _lesson(work, cell.scenario, False)
    networks = _students.train(
        lesson,
        cell.student,
        cell.method,
        setting,
        seed=0,
        trials=SEEDS,
        epochs=EPOCHS,
    )
    judged = [
        _students.judge(lesson, _lessons.answers(network, lesson.whole))
        for network in networks
    ]
    _write(
        numbers,
        dataclasses.asdict(setting)
        | {name: [each[name] for each in judged] for name in judged[0]},
    )


def measure_teacher(work: Path, scenario: str) -> None:
    """Judge the teacher of a scenario as its students are judged."""
    if not (numbers := _file(work, "cell", Cell("teacher", scenario, ""))).exists():
        lesson = _lesson(work, scenario, False)
        judged = _students.judge(lesson, lesson.teacher)
        _write(numbers, {name: [value] for name, value in judged.items()})


def _choose(work: Path, cell: Cell) -> Setting:
    """Return the setting with the best validation accuracy."""
    if not (file := _file(work, "tuning", cell)).exists():
        lesson = _lesson(work, cell.scenario, True)
        tried = []
        for setting in _settings(cell):
            networks = _students.train(
                lesson,
                cell.student,
                cell.method,
                setting,
                seed=_FIRST_TUNING_SEED,
                trials=TUNING_SEEDS,
                epochs=TUNING_EPOCHS,
            )
            test = lesson.dataset.test
            accuracy = np.mean([_students.accuracy(n, test) for n in networks])
            tried.append(dataclasses.asdict(setting) | {"accuracy": float(accuracy)})
            print(f"{cell.name}: {setting}: {accuracy:.4f}", flush=True)
        _write(file, {"tried": tried})
    tried = json.loads(file.read_text())["tried"]
    best = max(tried, key=lambda each: each["accuracy"])
    return Setting(best["learning_rate"], best["value"])


def _settings(cell: Cell) -> list[Setting]:
    """Return the settings to choose from."""
    settings = _methods.METHODS[cell.method].settings
    rate = _ONE_RATE.get(cell.scenario)
    return [s for s in settings if rate in (None, s.learning_rate)]


@functools.lru_cache(maxsize=2)
def _lesson(work: Path, scenario: str, validate: bool) -> _lessons.Lesson:
    return _lessons.prepare(work, scenario, validate=validate)


def _file(work: Path, kind: str, cell: Cell) -> Path:
    return work / f"{kind}; {cell.name}.json"


def _write(file: Path, facts: Mapping[str, object]) -> None:
    """Write a file that is complete whenever it exists."""
    aside = file.with_suffix(".tmp")
    aside.write_text(json.dumps(facts))
    os.replace(aside, file)
    print(f"{file.stem}: {_shown(facts)}", flush=True)


def _shown(facts: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {np.round(values, 4)}"
        for name, values in facts.items()
        if name != "tried"
    )

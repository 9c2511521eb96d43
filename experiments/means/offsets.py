"""When does equal-mean initialization change the accuracy of logits matching?

A number is added to the bias of every class of the teacher's classifier. The teacher's
softmax, and so distillation at infinite temperature (KD), do not depend on it. Logits
matching (LM) has to learn it, unless the classifiers of teacher and student are
centered (``--equal-means``).

Hypotheses, before the measurement:

1. KD and LM with equal means do not depend on the offset, with any optimizer.
2. With SGD, or any optimizer that keeps the class sums of the classifier, LM with equal
   means is KD at infinite temperature, seed by seed (T10). With AdamW alone it is not,
   but its accuracy is the same within the deviation.
3. LM without equal means loses accuracy as the offset grows, with AdamW earlier than
   with SGD: AdamW's steps have a fixed size, so they move the mean slowly.
"""

from collections.abc import Mapping

import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from experiments._numbers import mean_and_deviation
from experiments.means import _students
from experiments.means._optimizers import ADAM, KEPT, SGD, SLOW_SGD, Rule
from experiments.means._study import Cell, Evidence, Study
from experiments.studies import _tables
from jaxkd import distillers, models, training

NAME = "offsets"
OFFSETS = (0.0, 1.0, 5.0, 20.0)
RULES = (SGD, SLOW_SGD, ADAM, KEPT)
LM, EQUAL, KD = "LM", "LM, equal means", "KD, T = ∞"
METHODS = (LM, EQUAL, KD)


def measure(dataset: str, seeds: int) -> tuple[float, dict[str, Cell]]:
    """Train the students of every optimizer, method and offset."""
    lesson = _students.train_teacher(_students.load(dataset))
    images, labels = lesson.dataset.test
    cells: dict[str, Cell] = {}
    for rule in RULES:
        for offset in OFFSETS:
            found = {}
            for method in (KD, LM, EQUAL):
                print(f"{rule.name}, {method}, offset {offset:g}", flush=True)
                moved = lesson._replace(teacher=_moved(lesson.teacher, offset))
                found[method] = _logits(moved, rule, method, seeds)
            for method, logits in found.items():
                predicted = logits.argmax(-1)
                same = predicted == found[KD].argmax(-1)
                cells[name_of(rule, method, offset)] = {
                    "accuracy": (predicted == labels).mean(1),
                    "same_class_as_kd": same.mean(1),
                    "mean_logit": logits.mean(-1).mean(1),
                }
    answers = training.predict_logits(
        training.freeze_teacher(lesson.teacher, lesson.normalization), images
    )
    return float((answers.argmax(1) == labels).mean()), cells


def _moved(teacher: nnx.Module, offset: float) -> nnx.Module:
    """Return a copy of the teacher, with an offset of all logits."""
    copy = nnx.clone(teacher)
    copy.classifier.bias[...] += offset
    return copy


def _logits(
    lesson: _students.Lesson, rule: Rule, method: str, seeds: int
) -> np.ndarray:
    """Return the students' logits, of shape ``[seeds, images, classes]``."""
    equal = method == EQUAL
    if equal:
        lesson = lesson._replace(teacher=models.center_classifier(lesson.teacher))
    distiller = (
        distillers.soft_targets(temperature=np.inf)
        if method == KD
        else distillers.logit_matching()
    )
    students = _students.train_students(
        lesson, distiller, rule, trials=seeds, centered=equal
    )
    images = lesson.dataset.test.images
    return np.stack([training.predict_logits(each, images) for each in students])


def name_of(rule: Rule, method: str, offset: float) -> str:
    """Return the name of a setting."""
    return f"{rule.name}; {method}; {offset:g}"


def table(evidence: Evidence) -> str:
    """Tabulate the accuracy by offset, and the difference to KD, seed by seed."""
    head = ["optimizer", "method", *map(_offset, OFFSETS), "same class as KD"]
    rows = []
    for rule in RULES:
        for method in METHODS:
            cells = [evidence.cells[name_of(rule, method, x)] for x in OFFSETS]
            accuracy = [mean_and_deviation(100 * cell["accuracy"]) for cell in cells]
            same = [100 * cell["same_class_as_kd"].mean() for cell in cells]
            shown = " to ".join(dict.fromkeys(f"{x(same):.1f} %" for x in (min, max)))
            rows.append([rule.name, method, *accuracy, "" if method == KD else shown])
    return _tables.markdown(head, rows)


def _offset(offset: float) -> str:
    return f"+{offset:g}" if offset else "natural"


def draw(evidence: Evidence) -> Figure:
    """Draw the error by offset, one panel for each optimizer."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes, rule in zip(panels.flat, RULES, strict=True):
        for shift, method in zip((-0.16, 0.0, 0.16), METHODS, strict=True):
            accuracy = np.stack(
                [evidence.cells[name_of(rule, method, x)]["accuracy"] for x in OFFSETS]
            )
            error, at = 100 * (1 - accuracy), np.arange(len(OFFSETS)) + shift
            color = _COLORS[method]
            axes.plot(at, error, ".", color=color, ms=5, alpha=0.5)
            axes.plot(at, error.mean(1), _MARKS[method], color=color, label=method)
        axes.set_xticks(range(len(OFFSETS)), list(map(_offset, OFFSETS)))
        axes.set_title(rule.name, fontsize=10)
        _tables.tidy(axes)
    panels[0, 0].set_yscale("log")
    panels[0, 0].set_yticks(_TICKS, [str(tick) for tick in _TICKS])
    panels[0, 0].minorticks_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("test error (%)")
    for axes in panels[-1]:
        axes.set_xlabel("added to all of the teacher's logits")
    panels[0, 0].legend(frameon=False, loc="upper left")
    return figure


_TICKS = (2, 5, 10, 20, 50, 100)
_COLORS = {LM: _tables.ORANGE, EQUAL: _tables.BLUE, KD: _tables.GRAY}
_MARKS: Mapping[str, str] = {LM: "o-", EQUAL: "s-", KD: "^:"}

STUDY = Study(NAME, measure, table, draw)

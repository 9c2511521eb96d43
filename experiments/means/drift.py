"""Why Adam and SGD differ in the mean logit, and what that changes.

Students and teacher begin with centered classifiers, so all mean logits are zero. The
students learn with logits matching (LM) or distillation (KD) under four optimizers. One
of them is AdamW with the class means of the classifier's update subtracted: it differs
from AdamW only in what it does to the mean logit. The last two classes are left out of
the training and test sets. Their test images are the unknown ones, which an energy
score, logsumexp of the logits, should tell from the known ones.

Hypotheses, before the measurement:

1. The mean logit stays zero under SGD, and under AdamW with SGD on the classifier or
   with kept class sums (T9). Under AdamW it moves. LM pulls it back, KD does not.
2. No softmax depends on the mean logit, so neither do accuracy, calibration error (ECE)
   and likelihood (NLL) of a trained network, nor the softmax of averaged logits: they
   are the same before and after its removal. Under KD the same students result from
   AdamW with and without kept class sums. If AdamW and SGD differ in calibration, the
   mean logit is not the reason.
3. The loss of LM contains the gap of the means, and an energy score contains the mean
   logit: under AdamW both change when it is removed. In which direction the energy
   score changes, no theorem says.
"""

import dataclasses

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._numbers import mean_and_deviation
from experiments.means import _scores, _students
from experiments.means._optimizers import ADAM, KEPT, SGD, SPLIT, Rule
from experiments.means._study import Cell, Evidence, Study
from experiments.studies import _tables
from jaxkd import data, distillers, models, training

NAME = "drift"
RULES = (SGD, ADAM, KEPT, SPLIT)
OBJECTIVES = {
    "LM": distillers.logit_matching(),
    "KD, T = 4": distillers.soft_targets(temperature=4.0),
    "KD, T = ∞": distillers.soft_targets(temperature=np.inf),
}
_UNKNOWN = 2  # classes


def measure(dataset: str, seeds: int) -> tuple[float, dict[str, Cell]]:
    """Train and score the students of every objective and optimizer."""
    known, unknown = _without_last_classes(_students.load(dataset))
    lesson = _students.train_teacher(known)
    teacher = models.center_classifier(lesson.teacher)
    lesson = lesson._replace(teacher=teacher)
    images, labels = known.test
    frozen = training.freeze_teacher(teacher, lesson.normalization)
    answers = training.predict_logits(frozen, images)
    cells: dict[str, Cell] = {}
    for objective, distiller in OBJECTIVES.items():
        for rule in RULES:
            print(f"{objective}, {rule.name}", flush=True)
            students = _students.train_students(
                lesson, distiller, rule, trials=seeds, centered=True
            )
            logits, others = (
                np.stack([training.predict_logits(each, x) for each in students])
                for x in (images, unknown)
            )
            cells[name_of(objective, rule)] = _score(logits, others, answers, labels)
    return float((answers.argmax(1) == labels).mean()), cells


def _without_last_classes(
    dataset: data.ImageDataset,
) -> tuple[data.ImageDataset, np.ndarray]:
    """Return a dataset without its last classes, and their test images."""
    classes = dataset.num_classes - _UNKNOWN
    train, test = (
        data.Split(split.images[known], split.labels[known])
        for split in (dataset.train, dataset.test)
        for known in [split.labels < classes]
    )
    fewer = dataclasses.replace(
        dataset,
        train=train,
        test=test,
        num_classes=classes,
        class_names=dataset.class_names[:classes],
        fingerprint="",
    )
    return fewer, dataset.test.images[dataset.test.labels >= classes]


def _score(
    logits: np.ndarray, others: np.ndarray, answers: np.ndarray, labels: np.ndarray
) -> Cell:
    """Score the students' logits for known and other images, ``[seeds, ...]``."""
    centered, others_centered = _scores.center(logits), _scores.center(others)
    means = logits.mean(-1, dtype=np.float64)
    difference = logits - answers[None].astype(np.float64)
    both = {"": (logits, others), "_centered": (centered, others_centered)}
    cell: dict[str, np.ndarray] = {
        "accuracy": (logits.argmax(-1) == labels).mean(1),
        "mean_logit_rms": np.sqrt(np.square(means).mean(1)),
        "mean_logit_std": means.std(1),
        "matching_loss": 0.5 * np.square(difference).mean((1, 2)),
        "gap": 0.5 * np.square(difference.mean(-1)).mean(1),
    }
    for suffix, (ours, theirs) in both.items():
        cell |= {
            f"nll{suffix}": np.array([_scores.nll(x, labels) for x in ours]),
            f"ece{suffix}": np.array([_scores.ece(x, labels) for x in ours]),
            f"energy_auroc{suffix}": np.array(
                [_scores.energy_auroc(x, y) for x, y in zip(ours, theirs, strict=True)]
            ),
            f"ensemble_nll{suffix}": np.array([_scores.nll(ours.mean(0), labels)]),
        }
    return cell


def name_of(objective: str, rule: Rule) -> str:
    """Return the name of a setting."""
    return f"{objective}; {rule.name}"


def table(evidence: Evidence) -> str:
    """Tabulate mean logit, accuracy, calibration and energy score."""
    head = [
        *("objective", "optimizer", "mean logit (RMS)", "accuracy (%)", "ECE (%)"),
        *("NLL (nats)", "gap in the LM loss (%)", "energy AUROC (%)", "centered"),
    ]
    rows = []
    for objective in OBJECTIVES:
        for rule in RULES:
            cell = evidence.cells[name_of(objective, rule)]
            rows.append(
                [
                    objective,
                    rule.name,
                    f"{cell['mean_logit_rms'].mean():.2g}",
                    mean_and_deviation(100 * cell["accuracy"]),
                    mean_and_deviation(cell["ece"]),
                    mean_and_deviation(cell["nll"], 4),
                    f"{100 * (cell['gap'] / cell['matching_loss']).mean():.2g}",
                    mean_and_deviation(cell["energy_auroc"]),
                    mean_and_deviation(cell["energy_auroc_centered"]),
                ]
            )
    return f"{_tables.markdown(head, rows)}\n\n{differences(evidence)}"


def differences(evidence: Evidence) -> str:
    """Tabulate AdamW minus other settings, and the mean's part, seed by seed."""
    head = [
        *("objective", "AdamW minus", "accuracy (points)", "ECE (points)"),
        *("NLL (nats)", "energy AUROC (points)"),
    ]
    rows = []
    for objective in OBJECTIVES:
        ours = evidence.cells[name_of(objective, ADAM)]
        centered = {x: ours.get(f"{x}_centered", ours[x]) for x in ours}
        others = {rule.name: evidence.cells[name_of(objective, rule)] for rule in RULES}
        others = {"itself, centered": centered, **others}
        for name in ("itself, centered", KEPT.name, SGD.name):
            shown = [
                mean_and_deviation(scale * (ours[key] - others[name][key]), digits)
                for key, scale, digits in _COMPARED
            ]
            rows.append([objective, name, *shown])
    return _tables.markdown(head, rows)


_COMPARED = (("accuracy", 100, 2), ("ece", 1, 2), ("nll", 1, 4), ("energy_auroc", 1, 2))


def draw(evidence: Evidence) -> Figure:
    """Draw mean logit, calibration error, and energy score with and without mean."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, key, title in zip(
        panels,
        ("mean_logit_rms", "ece", "energy_auroc"),
        (
            "mean logit, RMS over the images",
            "calibration error (%)",
            "energy AUROC (%): dots raw, rings centered",
        ),
        strict=True,
    ):
        _draw_panel(axes, evidence, key)
        axes.set_title(title, fontsize=10)
    panels[0].set_yscale("log")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_panel(axes: Axes, evidence: Evidence, key: str) -> None:
    for number, rule in enumerate(RULES):
        for place, objective in enumerate(OBJECTIVES):
            cell = evidence.cells[name_of(objective, rule)]
            at, color = place + 0.18 * (number - 1.5), _COLORS[number]
            label = rule.name if place == 0 else None
            axes.plot(
                np.full(len(cell[key]), at),
                np.maximum(cell[key], 1e-9),
                "o",
                color=color,
                ms=4,
                alpha=0.6,
                label=label,
            )
            if key == "energy_auroc":
                centered = cell["energy_auroc_centered"]
                axes.plot(
                    np.full(len(centered), at + 0.07),
                    centered,
                    "o",
                    mfc="none",
                    color=color,
                    ms=4,
                    alpha=0.6,
                )
    axes.set_xticks(range(len(OBJECTIVES)), OBJECTIVES)
    _tables.tidy(axes)


_COLORS = (_tables.GRAY, _tables.ORANGE, _tables.BLUE, "tab:green")

STUDY = Study(NAME, measure, table, draw)

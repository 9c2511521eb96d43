"""A run's predictions of the test set: charts, tables, and images by who is right."""

from collections.abc import Mapping

import numpy as np

from jaxkd import data
from jaxkd.reports import _figures, _html, _statistics, _thumbnails
from jaxkd.reports._predictions import Predictions

_MISTAKES = 16
_CONFUSED_PAIRS = 8
_IMAGES = 6  # of each outcome
_OUTCOMES = (
    "Both are right",
    "Only the teacher is right",
    "Only the student is right",
    "Both are wrong",
)


def charts(
    student: Predictions,
    calibrations: Mapping[str, _statistics.Calibration],
    dataset: data.ImageDataset,
) -> dict[str, str]:
    """Return the charts and tables of the student alone, as HTML by title.

    Args:
        student: Predictions of the student.
        calibrations: Calibration of each network, by its name.
        dataset: The run's dataset.
    """
    labels, names = dataset.test.labels, dataset.class_names
    matrix = _statistics.confusion_matrix(labels, student.classes, dataset.num_classes)
    worst = _statistics.most_confused(matrix, _CONFUSED_PAIRS)
    cards = {"Confusion matrix": _figures.confusion(matrix, names)}
    if worst:
        cards["Most confused classes"] = _html.table(
            ("class → prediction", "images", "of the class"),
            [
                (f"{names[i]} → {names[j]}", f"{n:,}", f"{n / matrix[i].sum():.1%}")
                for i, j, n in worst
            ],
        )
    title = "Calibration: accuracy at each confidence"
    return cards | {title: _figures.reliability(calibrations)}


def who_is_right(
    student: Predictions, teacher: Predictions | None, dataset: data.ImageDataset
) -> str:
    """Count the test images by who is right, and show some of each kind.

    The images are those for which the two distributions differ the most. Without a
    teacher, the result is empty.
    """
    if teacher is None:
        return ""
    labels = dataset.test.labels
    outcomes = _statistics.outcomes(student.classes, teacher.classes, labels)
    distance = _statistics.disagreement(student.probabilities, teacher.probabilities)
    equal = np.mean(student.classes == teacher.classes)
    sentence = (
        f"Both predict the same class for {equal:.2%} of the images. Of each kind, the "
        "images are those on which their probabilities differ the most."
    )
    cards = {}
    for outcome, title in enumerate(_OUTCOMES):
        rows = np.flatnonzero(outcomes == outcome)
        shown = rows[np.argsort(-distance[rows], kind="stable")[:_IMAGES]]
        cards[f"{title}: {len(rows):,} ({len(rows) / len(labels):.1%})"] = _images(
            shown, student, teacher, dataset
        )
    return _html.section(
        "Student and teacher",
        _html.text(sentence),
        _html.cards(cards.items(), narrow=True),
    )


def mistakes(
    student: Predictions, teacher: Predictions | None, dataset: data.ImageDataset
) -> str:
    """Show the test images that are most confidently misclassified."""
    labels = dataset.test.labels
    rows = _statistics.confident_mistakes(student.probabilities, labels, _MISTAKES)
    shown = _images(rows, student, teacher, dataset)
    if not len(rows):
        shown = _html.text("The network classifies every test image correctly.")
    return _html.section("Most confident mistakes", shown)


def _images(
    rows: np.ndarray,
    student: Predictions,
    teacher: Predictions | None,
    dataset: data.ImageDataset,
) -> str:
    """Show test images with their class and the networks' predictions."""
    names, images = dataset.class_names, []
    for row in rows.tolist():
        caption = f"{names[dataset.test.labels[row]]}, predicted as "
        caption += _answer(student, row, names)
        if teacher is not None:
            caption += f"; teacher: {_answer(teacher, row, names)}"
        images.append((_thumbnails.png(_thumbnails.stored(dataset, row)), caption))
    return _html.thumbnails(images)


def _answer(predictions: Predictions, row: int, names: tuple[str, ...]) -> str:
    predicted = predictions.classes[row]
    return f"{names[predicted]} ({predictions.probabilities[row, predicted]:.0%})"

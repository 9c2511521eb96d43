"""What a run's page says of the test set: who is right, and the worst classes."""

import numpy as np
import pytest
from page_support import Page
from support import make_dataset

from jaxkd.reports import _html, _statistics, _test_section
from jaxkd.reports._predictions import Predictions

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


def predictions(classes, confidence=0.7):
    """Predictions of 4 classes; all others are equally likely."""
    probabilities = np.full((len(classes), 4), (1 - confidence) / 3)
    probabilities[np.arange(len(classes)), classes] = confidence
    none = np.zeros((0, 4))
    return Predictions(probabilities, none, none)


def test_each_image_is_in_the_group_of_who_is_right(dataset):
    labels = dataset.test.labels
    number = np.arange(len(labels))
    student = np.where(number % 3 == 0, (labels + 1) % 4, labels)
    teacher = np.where(number % 5 == 0, (labels + 2) % 4, labels)
    text = Page(
        _test_section.who_is_right(predictions(student), predictions(teacher), dataset)
    ).text
    wrong_s, wrong_t = set(number[::3]), set(number[::5])
    for title, count in (
        ("Both are right", len(set(number) - wrong_s - wrong_t)),
        ("Only the teacher is right", len(wrong_s - wrong_t)),
        ("Only the student is right", len(wrong_t - wrong_s)),
        ("Both are wrong", len(wrong_s & wrong_t)),
    ):
        assert f"{title}: {count} ({count / len(number):.1%})" in text


def test_the_images_of_a_group_are_those_on_which_the_networks_differ_most(dataset):
    labels = dataset.test.labels
    sure, unsure = predictions(labels, 0.97), predictions(labels, 0.97)
    for rank, row in enumerate(range(3, 12)):
        unsure.probabilities[row] = predictions(labels, 0.96 - rank / 20).probabilities[
            row
        ]
    text = Page(_test_section.who_is_right(unsure, sure, dataset)).text
    shown = [part.split("%")[0] for part in text.split("predicted as")[1:]]
    assert [x.split("(")[1] for x in shown] == ["56", "61", "66", "71", "76", "81"]


def test_without_a_teacher_nobody_is_compared(dataset):
    alone = predictions(dataset.test.labels)
    assert _test_section.who_is_right(alone, None, dataset) == ""


def test_the_most_confused_classes_have_counts_and_shares(dataset):
    labels = dataset.test.labels
    student = np.where(labels == 2, 3, labels)
    student[labels == 1] = np.where(np.arange(sum(labels == 1)) == 0, 0, 1)
    answers = predictions(student)
    calibrations = {"x": _statistics.calibration(answers.probabilities, labels)}
    page = Page(
        _html.cards(_test_section.charts(answers, calibrations, dataset).items())
    )
    twos, ones = (int(np.sum(labels == i)) for i in (2, 1))
    assert page.tables["Most confused classes"][1:] == [
        ["class 2 → class 3", str(twos), "100.0%"],
        ["class 1 → class 0", "1", f"{1 / ones:.1%}"],
    ]
    assert page.unnamed == []

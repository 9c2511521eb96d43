"""Figures, charts and thumbnails."""

import numpy as np
import pytest
from page_support import Page
from run_support import HISTORY

from jaxkd import reports
from jaxkd.reports import _figures, _thumbnails, _training_charts


def test_names_cannot_break_the_page():
    chart = _figures.confusion(np.eye(2, dtype=int), ["<b>&", "\u00e9"])
    graph = _thumbnails.graph(
        np.array([[0, 1], [1, 0]]), np.eye(2), np.array([0, 1]), ["<b>&", "'\""]
    )
    row = _thumbnails.neighbors(0, [1], np.array([0, 1]), ["<b>&", "'\""])
    for text in (chart, graph, row):
        assert "<b>" not in text
        Page(text)


def test_many_classes_are_drawn_without_names():
    chart = _figures.confusion(np.eye(40, dtype=int), [f"class{i}" for i in range(40)])
    assert "class1" not in chart


def test_a_metric_that_is_never_positive_or_finite_does_not_stop_a_chart():
    history = [{"epoch": i, "a": 0.0, "b": float("nan")} for i in (1, 2)]
    assert "<svg" in _figures.curves(history, {"a": "a", "b": "b"}, label="x", log=True)


@pytest.fixture
def lines(monkeypatch):
    """The names of each chart's lines, in place of its SVG."""
    monkeypatch.setattr(_figures, "curves", lambda _, lines, **__: "\n".join(lines))


@pytest.mark.usefixtures("lines")
def test_the_learning_rate_is_drawn_as_it_was_recorded():
    assert "Learning rate" not in _training_charts.training_charts(HISTORY)
    history = [{**record, "train/learning_rate": 0.1} for record in HISTORY]
    charts = _training_charts.training_charts(history)
    assert charts["Learning rate"] == "Learning rate"


@pytest.mark.usefixtures("lines")
def test_each_metric_is_in_the_chart_of_its_kind():
    metrics = {
        "train/grad_norm": 1.0,
        "train/learning_rate": 0.1,
        "train/hkd": 1.0,
        "train/hkd/graph": 1.0,
        "train/hkd/purity": 0.5,
        "train/hkd/student_norm": 1.0,
        "train/weight/hkd": 0.1,
        "train/inner/weight/kd": 0.1,
        "train/kd/temperature": 4.0,
        "test/ema_accuracy": 0.5,
        "test/ema_loss": 1.0,
    }
    history = [{**record, **metrics} for record in HISTORY]
    charts = _training_charts.training_charts(history)
    assert {title: lines.split("\n") for title, lines in charts.items()} == {
        "Accuracy": ["training", "test", "test, averaged weights"],
        "Loss and its unweighted parts": [
            *("loss", "ce", "hkd"),
            *("test cross-entropy", "test cross-entropy, averaged weights"),
        ],
        "Terms of the parts": ["hkd/graph"],
        "Scheduled weights": ["weight/hkd", "inner/weight/kd"],
        "Scheduled temperatures": ["kd/temperature"],
        "Agreement of student, teacher and memory": ["hkd/purity"],
        "Gradient norm": ["Gradient norm"],
        "Learning rate": ["Learning rate"],
    }


def test_the_curves_of_a_run_are_those_of_its_losses_and_accuracies(
    tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(
        _training_charts.Figure, "savefig", lambda self, *_, **__: drawn.append(self)
    )
    record = {"train/learning_rate": 0.1, "train/grad_norm": 1.0, "train/hkd/a": 1.0}
    history = [{**each, **record} for each in HISTORY]
    reports.draw_history(tmp_path / "x.png", history)
    losses, accuracies = (
        [text.get_text() for text in axes.get_legend().get_texts()]
        for axes in drawn[0].axes
    )
    assert losses == ["loss", "ce"]
    assert accuracies == ["train", "test"]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_of_any_kind_become_pictures(channels, dtype):
    image = np.ones((5, 4, channels), dtype)
    assert _thumbnails.png(image).startswith("data:image/png;base64,")
    assert _thumbnails.grid(np.stack([image] * 3), columns=2).shape[:2] == (11, 9)

import html.parser
import shutil

import numpy as np
import pytest
from cli_arguments import distill_arguments

from jaxkd import cli
from jaxkd.reports import _charts, _run_page, _thumbnails


class Page(html.parser.HTMLParser):
    """Checks that every element is closed; collects text, links and images."""

    void = frozenset({"meta", "img"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        names = ("href", "src", "xlink:href")
        self.addresses += [value for name, value in attributes if name in names]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher):
    """A distilled student's run folder with a report."""
    out = tmp_path_factory.mktemp("runs") / "student"
    cli.main([*distill_arguments(teacher, out, "--method", "kd"), "--report"])
    return out


@pytest.fixture(scope="module")
def page(student):
    return Page((student / "report.html").read_text())


def test_a_report_needs_no_other_file(page):
    assert page.tags.count("svg") > 5
    assert "script" not in page.tags
    assert all(x.startswith(("data:image/png", "#")) for x in page.addresses)


def test_a_report_compares_student_and_teacher(page):
    for title in ("The run", "Teacher and student", "teacher right", "Who predicts"):
        assert title in page.text


def test_tensorboard_has_a_training_batch_and_the_confusion_matrix(student):
    content = b"".join(x.read_bytes() for x in (student / "images").iterdir())
    assert content.count(b"\x89PNG") == 2
    assert b"training images, augmented" in content
    assert b"confusion matrix" in content


def test_show_makes_a_report_again_and_says_where_it_is(student, page, capsys):
    before = (student / "report.html").read_bytes()
    (student / "report.html").unlink()
    cli.main(["show", str(student)])
    assert capsys.readouterr().out.strip() == str(student / "report.html")
    assert (student / "report.html").read_bytes() == before


def test_without_its_teacher_a_report_says_so(student, tmp_path, teacher, monkeypatch):
    run = shutil.copytree(student, tmp_path / "run")
    config = (run / "config.json").read_text().replace(str(teacher), "/gone")
    (run / "config.json").write_text(config)
    cli.main(["show", str(run)])
    text = Page((run / "report.html").read_text()).text
    assert "Without the teacher" in text
    assert "teacher right" not in text


def test_names_cannot_break_the_page():
    chart = _charts.confusion(np.eye(2, dtype=int), ["<b>&", "\u00e9"])
    graph = _thumbnails.graph(
        np.array([[0, 1], [1, 0]]), np.eye(2), np.array([0, 1]), ["<b>&", "'\""]
    )
    for text in (chart, graph):
        assert "<b>" not in text
        Page(text)


def test_many_classes_are_drawn_without_names():
    chart = _charts.confusion(np.eye(40, dtype=int), [f"class{i}" for i in range(40)])
    assert "class1" not in chart


def test_a_metric_that_is_never_positive_or_finite_does_not_stop_a_chart():
    history = [{"epoch": i, "a": 0.0, "b": float("nan")} for i in (1, 2)]
    assert "<svg" in _charts.curves(history, {"a": "a", "b": "b"}, label="x", log=True)


def test_the_learning_rate_of_an_epoch_is_that_of_its_last_update():
    options = {"learning_rate": 0.1, "schedule": "cosine", "accumulate": 2}
    config = {"options": {"epochs": 3, "optimizer": options}}
    history = [{"epoch": i, "step": 10 * i} for i in (1, 2, 3)]
    rates = _run_page._learning_rates(history, config)
    wanted = [0.05 * (1 + np.cos(np.pi * update / 15)) for update in (4, 9, 14)]
    np.testing.assert_allclose([r["rate"] for r in rates], wanted, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_of_any_kind_become_pictures(channels, dtype):
    image = np.ones((5, 4, channels), dtype)
    assert _thumbnails.png(image).startswith("data:image/png;base64,")
    assert _thumbnails.grid(np.stack([image] * 3), columns=2).shape[:2] == (11, 9)

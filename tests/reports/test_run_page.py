"""The page of one run, and the images for TensorBoard."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cli_arguments import refusal, train_arguments
from page_support import Page
from run_support import CONFIG, HISTORY, NETWORK, make_run
from support import make_dataset

from jaxkd import cli, data, reports, runs, training
from jaxkd.cli.commands import show
from jaxkd.reports import _figures, _graph_section
from jaxkd.reports._predictions import Predictions

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher's run folder, made by hand."""
    return make_run(tmp_path_factory.mktemp("runs") / "teacher")


@pytest.fixture(scope="module")
def student(tmp_path_factory, quadrants, teacher):
    """A student's run folder, made by hand, with a page."""
    config = copy.deepcopy(CONFIG)
    config["dataset"]["source"] = str(quadrants)
    config["options"] |= {"method": "kd", "teacher": str(teacher)}
    run = tmp_path_factory.mktemp("runs") / "student"
    make_run(run, seeds=(1,), config=config)
    reports.rewrite_run_page(run, data.load(str(quadrants)))
    return run


@pytest.fixture(scope="module")
def page(student):
    return Page((student / "report.html").read_text())


def test_a_report_needs_no_other_file(page):
    assert page.tags.count("svg") > 5
    assert "script" not in page.tags
    assert all(x.startswith(("data:image/png", "#")) for x in page.addresses)


def test_a_report_names_every_picture_and_no_id_twice(page):
    assert page.tags.count("img") + page.tags.count("svg") > 10
    assert page.unnamed == []
    assert len(set(page.ids)) == len(page.ids)
    assert {x[1:] for x in page.addresses if x.startswith("#")} <= set(page.ids)


def test_a_report_compares_student_and_teacher(page):
    titles = ("The run", "Student and teacher", "Both are right", "similar predictions")
    for title in titles:
        assert title in page.text


def test_show_makes_a_report_again_and_says_where_it_is(student, page, capsys):
    before = (student / "report.html").read_bytes()
    (student / "report.html").unlink()
    cli.main(["show", str(student)])
    assert capsys.readouterr().out.strip() == str(student / "report.html")
    assert (student / "report.html").read_bytes() == before


def test_without_its_teacher_a_report_says_so(student, quadrants, tmp_path, teacher):
    run = shutil.copytree(student, tmp_path / "run")
    config = (run / "config.json").read_text().replace(str(teacher), "/gone")
    (run / "config.json").write_text(config)
    dataset = data.load(str(quadrants))
    reports.rewrite_run_page(run, dataset)
    text = Page((run / "report.html").read_text()).text
    assert "no comparison with the teacher" in text
    assert "there is no run folder /gone" in text
    assert "teacher is right" not in text
    with pytest.raises(ValueError, match="there is no run folder"):
        reports.rewrite_run_page(run, dataset, teacher=tmp_path / "none")


LINKS = ("report.html", "report.tmp", ".report.html.tmp", "curves.png", "curves.tmp")


def test_a_page_is_written_through_no_link_and_shows_names_as_text(
    student, quadrants, tmp_path, monkeypatch
):
    """A run folder from somebody else: with links, and tags in place of names."""
    run, victim = shutil.copytree(student, tmp_path / "run"), tmp_path / "victim"
    victim.write_text("mine")
    for name in LINKS:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(victim)
    config = json.loads((run / "config.json").read_text())
    config["command"] = config["versions"]["jax"] = "<script>x</script>\x1b[2J\udcff"
    config["options"] |= {"method": "<script>", "teacher": "/<script>"}
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(_figures, "curves", lambda *_, **__: "")
    reports.rewrite_run_page(run, data.load(str(quadrants)))
    reports.draw_history(run / "curves.png", HISTORY)
    assert victim.read_text() == "mine"
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert r"<script>x</script>\x1b[2J\udcff" in page.text


@pytest.mark.parametrize("given", [True, False])
def test_a_run_does_not_choose_where_show_caches_images(
    given, student, tmp_path, monkeypatch, capsys
):
    class Reached(Exception):
        pass

    def load_dataset(_, options):
        raise Reached(options)

    monkeypatch.setattr(show, "load_dataset", load_dataset)
    run, chosen = tmp_path / "run", tmp_path / "cache"
    shutil.copytree(student, run)
    config = json.loads((run / "config.json").read_text())
    config["options"]["data"]["cache_dir"] = "/etc/theirs"
    (run / "config.json").write_text(json.dumps(config))
    more = ["--cache-dir", str(chosen)] if given else []
    with pytest.raises(Reached) as caught:
        cli.main(["show", str(run), *more])
    assert caught.value.args[0].cache_dir == (chosen if given else None)
    assert ("/etc/theirs" in capsys.readouterr().err) == (not given)


def test_images_for_tensorboard_are_written_into_no_other_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="images is a link"):
        reports.write_training_images(tmp_path / "run", make_dataset(), 0)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_page_shows_the_student_alone_if_its_run_is_known(
    student, tmp_path, quadrants, capsys
):
    run = shutil.copytree(student, tmp_path / "run")
    config = copy.deepcopy(CONFIG)
    config["dataset"]["source"] = str(quadrants)
    config["options"]["seed"] = 1
    make_run(tmp_path / "alone", seeds=(1,), config=config)
    cli.main(["show", str(run), "--alone", str(tmp_path / "alone")])
    text = Page((run / "report.html").read_text()).text
    assert "50.00%student alone" in text  # the last epoch of HISTORY
    assert "difference from the student alone (points)" in text
    capsys.readouterr()
    config["teacher"], config["options"]["method"] = {"network": NETWORK}, "kd"
    make_run(tmp_path / "taught", seeds=(1,), config=config)
    line = refusal(["show", run, "--alone", tmp_path / "taught"], capsys)
    assert "--alone" in line
    assert "was trained with a teacher" in line


def test_the_numbers_of_a_page_are_beside_it(student, quadrants):
    labels = data.load(str(quadrants)).test.labels
    results = runs.read_test_results(student)
    counts = results["agreement"]
    assert sum(counts[name] for name in list(counts)[1:]) == len(labels)
    for network, right in (("student", "only_student"), ("teacher", "only_teacher")):
        bins = results["calibration"][network]
        assert sum(bins["counts"]) == len(labels)
        assert sum(bins["correct"]) == counts["both"] + counts[right]
    summary = json.loads((student / "report.json").read_text())
    assert summary["step"] == HISTORY[-1]["step"]


def test_numbers_of_an_earlier_page_are_not_those_of_the_run(student, tmp_path):
    run = shutil.copytree(student, tmp_path / "run")
    results = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**results, "step": 1}))
    assert runs.read_test_results(run) is None
    (run / "report.json").unlink()
    assert runs.read_test_results(run) is None


@pytest.mark.parametrize(
    "bins", [{"counts": [0]}, {"counts": [1, 2]}, {"counts": "x"}, {}, None]
)
def test_damaged_numbers_of_a_page_are_refused(bins, student, tmp_path):
    run = shutil.copytree(student, tmp_path / "run")
    results = json.loads((run / "report.json").read_text())
    if bins:
        bins = {"confidences": [0.5], "correct": [1], **bins}
    results["calibration"]["student"] = bins
    (run / "report.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"report\.json is damaged"):
        runs.read_test_results(run)


def test_one_test_image_has_no_neighbors_to_draw():
    one = Predictions(np.full((1, 4), 0.25), np.zeros((1, 4)), np.zeros((1, 3)))
    nodes = np.array([0])
    section = _graph_section.neighbor_graphs(one, None, nodes, make_dataset(), CONFIG)
    assert section == ""


def test_a_run_without_an_epoch_has_nothing_to_show(student, tmp_path, capsys):
    run = shutil.copytree(student, tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    assert "has no metrics yet" in refusal(["show", run], capsys)


def test_tensorboard_has_a_training_batch_and_the_confusion_matrix(tmp_path):
    dataset = make_dataset()
    reports.write_training_images(tmp_path, dataset, 0)
    matrix = reports.confusion_matrix(
        dataset.test.labels, np.zeros_like(dataset.test.labels), 4
    )
    reports.write_confusion_matrix(tmp_path, matrix, dataset.class_names, 9)
    content = b"".join(x.read_bytes() for x in (tmp_path / "images").iterdir())
    assert content.count(b"\x89PNG") == 2
    assert b"training images, augmented" in content
    assert b"confusion matrix" in content


def test_a_new_run_begins_with_its_training_images(tmp_path, quadrants, monkeypatch):
    class Reached(Exception):
        pass

    def fit(*_, **__):
        raise Reached

    monkeypatch.setattr(training, "fit", fit)
    out = tmp_path / "run"
    with pytest.raises(Reached):
        cli.main(train_arguments(quadrants, out, "--report"))
    (images,) = (out / "images").iterdir()
    assert b"training images, augmented" in images.read_bytes()


def test_the_package_loads_what_is_slow_only_when_it_is_used():
    program = (
        "import json, sys, jaxkd.reports; heavy = ('jax', 'flax', 'matplotlib');"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []
    for name in reports._MODULES:
        assert name in dir(reports)
        assert callable(getattr(reports, name))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        reports.nothing  # noqa: B018

"""``jaxkd distill --unlabeled``: a folder of images without labels."""

import json

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal
from PIL import Image

from jaxkd import cli, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of another size and in color, without class folders."""
    root = tmp_path_factory.mktemp("more")
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 256, (11, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    return ("--cache-dir", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.slow
def test_a_student_learns_from_them_and_can_be_resumed_shown_and_evaluated(
    tmp_path, monkeypatch, teacher, folder, cached, capsys
):
    monkeypatch.chdir(folder.parent)  # A relative path is recorded as an absolute one.
    out = tmp_path / "student"
    more = ("--method", "hkd+kd", "--unlabeled", folder.name, *cached)
    cli.main(distill_arguments(teacher, out, *more, "--hkd.neighbors", "3"))
    config = json.loads((out / "config.json").read_text())
    assert config["options"]["unlabeled"] == str(folder)
    assert ", 5 unlabeled images " in config["dataset"]["fingerprint"]
    last = runs.read_metrics(out / "metrics.jsonl")[-1]
    assert 0 < last["train/labeled"] < 1
    assert 0 <= last["train/accuracy"] <= 1
    monkeypatch.chdir(tmp_path)
    again = ("--method", "hkd+kd", "--unlabeled", folder, *cached, "--resume")
    cli.main(distill_arguments(teacher, out, *map(str, again), "--hkd.neighbors", "3"))
    cli.main(["show", str(out), *cached])
    assert "(5 without a label)" in (out / "report.html").read_text()
    capsys.readouterr()
    cli.main(["evaluate", str(out), *cached])
    assert f"loss {last['test/loss']:.4f} nats" in capsys.readouterr().out


@pytest.mark.parametrize(
    "method, where, says",
    [
        (
            "dkd",
            "{folder}",
            "--unlabeled would have no effect: the loss of --method dkd",
        ),
        ("kd", "/no/such/folder", "--unlabeled: there is no folder /no/such/folder"),
        ("kd", "{empty}", "contains no images"),
    ],
)
def test_folders_that_cannot_help_are_refused(
    tmp_path, teacher, folder, capsys, method, where, says
):
    (tmp_path / "empty").mkdir()
    where = where.format(folder=folder, empty=tmp_path / "empty")
    arguments = ("--method", method, "--unlabeled", where)
    out = tmp_path / "student"
    line = refusal(distill_arguments(teacher, out, *arguments), capsys)
    assert says in line
    assert "--unlabeled" in line
    assert not out.exists()


def test_a_part_that_needs_no_label_makes_them_useful(tmp_path, folder):
    from jaxkd.cli._job import resolve
    from jaxkd.cli._options import Distill

    options = Distill(
        model="mlp",
        out=tmp_path / "student",
        teacher=tmp_path,
        method="dkd",
        weights={"kd": 1.0},
        unlabeled=folder,
    )
    assert resolve(options, []).options.unlabeled == folder


def test_methods_lists_what_each_learns_from_them(capsys):
    cli.main(["methods"])
    assert "from unlabeled" in capsys.readouterr().out

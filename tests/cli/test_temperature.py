"""``jaxkd temperature``."""

import json
import shutil

import matplotlib.image
import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal
from scipy.special import rel_entr, softmax

from jaxkd import cli, runs, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RECORDING = {"paths": ["recording"], "fingerprint": "0"}


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("students") / "student"
    cli.main(distill_arguments(teacher, out, "--method", "kd"))
    return out


def measured(capsys, *arguments):
    """The numbers that the command writes to stdout."""
    capsys.readouterr()
    cli.main(["temperature", *map(str, arguments), "--json", "-"])
    return json.loads(capsys.readouterr().out)


def logits_of(run, quadrants):
    loaded = runs.load_run(run)
    with np.load(quadrants) as arrays:
        images = np.float32(arrays["x_test"]) / 255
    mean, std = map(np.asarray, loaded.normalization)
    network = training.inference_view(loaded.module)
    return np.asarray(network((images - mean) / std).logits, np.float64)


def mean_loss(student, teacher, temperature):
    """The mean loss over its limit, by the definitions."""
    p, q = (softmax(x / temperature, axis=-1) for x in (teacher, student))
    loss = temperature**2 * rel_entr(p, q).sum(axis=-1)
    return loss.sum() / (0.5 * (student - teacher).var(axis=-1)).sum()


def test_the_numbers_are_those_of_both_networks(student, teacher, quadrants, capsys):
    found = measured(capsys, student, "--temperatures", "2", "50")
    logits = [logits_of(run, quadrants) for run in (student, teacher)]
    for row, temperature in zip(found["ratios"], (2, 50), strict=True):
        assert row["temperature"] == temperature
        expected = mean_loss(*logits, temperature)
        assert row["mean_loss"] == pytest.approx(expected, rel=1e-4)
        assert row["sharper_bounds"][0] <= row["mean_loss"] <= row["sharper_bounds"][1]
    ranges = np.maximum(*(np.ptp(x, axis=-1) for x in logits))
    assert found["logit_range"]["largest"] == pytest.approx(ranges.max(), rel=1e-5)
    assert found["student"]["width"] == 8
    assert found["teacher"]["width"] == 16
    high = found["high_enough"]
    assert mean_loss(*logits, 1.01 * high["measured_mean_loss"]) == pytest.approx(
        1, abs=0.01
    )
    assert high["measured_95_percent"] <= high["measured_all_images"]
    assert high["measured_all_images"] <= high["guaranteed_all_images"]


def test_a_teacher_alone_is_compared_with_logits_of_zero(teacher, quadrants, capsys):
    found = measured(capsys, teacher, "--temperatures", "3")
    logits = logits_of(teacher, quadrants)
    expected = mean_loss(np.zeros_like(logits), logits, 3)
    assert found["ratios"][0]["mean_loss"] == pytest.approx(expected, rel=1e-4)
    assert found["student"] is None


def test_two_runs_are_compared(teacher, student, capsys):
    found = measured(capsys, teacher, "--teacher", student)
    assert (found["student"]["width"], found["teacher"]["width"]) == (16, 8)


def test_the_terminal_shows_the_temperatures(student, capsys):
    cli.main(["temperature", str(student), "--tolerance", "0.05"])
    lines = capsys.readouterr().out.splitlines()
    assert any("within 5 %" in line for line in lines)
    assert sum("from T = " in line for line in lines) == 5


def test_the_figure_shows_the_loss_over_its_limit(student, tmp_path, capsys):
    path = tmp_path / "new" / "figure.png"
    cli.main(["temperature", str(student), "--figure", str(path)])
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 300
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20
    assert "exists already" in refusal(
        ["temperature", student, "--figure", path], capsys
    )


def test_bad_input_is_refused_in_one_line(student, teacher, tmp_path, capsys):
    for arguments, says in (
        ([tmp_path / "none"], "there is no run folder"),
        ([student, "--temperatures", "0"], "--temperatures must be positive, got 0"),
        ([student, "--tolerance", "2"], "--tolerance must lie between 0 and 1"),
        ([student, "--figure", "x.svg"], "--figure x.svg must end in .png"),
        ([student, "--teacher", tmp_path / "none"], "there is no run folder"),
        ([teacher, "--dataset", "digits"], "dataset digits has 10 classes"),
    ):
        assert says in refusal(["temperature", *arguments], capsys)


@pytest.fixture
def changed(student, tmp_path):
    """A copy of the student whose config has other entries."""

    def copy(options, **entries):
        out = shutil.copytree(student, tmp_path / "changed")
        config = json.loads((out / "config.json").read_text())
        config["options"] |= options
        (out / "config.json").write_text(json.dumps(config | entries))
        return out

    return copy


def test_a_teacher_that_has_moved_must_be_named(changed, tmp_path, capsys):
    moved = changed({"teacher": str(tmp_path / "gone")})
    assert "Name its folder with --teacher" in refusal(["temperature", moved], capsys)


def test_a_recorded_teacher_must_be_named(changed, capsys):
    recorded = changed({"teacher": None}, recording=RECORDING)
    line = refusal(["temperature", recorded], capsys)
    assert "Name the run folder of its teacher with --teacher" in line


def test_the_teacher_is_the_trial_that_the_run_records(changed, capsys):
    other = changed({"teacher_trial": 1})
    assert "trial 1" in refusal(["temperature", other], capsys)


def test_what_exists_is_not_overwritten(student, tmp_path, capsys):
    (tmp_path / "x.json").write_text("precious")
    line = refusal(["temperature", student, "--json", tmp_path / "x.json"], capsys)
    assert "exists already" in line
    assert (tmp_path / "x.json").read_text() == "precious"

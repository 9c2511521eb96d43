import csv
import json

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from PIL import Image

from jaxkd import cli
from jaxkd.runs import _summary

TEACHER = {"network": {"model": "resnet20", "width": None}, "test_accuracy": 0.9}


def make_run(root, name, method, accuracies, *, seed=0, model="resnet8", **options):
    """A run folder as training leaves it; accuracies of shape [epochs, trials]."""
    folder = root / name
    folder.mkdir()
    table = np.asarray(accuracies, float).reshape(len(accuracies), -1)
    history = [
        {"epoch": epoch, "step": epoch, "images_per_second": 1.0}
        | {"test/accuracy": values.mean(), "trials": {"test/accuracy": values.tolist()}}
        for epoch, values in enumerate(table, start=1)
    ]
    alone = method == "student"
    config = {
        "options": {"seed": seed, "trials": table.shape[1], "epochs": 2, **options}
        | ({} if alone else {"method": method}),
        "network": {"model": model, "width": None},
        "dataset": {"source": "/data/digits.npz"},
    }
    config |= {} if alone else {"teacher": TEACHER}
    summary = _summary.summarize(history, seed=seed, data_seed=0)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = "".join(json.dumps(record) + "\n" for record in history)
    (folder / "metrics.jsonl").write_text(lines)
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    """Three methods on one pair; kd as two runs of a seed each."""
    return [
        make_run(tmp_path, "a", "student", [[0.5, 0.5], [0.69, 0.71]]),
        make_run(tmp_path, "b", "kd", [[0.60], [0.72]]),
        make_run(tmp_path, "c", "kd", [[0.60], [0.76]], seed=1),
        make_run(tmp_path, "d", "hkd+kd", [[0.60, 0.90], [0.77, 0.79]]),
    ]


def report(runs, out, *more):
    cli.main(["report", *runs, "--out", str(out), *more])


def rows(out):
    with (out / "report.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_shows_mean_deviation_and_improvement(tmp_path, runs, capsys):
    report(runs, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| method | resnet20 → resnet8, digits | ARI of hkd+kd (%) |" in text
    assert "| teacher | 90.00 |  |" in text
    assert "| student alone | 70.00 ± 1.41 |  |" in text
    assert "| kd | 74.00 ± 2.83 | 100.00 |" in text  # (78 - 74) / (74 - 70)
    assert "| hkd+kd | 78.00 ± 1.41 |  |" in text
    assert "| kd | 74.00 ± 2.83 | 100.00 |" in capsys.readouterr().out


def test_the_csv_has_every_value(tmp_path, runs):
    report(runs, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert list(found) == ["student", "kd", "hkd+kd"]
    assert found["kd"]["seeds"] == "0 1"
    assert found["kd"]["last_values"] == "0.72 0.76"
    assert float(found["hkd+kd"]["best_mean"]) == pytest.approx((0.77 + 0.90) / 2)
    assert float(found["kd"]["ari"]) == pytest.approx(1.0)
    assert float(found["kd"]["teacher_accuracy"]) == 0.9


def test_latex_escapes_what_latex_reads_otherwise(tmp_path, runs):
    report(runs, tmp_path / "out")
    text = (tmp_path / "out" / "report.tex").read_text()
    assert r"kd & 74.00 $\pm$ 2.83 & 100.00 \\" in text
    assert r"resnet20 $\rightarrow$ resnet8, digits & ARI of hkd+kd (\%) \\" in text


def test_draws_the_curves_of_every_pair(tmp_path, runs):
    other = make_run(tmp_path, "e", "kd", [[0.5], [0.6]], model="mlp")
    report([*runs, other], tmp_path / "out")
    for name in ("curves-1.png", "curves-2.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size > (500, 200)


def test_the_improvement_is_the_mean_over_the_pairs_that_have_all(tmp_path, runs):
    more = [
        make_run(tmp_path, f"m-{method}", method, [[value]], model="mlp")
        for method, value in (("student", 0.5), ("kd", 0.6), ("hkd+kd", 0.62))
    ]
    lonely = make_run(tmp_path, "l", "kd", [[0.4]], model="resnet14")
    report([*runs, *more, lonely], tmp_path / "out")
    assert float(rows(tmp_path / "out")["kd"]["ari"]) == pytest.approx((1.0 + 0.2) / 2)


def test_another_baseline_can_be_chosen(tmp_path, runs):
    report(runs, tmp_path / "out", "--baseline", "kd")
    found = rows(tmp_path / "out")["hkd+kd"]["ari"]
    assert float(found) == pytest.approx((0.74 - 0.78) / (0.78 - 0.70))


def test_refuses_runs_that_are_no_trials_of_each_other(tmp_path, runs, capsys):
    out = ["--out", tmp_path / "out"]
    again = make_run(tmp_path, "e", "kd", [[0.5]], seed=1)
    assert "repeats seed 1 of kd" in refusal(["report", *runs, again, *out], capsys)
    longer = make_run(tmp_path, "f", "kd", [[0.5]], seed=2, epochs=9)
    line = refusal(["report", *runs, longer, *out], capsys)
    assert "differ in epochs: 2 and 9" in line
    assert not (tmp_path / "out").exists()


def test_refuses_what_is_no_finished_run(tmp_path, runs, capsys):
    out = ["--out", tmp_path / "out"]
    assert "no run folder" in refusal(["report", tmp_path / "none", *out], capsys)
    line = refusal(["report", runs[0], *out], capsys)
    assert "none of the runs is one of `jaxkd distill`" in line
    line = refusal(["report", *runs[2:], *out, "--baseline", "hkd+k"], capsys)
    assert "did you mean 'hkd+kd'" in line


def test_an_unfinished_run_is_left_out_aloud(tmp_path, runs, capsys):
    (tmp_path / "b" / "summary.json").unlink()
    report(runs, tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"left out: {tmp_path / 'b'} has no summary.json" in line
    assert rows(tmp_path / "out")["kd"]["last_values"] == "0.76"
    with pytest.raises(SystemExit):
        report([runs[1]], tmp_path / "other")
    assert "none of the runs has ended" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_no_improvement_is_shown_over_what_is_no_better_than_noise(tmp_path, runs):
    near = make_run(tmp_path, "n", "fitnet", [[0.69, 0.73]])  # 71 ± 2.8, alone 70 ± 1.4
    report([*runs, near], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| fitnet | 71.00 ± 2.83 |  |" in text
    assert "| kd | 74.00 ± 2.83 | 100.00 |" in text
    assert "No ARI is shown of a method" in text
    tex = (tmp_path / "out" / "report.tex").read_text()
    assert r"fitnet & 71.00 $\pm$ 2.83 &  \\" in tex
    assert "% No ARI is shown" in tex
    assert float(rows(tmp_path / "out")["fitnet"]["ari"]) == pytest.approx(7.0)


def test_a_report_is_made_anew_and_nothing_else_is_overwritten(tmp_path, runs, capsys):
    out = tmp_path / "out"
    other = make_run(tmp_path, "e", "kd", [[0.5], [0.6]], model="mlp")
    report([*runs, other], out)
    report(runs, out)
    assert [path.name for path in out.glob("*.png")] == ["curves-1.png"]
    mine = tmp_path / "mine"
    mine.mkdir()
    report(runs, mine)  # empty
    for path in mine.iterdir():
        path.unlink()
    (mine / "report.md").write_text("my notes")
    capsys.readouterr()
    line = refusal(["report", *runs, "--out", mine], capsys)
    assert "exists already and is no report" in line
    assert (mine / "report.md").read_text() == "my notes"


@pytest.mark.slow
def test_reads_what_training_writes(tmp_path, quadrants, teacher):
    alone, taught, more = (tmp_path / name for name in ("alone", "taught", "more"))
    cli.main(train_arguments(quadrants, alone, "--width", "8", "--epochs", "2"))
    cli.main(distill_arguments(teacher, taught, "--method", "kd", "--trials", "2"))
    cli.main(distill_arguments(teacher, more, "--method", "kd", "--seed", "2"))
    report([str(alone), str(taught), str(more)], tmp_path / "out")
    found = rows(tmp_path / "out")
    assert found["kd"]["seeds"] == "0 1 2"
    assert found["kd"]["teacher"] == "mlp (width 16)"
    assert set(found) == {"student", "kd"}
    assert "| teacher |" in (tmp_path / "out" / "report.md").read_text()

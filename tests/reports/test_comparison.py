"""The comparison of several runs."""

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from comparison_support import make_run, rows
from PIL import Image

from jaxkd import cli, reports
from jaxkd.reports import _figures


def test_the_command_writes_and_prints_the_table_with_figures(tmp_path, four, capsys):
    other = make_run(tmp_path, "e", "kd", [[0.5], [0.6]], model="mlp")
    out = tmp_path / "out"
    cli.main(["report", *map(str, [*four, other]), "--out", str(out)])
    printed, _, last = capsys.readouterr().out.strip().rpartition("\n")
    assert str(out) in last
    assert (out / "report.md").read_text().startswith(printed)
    for name in ("curves-1.png", "curves-2.png"):
        assert f"]({name})" in (out / "report.md").read_text()
        with Image.open(out / name) as picture:
            assert picture.size > (500, 200)


@pytest.mark.usefixtures("without_figures")
def test_shows_mean_deviation_and_improvement(tmp_path, four):
    text = reports.write_comparison(four, tmp_path / "out")
    assert "| method | resnet20 → resnet8, digits | ARI of hkd+kd (%) |" in text
    assert "| teacher | 90.00 |  |" in text
    assert "| student alone | 70.00 ± 1.41 |  |" in text
    assert "| kd | 74.00 ± 2.83 | 100.00 |" in text  # (78 - 74) / (74 - 70)
    assert "| hkd+kd | 78.00 ± 1.41 |  |" in text
    assert text in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.usefixtures("without_figures")
def test_the_csv_has_every_value(tmp_path, four):
    reports.write_comparison(four, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert list(found) == ["student", "kd", "hkd+kd"]
    assert found["kd"]["seeds"] == "0 1"
    assert found["kd"]["last_values"] == "0.72 0.76"
    assert float(found["hkd+kd"]["best_mean"]) == pytest.approx((0.77 + 0.90) / 2)
    assert float(found["kd"]["ari"]) == pytest.approx(1.0)
    assert float(found["kd"]["teacher_accuracy"]) == 0.9


@pytest.mark.usefixtures("without_figures")
def test_latex_escapes_what_latex_reads_otherwise(tmp_path, four):
    reports.write_comparison(four, tmp_path / "out")
    text = (tmp_path / "out" / "report.tex").read_text()
    assert r"kd & 74.00 $\pm$ 2.83 & 100.00 \\" in text
    assert r"resnet20 $\rightarrow$ resnet8, digits & ARI of hkd+kd (\%) \\" in text


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    "chosen, says",
    [
        ([1], "after the last epoch, 1 seed."),
        ([1, 2], "after the last epoch, mean ± standard deviation over 2 seeds."),
        ([1, 3], "mean ± standard deviation over 1 to 2 seeds."),
    ],
)
def test_the_caption_counts_the_seeds(tmp_path, four, chosen, says):
    text = reports.write_comparison([four[i] for i in chosen], tmp_path / "out")
    assert text.splitlines()[0].endswith(says)
    if chosen == [1]:
        assert "±" not in text


def test_a_figure_has_a_deviation_only_for_several_seeds(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        _figures.Figure, "savefig", lambda self, *_, **__: drawn.append(self)
    )
    curves = {"kd": np.array([[0.5, 0.7]]), "ce": np.array([[0.4, 0.6], [0.4, 0.8]])}
    _figures.draw_comparison(
        tmp_path / "x.png", curves, teacher_accuracy=0.9, title="resnet8"
    )
    (axes,) = drawn[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["kd: 70.0 %", "ce: 70.0 ± 14.1 %"]
    assert len(axes.collections) == 1  # bands


@pytest.mark.usefixtures("without_figures")
def test_the_improvement_is_the_mean_over_the_pairs_that_have_all(tmp_path, four):
    more = [
        make_run(tmp_path, f"m-{method}", method, [[value]], model="mlp")
        for method, value in (("student", 0.5), ("kd", 0.6), ("hkd+kd", 0.62))
    ]
    lonely = make_run(tmp_path, "l", "kd", [[0.4]], model="resnet14")
    reports.write_comparison([*four, *more, lonely], tmp_path / "out")
    assert float(rows(tmp_path / "out")["kd"]["ari"]) == pytest.approx((1.0 + 0.2) / 2)


@pytest.mark.usefixtures("without_figures")
def test_another_baseline_can_be_chosen(tmp_path, four):
    reports.write_comparison(four, tmp_path / "out", baseline="kd")
    found = rows(tmp_path / "out")["hkd+kd"]["ari"]
    assert float(found) == pytest.approx((0.74 - 0.78) / (0.78 - 0.70))


def test_refuses_what_is_no_finished_run(tmp_path, four, capsys):
    out = ["--out", tmp_path / "out"]
    assert "no run folder" in refusal(["report", tmp_path / "none", *out], capsys)
    line = refusal(["report", four[0], *out], capsys)
    assert "none of the runs has a teacher" in line
    line = refusal(["report", *four[2:], *out, "--baseline", "hkd+k"], capsys)
    assert "did you mean 'hkd+kd'" in line
    with pytest.raises(ValueError, match="at least one run folder"):
        reports.write_comparison([], tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        reports.write_comparison(four, tmp_path / "file")


@pytest.mark.usefixtures("without_figures")
def test_an_unfinished_run_is_left_out_aloud(tmp_path, four, capsys):
    (four[1] / "summary.json").unlink()
    reports.write_comparison(four, tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"left out: {four[1]} has no summary.json" in line
    assert rows(tmp_path / "out")["kd"]["last_values"] == "0.76"
    with pytest.raises(ValueError, match="none of the runs has finished"):
        reports.write_comparison([four[1]], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("without_figures")
def test_no_improvement_is_shown_over_what_is_no_better_than_noise(tmp_path, four):
    near = make_run(tmp_path, "n", "fitnet", [[0.69, 0.73]])  # 71 ± 2.8, alone 70 ± 1.4
    text = reports.write_comparison([*four, near], tmp_path / "out")
    assert "| fitnet | 71.00 ± 2.83 |  |" in text
    assert "| kd | 74.00 ± 2.83 | 100.00 |" in text
    assert "The ARI is blank for a method" in text
    tex = (tmp_path / "out" / "report.tex").read_text()
    assert r"fitnet & 71.00 $\pm$ 2.83 &  \\" in tex
    assert "% The ARI is blank" in tex
    assert float(rows(tmp_path / "out")["fitnet"]["ari"]) == pytest.approx(7.0)


@pytest.mark.slow
def test_reads_what_training_writes(tmp_path, quadrants, teacher):
    alone, taught, more = (tmp_path / name for name in ("alone", "taught", "more"))
    cli.main(train_arguments(quadrants, alone, "--width", "8", "--epochs", "2"))
    cli.main(distill_arguments(teacher, taught, "--method", "kd", "--trials", "2"))
    others = ("--method", "kd", "--seed", "2", "--report")
    cli.main(distill_arguments(teacher, more, *others))
    assert "teacher right" in (more / "report.html").read_text()
    text = reports.write_comparison([alone, taught, more], tmp_path / "out")
    found = rows(tmp_path / "out")
    assert found["kd"]["seeds"] == "0 1 2"
    assert found["kd"]["teacher"] == "mlp (width 16)"
    assert set(found) == {"student", "kd"}
    assert "| teacher |" in text

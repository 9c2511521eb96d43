import io
import json

import pytest
from PIL import Image

from jaxkd import cli
from jaxkd.cli._console import Console
from jaxkd.cli._options import Quickstart
from jaxkd.cli.commands import quickstart


@pytest.mark.parametrize("seeds, says", [(1, "1 seed."), (2, "2 seeds.")])
def test_the_title_counts_the_seeds(seeds, says, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    log = io.StringIO()
    kd = {"mean": 0.8, "std": None if seeds == 1 else 0.01}
    results = {"teacher": {"accuracy": 0.9}, "seconds": 1.0, "students": {"KD": kd}}
    options = Quickstart(out=tmp_path / "[/b]", seeds=seeds)
    options.out.mkdir(parents=True)
    quickstart._report(Console(file=log), options, results)
    assert f"after the last epoch, {says}" in (options.out / "report.md").read_text()
    assert ("±" in log.getvalue()) == (seeds > 1)
    assert str(options.out) in log.getvalue()


@pytest.mark.slow
def test_quickstart_compares_three_methods_and_saves_what_it_made(tmp_path, capsys):
    out = tmp_path / "quickstart"
    cli.main(["quickstart", "--seeds", "2", "--out", str(out)])
    printed = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert results["teacher"]["accuracy"] > 0.9
    assert set(results["students"]) == {"alone", "KD", "HKD+KD"}
    alone, distilled = (results["students"][m]["mean"] for m in ("alone", "KD"))
    assert distilled > alone
    for method, result in results["students"].items():
        row = f"| student, {method} | {100 * result['mean']:.1f} ± "
        assert row in (out / "report.md").read_text()
        assert f"student, {method}" in printed
    with Image.open(out / "curves.png") as picture:
        assert picture.size > (500, 200)
    cli.main(["evaluate", str(out / "student")])
    accuracy = results["students"]["HKD+KD"]["accuracy"][0]
    assert f"test accuracy {accuracy:.2%}" in capsys.readouterr().out
    for role in ("teacher", "student"):
        cli.main(["show", str(out / role)])
        assert (out / role / "report.html").is_file()
    summary = json.loads((out / "student" / "summary.json").read_text())
    assert summary["test_accuracy_last"] == accuracy
    assert f"`jaxkd evaluate {out / 'student'}`" in (out / "report.md").read_text()

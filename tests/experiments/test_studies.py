import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from experiments._runs import Job
from experiments.studies import STUDIES, _study
from experiments.studies.__main__ import main
from experiments.studies._study import Evidence, Run, Study
from jaxkd.cli._options import parse

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "docs" / "results.md").read_text()
every_study = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)


def without_places(arguments):
    """A command line's options, but for the folders."""
    options = vars(parse(arguments))
    return {k: v for k, v in options.items() if k not in ("out", "teacher")}


@every_study
def test_every_run_has_a_folder_and_a_name_of_its_own(study):
    jobs = study.jobs(Path("runs"))
    assert len({job.out for job in jobs}) == len({job.cell for job in jobs})
    assert len({job.out for job in jobs}) == len(jobs)


@every_study
def test_no_option_is_given_twice_or_to_an_optimizer_that_has_it_not(study):
    for job in study.jobs(Path("runs")):
        options = [word for word in job.arguments if word.startswith("--")]
        assert len(options) == len(set(options))
        assert not {"--optimizer", "--momentum"} <= set(options)


@every_study
def test_the_numbers_are_those_of_the_commands(study):
    kept = study.load().runs
    jobs = {job.cell: job for job in study.jobs(Path("runs"))}
    assert kept.keys() == jobs.keys()
    for cell, run in kept.items():
        name, *arguments = shlex.split(run.command)
        assert name == "jaxkd"
        assert without_places(arguments) == without_places(jobs[cell].arguments)


@every_study
def test_every_epoch_of_every_trial_has_its_numbers(study):
    for run in study.load().runs.values():
        options = parse(shlex.split(run.command)[1:])
        for values in run.metrics.values():
            assert values.shape == (options.epochs, options.trials)
            assert np.isfinite(values).all()
        assert len(run.seeds) == options.trials


@every_study
def test_the_page_shows_the_table_and_where_it_is_from(study):
    evidence = study.load()
    assert study.table(evidence) in RESULTS
    assert evidence.provenance in RESULTS


@every_study
def test_the_figure_is_on_the_page_and_can_be_drawn_again(study, tmp_path):
    assert f"(images/{study.name}.png)" in RESULTS
    main([study.name, "--draw", str(tmp_path)])
    drawn, kept = (
        (folder / f"{study.name}.png").stat().st_size
        for folder in (tmp_path, ROOT / "docs" / "images")
    )
    assert drawn == pytest.approx(kept, rel=0.2)  # other fonts, other bytes


def test_the_page_lists_the_commands():
    for name in STUDIES:
        assert f"python -m experiments.studies {name} --run-all" in RESULTS


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of two runs, of which the first is finished."""
    monkeypatch.setattr(_study, "RESULTS", tmp_path)
    folders = {name: tmp_path / "runs" / name for name in ("done", "begun")}
    command = ("train", "--model", "mlp", "--trials", "2")
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        config = {
            "command": shlex.join(["jaxkd", *command, "--out", str(folder)]),
            "options": {"seed": 3, "trials": 2},
            "network": {"model": "mlp", "width": None},
            "dataset": {"source": "digits"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        records = [
            {
                "step": step,
                "test/accuracy": x,
                "trials": {"test/accuracy": [x, x + 0.1], "own": [7, 8]},
            }
            for step, x in enumerate((0.5, 0.123456789), start=1)
        ]
        lines = "".join(json.dumps(record | {"own": 7.5}) + "\n" for record in records)
        (folder / "metrics.jsonl").write_text(lines)
        if name == "done":
            (folder / "summary.json").write_text("{}")
    jobs = [
        Job(name, folder, (*command, "--out", str(folder)))
        for name, folder in folders.items()
    ]
    return Study("tiny", lambda root: jobs, ("own", "other"), lambda e: "", None)


def test_gathers_the_metrics_of_all_trials_of_finished_runs(study, tmp_path):
    found = study.gather(tmp_path, "commit 1")
    assert found.provenance == "commit 1"
    assert found.runs.keys() == {"done"}
    run = found.runs["done"]
    assert run.seeds == (3, 4)
    assert run.metrics.keys() == {"test/accuracy", "own"}
    np.testing.assert_array_equal(run.metrics["own"], [[7, 8], [7, 8]])
    np.testing.assert_allclose(run.last(), [0.123456789, 0.223456789])


def test_what_is_saved_is_read_again_to_five_digits(study):
    run = Run("jaxkd train", (0, 1), {"test/accuracy": np.array([[0.123456789, 1.0]])})
    study.save(Evidence("here", {"a": run, "b": run}))
    again = study.load()
    assert (again.provenance, list(again.runs)) == ("here", ["a", "b"])
    assert (again.runs["b"].command, again.runs["b"].seeds) == ("jaxkd train", (0, 1))
    np.testing.assert_array_equal(again.runs["a"].last(), [0.12346, 1.0])

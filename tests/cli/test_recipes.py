"""Methods, weights and temperature of ``jaxkd distill``."""

import json
import shutil

import numpy as np
import pytest
from cli_arguments import distill_arguments

from jaxkd import cli, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize(
    "method, parts",
    [
        ("kd", ("ce", "kd")),
        ("logit-matching", ("lm",)),
        pytest.param("hkd+kd", ("ce", "hkd", "kd"), marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_distills_by_every_recipe(tmp_path, teacher, method, parts):
    cli.main(distill_arguments(teacher, tmp_path / "run", "--method", method))
    last = runs.read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["epoch"] == 2
    for part in parts:
        assert np.isfinite(last[f"train/{part}"])


AT_INFINITY = ("--method", "kd", "--weights", "ce", "0.0", "kd", "2.0")
AT_INFINITY += ("--temperature", "inf")


@pytest.fixture(scope="module")
def at_infinity(tmp_path_factory, teacher):
    """The run folder of KD alone, at infinite temperature and twice its weight."""
    out = tmp_path_factory.mktemp("runs") / "infinite"
    cli.main(distill_arguments(teacher, out, *AT_INFINITY))
    return out


def test_weights_and_temperature_reach_the_objective(at_infinity):
    last = runs.read_metrics(at_infinity / "metrics.jsonl")[-1]
    assert "train/ce" not in last
    assert last["train/loss"] == pytest.approx(2 * last["train/kd"], rel=1e-5)


def test_a_run_at_infinite_temperature_is_written_in_json(at_infinity):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    config = json.loads(
        (at_infinity / "config.json").read_text(), parse_constant=refuse
    )
    assert config["options"]["temperature"] == "inf"
    for line in (at_infinity / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("written", ['"inf"', "Infinity"])
@pytest.mark.slow
def test_a_run_at_infinite_temperature_resumes(tmp_path, teacher, at_infinity, written):
    run = tmp_path / "run"
    shutil.copytree(at_infinity, run)
    config = (run / "config.json").read_text()
    assert '"temperature": "inf"' in config
    (run / "config.json").write_text(config.replace('"inf"', written))
    cli.main(distill_arguments(teacher, run, *AT_INFINITY, "--resume"))
    before, after = (
        runs.read_metrics(path / "metrics.jsonl") for path in (at_infinity, run)
    )
    assert before == after

import json

import jax
import numpy as np
import optax
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments

from jaxkd import cli, runs, training
from jaxkd.cli import _optimizer
from jaxkd.cli._options import OptimizerOptions

pytestmark = pytest.mark.usefixtures("quickly_compiled")


# The next test shows that the options reach the optimizer.
@pytest.mark.slow
def test_any_optimizer_schedule_clipping_and_accumulation_train(tmp_path, teacher):
    out = tmp_path / "run"
    more = ("--method", "kd", "--trials", "2", "--optimizer", "adamw")
    more += ("--optimizer-settings", "b1", "0.8", "weight_decay", "0.1")
    more += ("--schedule", "warmup-cosine", "--warmup", "0.5")
    more += ("--learning-rate", "0.01", "--clip-norm", "1", "--accumulate", "2")
    cli.main(distill_arguments(teacher, out, *more))
    last = runs.read_metrics(out / "metrics.jsonl")[-1]
    assert np.isfinite(last["train/loss"])
    options = json.loads((out / "config.json").read_text())["options"]["optimizer"]
    assert options["optimizer_settings"] == {"b1": "0.8", "weight_decay": "0.1"}
    cli.main(distill_arguments(teacher, out, *more, "--resume"))


def test_options_reach_the_optimizer(tmp_path, quadrants, monkeypatch):
    given = {}

    class Reached(Exception):
        pass

    def adamw(learning_rate, b1=0.9, mu_dtype=None):
        given.update(rates=[learning_rate(t) for t in (0, 8)], b1=b1, mu=mu_dtype)
        raise Reached

    monkeypatch.setitem(training.OPTIMIZERS, "adamw", adamw)
    more = ("--optimizer", "adamw", "--schedule", "linear", "--learning-rate", "0.9")
    more += ("--optimizer-settings", "b1", "0.5", "mu_dtype", "bfloat16")
    with pytest.raises(Reached):
        cli.main(train_arguments(quadrants, tmp_path / "run", *more))
    np.testing.assert_allclose(given.pop("rates"), [0.9, 0.1], rtol=1e-5)
    assert given == {"b1": 0.5, "mu": "bfloat16"}


def test_the_published_sgd_is_the_default():
    parameter = {"w": np.float32([1.0, -3.0])}
    made, published = (
        _optimizer.make(OptimizerOptions(), 16),
        training.published_sgd(16),
    )
    ends = []
    for optimizer in (made, published):
        now, state = parameter, optimizer.init(parameter)
        with jax.numpy_dtype_promotion("standard"):
            for _ in range(16):
                updates, state = optimizer.update(parameter, state, now)
                now = optax.apply_updates(now, updates)
        ends.append(now["w"])
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--optimizer", "adamv"], "unknown optimizer 'adamv'; did you mean"),
        (
            ["--optimizer", "lion", "--momentum", "0.5"],
            "--momentum applies to the p",
        ),
        (
            ["--optimizer", "lion", "--weight-decay", "0"],
            "--weight-decay applies to",
        ),
        (["--optimizer-settings", "b1", "0.9"], "Choose one with --optimizer"),
        (
            ["--optimizer", "sgd", "--optimizer-settings", "b1", "1"],
            "unknown setting of sgd 'b1'",
        ),
        (["--schedule", "cosine", "--milestones", "0.5"], "needs --schedule step"),
        (["--warmup", "0.5"], "needs --schedule warmup-cosine"),
        (["--accumulate", "0"], "--accumulate must be at least 1, got 0"),
        (["--clip-norm", "0"], "--clip-norm must be positive"),
        (["--optimizer", "sm3", "--schedule", "cosine"], "constant learning rate"),
        (
            ["--accumulate", "40"],
            "jaxkd: --accumulate is 40, but the run has only 9 steps: no update would "
            "be made. Lower --accumulate or train longer.",
        ),
        (["--milestones", "2", "1"], "--milestones must be fractions of training in"),
        (
            ["--warmup", "2", "--schedule", "warmup-cosine"],
            "--warmup must lie in [0, ",
        ),
        (["--momentum", "2"], "--momentum must lie in [0, 1], got 2"),
        (["--weight-decay", "nan"], "--weight-decay must be a finite number of at"),
        (
            ["--optimizer", "adamw", "--optimizer-settings", "b1", "x"],
            '--optimizer-settings b1 must be a number, got "x"',
        ),
        (
            ["--optimizer", "adamw", "--optimizer-settings", "mu_dtype", "x"],
            "--optimizer-settings mu_dtype must be a dtype such as bfloat16",
        ),
        (
            ["--optimizer", "adamw", "--optimizer-settings", "mask", "x"],
            "masks cannot be given on the command line",
        ),
    ],
)
def test_refuses(tmp_path, quadrants, capsys, arguments, says):
    out = tmp_path / "run"
    assert says in refusal(train_arguments(quadrants, out, *arguments), capsys)
    assert not out.exists()

"""What one can look at while a run goes on: profile, TensorBoard's images, W&B."""

import contextlib
import dataclasses
import inspect
import io
import json
import sys
import types

import jax
import pytest
from cli_arguments import train_arguments

from jaxkd import cli, runs, training
from jaxkd.cli import _profile
from jaxkd.cli._console import Console


@dataclasses.dataclass
class FakeProgram:
    training: training.Program
    steps_per_call: int


@pytest.fixture
def traced(monkeypatch, tmp_path):
    """Runs steps in dispatches of so many; returns where tracing began and ended."""
    profiled = contextlib.contextmanager(inspect.unwrap(_profile.profiled))
    stage_type = training.Program.__annotations__["training"]

    def run(steps_per_call, dispatches, fails_at=None):
        taken, marks = [0], []
        mark = lambda *_: marks.append(taken[0])
        monkeypatch.setattr(jax.profiler, "start_trace", mark)
        monkeypatch.setattr(jax.profiler, "stop_trace", mark)

        def advance(state, order):
            taken[0] += steps_per_call
            if taken[0] == fails_at:
                raise KeyboardInterrupt
            return state, order

        program = FakeProgram(stage_type(advance, advance), steps_per_call)
        log = io.StringIO()
        with (
            contextlib.suppress(KeyboardInterrupt),
            profiled(program, tmp_path, Console(file=log)) as watched,
        ):
            stage = watched.training
            step = stage.advance if steps_per_call == 1 else stage.advance_many
            for _ in range(dispatches):
                assert step("state", "order") == ("state", "order")
        return marks, log.getvalue()

    return run


def test_steps_10_to_20_are_traced_once(traced):
    marks, said = traced(1, 50)
    assert marks == [10, 20]
    assert "open it with `tensorboard --logdir" in said


def test_dispatches_of_several_steps_are_traced_whole(traced):
    assert traced(16, 9)[0] == [16, 32]


@pytest.mark.parametrize(
    "end", [{"dispatches": 15}, {"dispatches": 50, "fails_at": 15}]
)
def test_a_run_that_ends_while_traced_keeps_its_trace(traced, end):
    assert traced(1, **end)[0] == [10, 15]


def test_a_run_too_short_to_trace_says_so(traced):
    marks, said = traced(1, 10)
    assert marks == []
    assert "no more than 10 steps" in said


class FakeWandb(types.ModuleType):
    """Records what is asked of it."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished, self.id = [], [], 0, "abc"

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, numbers, *, step):
        self.logged.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.mark.slow
def test_weights_and_biases_gets_every_epoch_and_the_trace_is_written(
    tmp_path, quadrants, monkeypatch, capsys
):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    out = tmp_path / "run"
    options = ("--wandb", "my-project", "--profile")
    cli.main(train_arguments(quadrants, out, *options, "--batch-size", "8"))
    (started,) = wandb.started
    assert started["project"] == "my-project"
    assert started["config"] == json.loads((out / "config.json").read_text())
    records = runs.read_metrics(out / "metrics.jsonl")
    assert [step for step, _ in wandb.logged] == [r["step"] for r in records]
    assert wandb.logged[-1][1]["test/accuracy"] == records[-1]["test/accuracy"]
    assert wandb.finished == 1
    assert list(out.glob("profile/**/*.xplane.pb"))
    assert f"profile: {out / 'profile'}" in capsys.readouterr().out

    resumed = train_arguments(quadrants, out, "--wandb", "my-project", "--resume")
    cli.main([*resumed, "--batch-size", "8"])  # without --profile: not what a run is
    assert wandb.started[1]["id"] == "abc"


def test_without_weights_and_biases_the_way_to_it_is_told_and_nothing_written(
    tmp_path, quadrants, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SystemExit) as caught:
        cli.main(train_arguments(quadrants, tmp_path / "run", "--wandb", "p"))
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "pip install '.[wandb]'" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()

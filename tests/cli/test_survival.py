import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from cli_arguments import distill_arguments
from flax import nnx
from support import assert_bitwise_equal, build_resnet

from jaxkd import runs, training

RESNET = ("--model", "resnet8", "--width", "4", "--epochs", "40")


def start(arguments, **settings):
    # A shell lets its background jobs, and all that they start, ignore SIGINT.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from jaxkd.cli import main; main()"
    )
    return subprocess.Popen([sys.executable, "-c", program, *arguments], **settings)


def wait_for_checkpoint(process, folder, *, beyond):
    """Waits until a finished checkpoint is newer than a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        steps = [int(p.name) for p in folder.glob("*") if p.name.isdigit()]
        if max(steps, default=0) > beyond:
            return max(steps)
        time.sleep(0.01)
    raise AssertionError("no checkpoint appeared")


def student(run):
    network = build_resnet()(nnx.Rngs(0))
    training.Checkpoints(run / "checkpoints").restore_network(network)
    return nnx.state(network)


@pytest.mark.slow
def test_killed_twice_and_resumed_a_run_ends_with_the_same_student(tmp_path, teacher):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(distill_arguments(teacher, whole, *RESNET)).wait() == 0

    resume, beyond = (), 0
    for _ in range(2):
        often = ("--checkpoint-every", "2", *resume)
        process = start(distill_arguments(teacher, killed, *RESNET, *often))
        beyond = wait_for_checkpoint(process, killed / "checkpoints", beyond=beyond)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        resume = ("--resume",)
    assert not (killed / "summary.json").exists()
    assert start(distill_arguments(teacher, killed, *RESNET, *resume)).wait() == 0

    assert_bitwise_equal(student(whole), student(killed))
    steps = [r["step"] for r in runs.read_metrics(killed / "metrics.jsonl")]
    assert steps == [3 * epoch for epoch in range(1, 41)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_a_run_saves_and_says_the_command_that_continues_it(
    tmp_path, teacher, number
):
    whole, asked = tmp_path / "whole", tmp_path / "asked"
    assert start(distill_arguments(teacher, whole, *RESNET)).wait() == 0

    arguments = distill_arguments(teacher, asked, *RESNET)
    process = start(arguments, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(process, asked / "checkpoints", beyond=0)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 75
    _, _, command = said.splitlines()[-1].partition("continue with: ")
    program, *more = shlex.split(command)
    assert program == "jaxkd"
    assert start(more).wait() == 0
    assert_bitwise_equal(student(whole), student(asked))


def wait_for_a_write(process, folder):
    """Wait until a checkpoint is being written after another has been finished."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        finished = any(p.name.isdigit() for p in folder.glob("*"))
        if finished and any((folder / "unfinished").glob("*")):
            return
        time.sleep(0.0005)
    raise AssertionError("nothing was being written")


@pytest.mark.slow
def test_killed_while_it_writes_in_the_background_a_run_keeps_the_checkpoint_before(
    tmp_path, teacher
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(distill_arguments(teacher, whole, *RESNET)).wait() == 0

    often = ("--checkpoint-every", "1")
    process = start(distill_arguments(teacher, killed, *RESNET, *often))
    wait_for_a_write(process, killed / "checkpoints")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert training.Checkpoints(killed / "checkpoints").damaged() == []
    resumed = start(distill_arguments(teacher, killed, *RESNET, "--resume"))
    assert resumed.wait() == 0
    assert_bitwise_equal(student(whole), student(killed))


@pytest.mark.slow
def test_asked_to_end_while_it_writes_in_the_background_a_run_finishes_the_write(
    tmp_path, teacher
):
    out = tmp_path / "run"
    often = ("--checkpoint-every", "1")
    arguments = distill_arguments(teacher, out, *RESNET, *often)
    process = start(arguments, stderr=subprocess.PIPE, text=True)
    wait_for_a_write(process, out / "checkpoints")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 75
    checkpoints = training.Checkpoints(out / "checkpoints")
    assert f"interrupted after step {checkpoints.latest()};" in said
    assert all(path.name.isdigit() for path in checkpoints.directory.iterdir())

"""One run by two processes on this machine: what it writes, resumes and refuses."""

import json
import shutil
import socket

import jax
import numpy as np
import pytest
from cli_arguments import distill_arguments, train_arguments
from device_support import processes
from support import arrays

from jaxkd import cli, runs, training

MAIN = ("-c", "from jaxkd.cli import main; main()")


def both(arguments, *, devices=1, main=MAIN):
    """Runs a command in two processes; returns codes, outputs and errors."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    joining = ("--distributed", "--coordinator", f"127.0.0.1:{port}")
    return processes(
        [
            [*main, *arguments, *joining, "--num-processes", "2", "--process-id", i]
            for i in ("0", "1")
        ],
        devices=devices,
    )


def losses(run):
    return [r["train/loss"] for r in runs.read_metrics(run / "metrics.jsonl")]


def student(run):
    return arrays(jax.tree.leaves(runs.load_network(run).module))


@pytest.fixture(scope="module")
def digits_teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    cli.main(train_arguments("digits", out, "--subset", "200"))
    return out


def hkd(teacher, out, *more):
    """HKD+KD on 200 digits: 13 steps an epoch, two epochs."""
    return distill_arguments(teacher, out, "--subset", "200", *more)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, digits_teacher):
    out = tmp_path_factory.mktemp("runs") / "alone"
    cli.main(hkd(digits_teacher, out))
    return out


@pytest.fixture(scope="module")
def pair(tmp_path_factory, digits_teacher):
    """A run by two processes of two devices each, and what they printed."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    codes, outputs, errors = both(hkd(digits_teacher, out, "--report"), devices=2)
    assert codes == [0, 0], errors
    return out, outputs


@pytest.mark.slow
def test_two_processes_end_where_one_does(alone, pair):
    run, _ = pair
    np.testing.assert_allclose(losses(run), losses(alone), rtol=1e-5)
    for ours, theirs in zip(student(run), student(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_first_process_alone_prints_and_writes(pair):
    run, (first, second) = pair
    assert "test accuracy" in first
    assert f"make it with: jaxkd show {run}" in first
    assert not (run / "report.html").exists()
    assert [line for line in second.splitlines() if "[Gloo]" not in line] == []
    assert [r["epoch"] for r in runs.read_metrics(run / "metrics.jsonl")] == [1, 2]
    assert len(list(run.glob("events*"))) == 1
    assert json.loads((run / "config.json").read_text())["versions"]["devices"] == 4


@pytest.mark.slow
def test_one_process_reads_what_two_have_written(alone, pair, capsys):
    run, _ = pair
    cli.main(["evaluate", str(run)])
    cli.main(["evaluate", str(alone)])
    first, second = capsys.readouterr().out.splitlines()
    # Accuracy, loss and number of images, without the speed.
    assert first.split(", ")[:3] == second.split(", ")[:3]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 1])
def test_two_processes_resume_also_on_other_devices(
    tmp_path, digits_teacher, pair, devices
):
    run = shutil.copytree(pair[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "26")
    arguments = hkd(digits_teacher, run, "--resume")
    codes, outputs, errors = both(arguments, devices=devices)
    assert codes == [0, 0], errors
    assert f"resuming {run} at step 13" in outputs[0]
    for resumed, whole in zip(student(run), student(pair[0]), strict=True):
        tolerance = 0 if devices == 2 else 1e-4
        np.testing.assert_allclose(resumed, whole, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_one_process_resumes_what_two_began(tmp_path, digits_teacher, pair):
    run = shutil.copytree(pair[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "26")
    cli.main(hkd(digits_teacher, run, "--resume"))
    for resumed, whole in zip(student(run), student(pair[0]), strict=True):
        np.testing.assert_allclose(resumed, whole, rtol=1e-4, atol=1e-5)


# The second process is asked to stop, when it looks for the second time.
ASKED = """
import sys
from jaxkd import cli, training
fit, asked = training.fit, iter([False, sys.argv[-1] == "1"])
training.fit = lambda *a, **s: fit(*a, **{**s, "stop": lambda: next(asked)})
cli.main()
"""


@pytest.mark.slow
def test_a_signal_to_either_process_saves_and_ends_both(tmp_path, digits_teacher):
    out = tmp_path / "run"
    codes, _, errors = both(hkd(digits_teacher, out), main=("-c", ASKED))
    assert codes == [cli.RESUMABLE] * 2, errors
    assert "interrupted after step 13; continue with: jaxkd distill" in errors[0]
    assert training.Checkpoints(out / "checkpoints").latest() == 13


JOIN = """
import sys
import jax, numpy as np
from jax.sharding import Mesh
at = sys.argv.index("--coordinator") + 1
jax.distributed.initialize(sys.argv[at], 2, int(sys.argv[-1]))
devices = np.array(jax.devices())
"""

STREAM = """
import optax
from support import build_mlp, make_dataset
from jaxkd import data, distillers, training

def history(images):
    dataset = make_dataset()
    split = lambda part: part._replace(images=images(part.images))
    object.__setattr__(dataset, "train", split(dataset.train))
    object.__setattr__(dataset, "test", split(dataset.test))
    program = training.compile_program(
        build_mlp(), dataset, distillers.cross_entropy(), optimizer=optax.sgd(0.05),
        batch_size=16, mesh=Mesh(devices, ("data",)),
    )
    _, records = training.fit(program, program.start(3), epochs=2)
    return [r[name] for r in records for name in ("train/loss", "test/loss")]

print(history(data.Streamed) == history(np.asarray))
"""


@pytest.mark.slow
def test_streamed_images_change_no_bit():
    codes, outputs, errors = both([], devices=2, main=("-c", JOIN + STREAM))
    assert codes == [0, 0], errors
    assert [output.splitlines()[-1] for output in outputs] == ["True", "True"]


# What each process would read of a batch of 8, on two meshes of four devices.
READ = """
from jaxkd.training._devices.placement import Placement
full = np.arange(8)
for shape, trials in (((1, 4), 1), ((2, 2), 2)):
    placement = Placement(Mesh(devices.reshape(shape), ("trial", "data")), 8, trials)
    own = placement.own_rows(8)
    whole = placement.put_rows(full[own], 8)
    same = all((s.data == full[s.index]).all() for s in whole.addressable_shards)
    print(own.tolist(), whole.shape, same)
"""


@pytest.mark.slow
def test_a_process_reads_the_rows_of_its_own_devices():
    codes, outputs, errors = both([], devices=2, main=("-c", JOIN + READ))
    assert codes == [0, 0], errors
    first, second = ([x for x in o.splitlines() if "[G" not in x] for o in outputs)
    everything = "[0, 1, 2, 3, 4, 5, 6, 7] (8,) True"
    assert first == ["[0, 1, 2, 3] (8,) True", everything]
    assert second == ["[4, 5, 6, 7] (8,) True", everything]


@pytest.mark.slow
def test_a_refused_run_ends_both_processes_with_code_2(digits_teacher, pair):
    codes, _, errors = both(hkd(digits_teacher, pair[0]))
    assert codes == [2, 2]
    assert f"jaxkd: {pair[0]} already exists" in errors[0]
    assert "jaxkd: the first process stopped the run" in errors[1]


# The data are at their place for the first process alone.
MISSING = """
import sys
from jaxkd import cli
if sys.argv[-1] == "1":
    sys.argv[sys.argv.index("digits")] = "nowhere.npz"
cli.main()
"""


@pytest.mark.slow
def test_what_one_process_cannot_read_ends_both_with_code_2(tmp_path):
    out = tmp_path / "run"
    codes, _, errors = both(train_arguments("digits", out), main=("-c", MISSING))
    assert codes == [2, 2]
    assert "jaxkd: another process cannot read its data" in errors[0]
    assert "nowhere.npz" in errors[1]
    assert not out.exists()

"""Runs that start from the weights of another run."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, save_dataset, train_arguments
from flax import nnx
from support import arrays, assert_bitwise_equal, make_dataset

from jaxkd import cli, runs
from jaxkd.cli._initial import load_initial
from jaxkd.data import Normalization

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LIKE = runs.NetworkConfig("mlp", 16, "float32", 4, (8, 8, 1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, teacher):
    file = tmp_path_factory.mktemp("files") / "teacher.safetensors"
    arguments = ["export", str(teacher), "--format", "safetensors", "--out", str(file)]
    cli.main(arguments)
    return file


@pytest.fixture(scope="module")
def resnet(tmp_path_factory, quadrants):
    """A run of a network with batch statistics."""
    out = tmp_path_factory.mktemp("runs") / "resnet"
    model = ("--model", "resnet8", "--width", "4", "--epochs", "1")
    cli.main(train_arguments(quadrants, out, *model))
    return out


def variables(module):
    return arrays(nnx.state(module, (nnx.Param, nnx.BatchStat)))


def test_a_run_folder_and_its_export_give_the_same_weights(teacher, exported):
    network = runs.load_run(teacher)
    for path in (teacher, exported):
        initial = load_initial(path, LIKE)
        started = initial.build(LIKE.build)
        for seed in range(2):  # every trial
            assert_bitwise_equal(
                variables(started(nnx.Rngs(seed))), variables(network.module)
            )
        np.testing.assert_array_equal(
            initial.normalization.mean, network.normalization.mean
        )


def test_the_fingerprint_is_that_of_the_weights(teacher, exported, resnet):
    one, other = (load_initial(p, LIKE).description for p in (teacher, exported))
    assert one == other
    like = runs.NetworkConfig("resnet8", 4, "float32", 4, (8, 8, 1))
    third = load_initial(resnet, like).description
    assert third["fingerprint"] != one["fingerprint"]


def test_batch_statistics_come_along(resnet):
    like = runs.NetworkConfig("resnet8", 4, "float32", 4, (8, 8, 1))
    started = load_initial(resnet, like).build(like.build)
    # As a run does it: traced, and with shapes alone.
    found = jax.jit(lambda: nnx.state(started(nnx.Rngs(3))))()
    expected = nnx.state(runs.load_run(resnet).module)
    assert_bitwise_equal(arrays(found), arrays(expected))
    assert any(
        np.any(x != 0) for x in arrays(nnx.state(started(nnx.Rngs(0)), nnx.BatchStat))
    )
    shapes = nnx.state(nnx.eval_shape(lambda: started(nnx.Rngs(0))))
    assert jax.tree.structure(shapes) == jax.tree.structure(expected)


def test_a_new_classifier_has_the_new_weights_and_the_rest_does_not(teacher):
    like = dataclasses.replace(LIKE, num_classes=7)
    initial = load_initial(teacher, like, new_classifier=True)
    started = initial.build(like.build)(nnx.Rngs(3))
    fresh, trained = like.build(nnx.Rngs(3)), runs.load_run(teacher).module
    assert_bitwise_equal(variables(started.classifier), variables(fresh.classifier))
    assert_bitwise_equal(variables(started.layers), variables(trained.layers))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"width": 8}, "classifier.kernel is [16, 4] there, [8, 4] here"),
        ({"num_classes": 7}, "has 4 classes, but this run has 7 classes (classifier."),
        ({"num_classes": 7}, "Add --new-classifier"),
        (
            {"image_shape": (6, 6, 1)},
            "layers.0.kernel is [64, 16] there, [36, 16] here",
        ),
        (
            {"model": "resnet8", "width": 4},
            "holds mlp of width 16, whose weights do not",
        ),
    ],
)
def test_another_architecture_is_refused_with_names_and_shapes(teacher, changes, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_initial(teacher, dataclasses.replace(LIKE, **changes))
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"--init {teacher} ")


def test_a_file_that_is_no_export_is_refused_with_the_remedy(tmp_path, exported):
    from safetensors.numpy import load_file, save_file

    bare = tmp_path / "bare.safetensors"
    save_file(load_file(exported), bare)
    with pytest.raises(ValueError, match="with `jaxkd convert`"):
        load_initial(bare, LIKE)
    bare.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        load_initial(bare, LIKE)
    with pytest.raises(ValueError, match="there is no run folder and no"):
        load_initial(tmp_path / "none", LIKE)


def test_another_normalization_is_said_with_the_values(teacher, capsys):
    initial = load_initial(teacher, LIKE)
    mean, std = map(np.asarray, initial.normalization)
    initial.warn_of_other_inputs(teacher, Normalization(mean * 1.001, std))
    assert capsys.readouterr().err == ""
    initial.warn_of_other_inputs(teacher, Normalization(mean + 0.25, std))
    (line,) = capsys.readouterr().err.splitlines()
    for said in (str(teacher), f"mean {mean[0]:.4g}", f"mean {mean[0] + 0.25:.4g}"):
        assert said in line


def without_times(run):
    times = ("seconds", "images_per_second")
    return [
        {k: v for k, v in record.items() if k not in times}
        for record in runs.read_metrics(run)
    ]


def test_a_run_needs_its_initial_weights_only_until_its_first_checkpoint(
    tmp_path, quadrants, teacher, exported, capsys
):
    file = shutil.copy(exported, tmp_path / "initial.safetensors")
    whole, out = tmp_path / "whole", tmp_path / "run"
    cli.main(train_arguments(quadrants, whole, "--init", str(teacher)))
    arguments = train_arguments(quadrants, out, "--init", str(file))
    cli.main(arguments)
    assert without_times(out) == without_times(whole)
    initial = runs.read_config(out)["initial"]
    assert initial == runs.read_config(whole)["initial"]

    shutil.rmtree(out / "checkpoints" / "9")
    (tmp_path / "initial.safetensors").unlink()
    cli.main([*arguments, "--resume"])  # from step 6
    assert without_times(out) == without_times(whole)

    shutil.rmtree(out / "checkpoints")
    assert "there is no run folder" in refusal([*arguments, "--resume"], capsys)


def test_a_run_is_not_resumed_with_other_initial_weights(
    tmp_path, quadrants, teacher, capsys
):
    out, other = tmp_path / "run", tmp_path / "other"
    short = ("--epochs", "1")
    cli.main(train_arguments(quadrants, other, *short))
    cli.main(train_arguments(quadrants, out, *short, "--init", str(teacher)))
    again = train_arguments(quadrants, out, *short, "--resume")
    assert "initial fingerprint was" in refusal([*again, "--init", str(other)], capsys)
    assert "initial fingerprint was" in refusal(again, capsys)


@pytest.mark.slow
def test_trials_of_a_student_start_from_weights_of_other_classes(tmp_path, teacher):
    dataset = make_dataset(classes=6)
    file = save_dataset(tmp_path / "six.npz", dataset)
    six, out = tmp_path / "six", tmp_path / "student"
    cli.main(train_arguments(file, six, "--init", str(teacher), "--new-classifier"))
    more = ("--method", "kd", "--width", "16", "--trials", "2", "--init", str(six))
    cli.main(distill_arguments(six, out, *more))
    config = runs.read_config(out)
    assert config["initial"]["new_classifier"] is False
    assert runs.read_config(six)["initial"]["new_classifier"] is True
    accuracies = runs.read_metrics(out)[-1]["trials"]["test/top5_accuracy"]
    assert len(accuracies) == 2

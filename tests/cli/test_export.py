import json

import jax.export
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import nnx
from model_support import move_from_identity, quickly_built
from run_support import CONFIG, NETWORK, write_config
from support import assert_bitwise_equal, build_resnet

from jaxkd import cli, interchange, models, runs, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """The run folder of a resnet8 with 4 channels, made by hand."""
    out = tmp_path_factory.mktemp("runs") / "resnet"
    network = build_resnet()(nnx.Rngs(0))
    move_from_identity(network)
    write_config(out, CONFIG | {"network": NETWORK | {"model": "resnet8", "width": 4}})
    checkpoints = training.Checkpoints(out / "checkpoints")
    checkpoints.save_network(network, {"history": []}, step=1)
    return out


def export(run, kind, out):
    cli.main(["export", str(run), "--format", kind, "--out", str(out)])


def refusal(capsys, run, kind, out):
    with pytest.raises(SystemExit) as caught:
        export(run, kind, out)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_safetensors_come_back_through_convert_bit_for_bit(tmp_path, resnet):
    path, back = tmp_path / "student.safetensors", tmp_path / "back"
    export(resnet, "safetensors", path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["model"] == "resnet8"
    assert metadata["width"] == "4"
    normalization = json.loads(metadata["normalization"])
    again = ["convert", str(path), "--model", "resnet8", "--width", "4"]
    for name in ("mean", "std"):
        again += [f"--{name}", *map(repr, normalization[name])]
    cli.main([*again, "--image-size", "8", "--out", str(back)])
    ours, theirs = runs.load_network(resnet), runs.load_network(back)
    np.testing.assert_array_equal(ours.normalization, theirs.normalization, strict=True)
    expected = interchange.to_state_dict(ours.module)
    for name, array in interchange.to_state_dict(theirs.module).items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


@pytest.fixture(scope="module")
def reused(tmp_path_factory):
    """The run folder of a student that reuses its teacher's classifier."""
    out = tmp_path_factory.mktemp("runs") / "reused"
    config = NETWORK | {"model": "resnet8", "width": 4, "reused_features": 6}
    network = quickly_built(
        lambda rngs: models.ReusedClassifier(
            build_resnet()(rngs), 16, jnp.ones((6, 4)), jnp.ones(4), rngs=rngs
        )
    )
    move_from_identity(network)
    write_config(out, CONFIG | {"network": config})
    checkpoints = training.Checkpoints(out / "checkpoints")
    checkpoints.save_network(network, {"history": []}, step=1)
    return out


@pytest.mark.parametrize("kind", ["mlp", "reused"])
def test_a_network_without_names_in_pytorch_comes_back_bit_for_bit(
    tmp_path, teacher, reused, kind
):
    run = teacher if kind == "mlp" else reused
    path, back = tmp_path / "x.safetensors", tmp_path / "back"
    export(run, "safetensors", path)
    cli.main(["convert", str(path), "--out", str(back)])
    ours, theirs = runs.load_network(run), runs.load_network(back)
    assert_bitwise_equal(nnx.state(ours.module), nnx.state(theirs.module))
    assert theirs.network == ours.network
    assert theirs.class_names == ours.class_names
    np.testing.assert_array_equal(ours.normalization, theirs.normalization, strict=True)


def test_the_header_is_not_needed_to_recognize_an_mlp(tmp_path, teacher):
    path, back = tmp_path / "x.safetensors", tmp_path / "back"
    state = interchange.to_state_dict(runs.load_network(teacher).module)
    safetensors.numpy.save_file(state, path)
    facts = ("--image-size", "8", "--mean", "0.5", "--std", "0.2")
    model = ("--model", "mlp", "--width", "16")
    cli.main(["convert", str(path), *model, *facts, "--out", str(back)])
    assert runs.load_network(back).network.image_shape == (8, 8, 1)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"model": "resnet99"}, "names the unknown model 'resnet99'"),
        ({"image_shape": "[8, 8]"}, "image_shape must be three numbers"),
        ({"image_shape": "8"}, "image_shape must be three numbers"),
        ({"num_classes": "-4"}, "sizes must be positive integers"),
        ({"width": '"big"'}, "sizes must be positive integers"),
        ({"width": "7"}, "does not fit MLP"),
        ({"image_shape": "[9, 9, 1]"}, "does not fit MLP"),
        ({"normalization": "{}"}, "normalization has no numbers mean and std"),
        ({"normalization": '{"mean": [NaN], "std": [1]}'}, "--mean must lie in 0 to 1"),
        ({"class_names": '["a"]'}, "has 1 name, but the network has 4 classes"),
        ({"class_names": "3"}, "must contain a list of strings"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, teacher, capsys, change, says):
    path, out = tmp_path / "x.safetensors", tmp_path / "out"
    export(teacher, "safetensors", path)
    with safetensors.safe_open(path, framework="numpy") as file:
        header = file.metadata()
    state = interchange.read_state_dict(path)
    safetensors.numpy.save_file(state, path, metadata=header | change)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["convert", str(path), "--out", str(out)])
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not out.exists()


def test_orbax_contains_the_classifier_that_a_student_reuses(tmp_path, reused):
    export(reused, "orbax", tmp_path / "arrays")
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "arrays")
    assert restored["kernel"].shape == (6, 4)


def test_stablehlo_computes_the_networks_logits(tmp_path, teacher, quadrants):
    path = tmp_path / "teacher.stablehlo"
    export(teacher, "stablehlo", path)
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    with np.load(quadrants) as arrays:
        images = arrays["x_test"]
    loaded = runs.load_network(teacher)
    frozen = training.freeze(loaded.module, loaded.normalization)
    expected = frozen.apply(frozen.variables, images).logits
    np.testing.assert_allclose(program.call(images), expected, rtol=1e-5, atol=1e-5)
    description = json.loads((tmp_path / "teacher.json").read_text())
    assert description["class_names"] == ["0", "1", "2", "3"]
    assert description["input"]["shape"] == ["batch", 8, 8, 1]
    mean = loaded.normalization.mean
    np.testing.assert_array_equal(
        np.float32(description["normalization"]["mean"]), mean
    )


def test_orbax_alone_restores_the_arrays(tmp_path, teacher):
    export(teacher, "orbax", tmp_path / "arrays")
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "arrays")
    expected = runs.load_network(teacher).module.classifier.kernel[...]
    np.testing.assert_array_equal(restored["classifier.kernel"], expected)


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo", "onnx", "orbax"])
def test_what_exists_is_not_overwritten(tmp_path, teacher, capsys, kind):
    (tmp_path / "out").write_text("precious")
    line = refusal(capsys, teacher, kind, tmp_path / "out")
    assert "exists already. Choose another" in line
    assert (tmp_path / "out").read_text() == "precious"


def test_what_cannot_be_exported_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    assert "no run folder" in refusal(capsys, tmp_path / "none", "stablehlo", out)
    assert not out.exists()


def test_onnx_computes_the_networks_logits(tmp_path, teacher, quadrants, capsys):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "teacher.onnx"
    export(teacher, "onnx", path)
    assert "differ by at most" in capsys.readouterr().out
    with np.load(quadrants) as arrays:
        images = arrays["x_test"]
    loaded = runs.load_network(teacher)
    frozen = training.freeze(loaded.module, loaded.normalization)
    expected = frozen.apply(frozen.variables, images).logits
    found = interchange.run_onnx(path, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    metadata = {x.key: x.value for x in onnx.load(path).metadata_props}
    assert json.loads(metadata["class_names"]) == ["0", "1", "2", "3"]


def test_a_network_in_bfloat16_is_written_in_float32(tmp_path):
    pytest.importorskip("onnx")
    network = build_resnet()(nnx.Rngs(0))
    config = NETWORK | {"model": "resnet8", "width": 4, "compute_dtype": "bfloat16"}
    write_config(tmp_path / "run", CONFIG | {"network": config})
    checkpoints = training.Checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.save_network(network, {"history": []}, step=1)
    export(tmp_path / "run", "onnx", tmp_path / "x.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    normalization = runs.load_network(tmp_path / "run").normalization
    expected = training.freeze(network, normalization)(images).logits
    found = interchange.run_onnx(tmp_path / "x.onnx", images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_int8_is_calibrated_and_its_accuracy_printed(
    tmp_path, teacher, quadrants, capsys
):
    pytest.importorskip("onnx")
    path = tmp_path / "teacher.onnx"
    more = ["--quantize", "int8", "--calibration", "40"]
    cli.main(["export", str(teacher), "--format", "onnx", "--out", str(path), *more])
    printed = capsys.readouterr().out
    assert "quantized to int8 with 40 training images" in printed
    with np.load(quadrants) as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    accuracy = (interchange.run_onnx(path, images).argmax(axis=1) == labels).mean()
    assert f"{accuracy:.2%} in int8" in printed


def test_only_onnx_is_quantized(tmp_path, teacher, capsys):
    arguments = ["export", str(teacher), "--format", "orbax", "--quantize", "int8"]
    with pytest.raises(SystemExit, match="2"):
        cli.main([*arguments, "--out", str(tmp_path / "x")])
    assert "only ONNX files are quantized" in capsys.readouterr().err

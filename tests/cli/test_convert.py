import hashlib
import json
import os
import re
import sys

import numpy as np
import pytest
import safetensors.numpy
import torch
import torch_networks
from cli_arguments import distill_arguments
from flax import nnx
from model_support import quickly_built
from support import assert_bitwise_equal
from torch_support import as_numpy, logits, resnet8

from jaxkd import cli, interchange, models, runs, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CHANNEL = ("--mean", "0.4", "--std", "0.25", "--image-size", "8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as published: of a network of 4 classes and 1 channel."""
    path = tmp_path_factory.mktemp("published") / "ckpt_epoch_240.pth"
    state = {f"module.{n}": x for n, x in resnet8().state_dict().items()}
    torch.save({"epoch": 240, "model": state, "best_acc": np.float64(73.1)}, path)
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory, checkpoint, quadrants):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    more = ("--dataset", str(quadrants), "--out", str(out))
    cli.main(["convert", str(checkpoint), *CHANNEL, *more])
    return out


def refusal(capsys, *arguments):
    """Runs a conversion that must be refused; returns its one line on stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["convert", *map(str, arguments)])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_evaluate_finds_the_accuracy_that_pytorch_has(converted, quadrants, capsys):
    cli.main(["evaluate", str(converted)])
    with np.load(quadrants) as arrays:
        images = (arrays["x_test"].astype(np.float32) / 255 - 0.4) / 0.25
        right = logits(resnet8(), images.astype(np.float32)).argmax(-1)
        accuracy = (right == arrays["y_test"]).mean()
    printed = capsys.readouterr().out
    assert printed.startswith("resnet8 (step 0) on q:")
    assert f"test accuracy {accuracy:.2%}" in printed


def test_distill_takes_it_as_a_teacher(tmp_path, converted, teacher_of):
    taken = teacher_of(distill_arguments(converted, tmp_path / "student"))
    assert_bitwise_equal(taken, nnx.state(runs.load_network(converted).module))


@pytest.mark.slow
def test_a_student_is_trained_with_it_as_the_teacher(tmp_path, converted):
    out = tmp_path / "student"
    cli.main(distill_arguments(converted, out, "--method", "kd", "--epochs", "1"))
    assert (out / "summary.json").is_file()


def test_the_run_folder_holds_the_network_and_where_it_came_from(
    checkpoint, converted, quadrants
):
    loaded = runs.load_network(converted)
    back = interchange.to_state_dict(loaded.module)
    for name, array in as_numpy(resnet8().state_dict()).items():
        if "num_batches" not in name:
            np.testing.assert_array_equal(back[name], array, strict=True)
    config = json.loads((converted / "config.json").read_text())
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert config["source"] == {"file": "ckpt_epoch_240.pth", "sha256": digest}
    assert config["network"]["model"] == "resnet8"
    assert config["network"]["num_classes"] == 4
    assert config["network"]["image_shape"] == [8, 8, 1]
    assert config["normalization"]["std"] == [0.25]
    assert config["dataset"]["source"] == str(quadrants)


def test_color_images_get_the_published_normalization(tmp_path, capsys):
    path = tmp_path / "teacher.pt"
    torch.save(resnet8(classes=5, channels=3).state_dict(), path)
    cli.main(["convert", str(path), "--model", "resnet8", "--out", str(tmp_path / "t")])
    printed = capsys.readouterr()
    assert "resnet8, 5 classes, images of (32, 32, 3)" in printed.out
    assert "those of CIFAR-100 are used" in printed.err
    loaded = runs.load_network(tmp_path / "t")
    mean, std = loaded.normalization
    np.testing.assert_allclose(mean, [0.5071, 0.4867, 0.4408], rtol=1e-6)
    np.testing.assert_allclose(std, [0.2675, 0.2565, 0.2761], rtol=1e-6)
    assert "--dataset" in refusal_of_evaluate(tmp_path / "t", capsys)


def resnet18_state():
    """The tensors of a published resnet18 of 4 classes and 8 channels."""
    facts = {"num_classes": 4, "image_shape": (32, 32, 3), "width": 8}
    build = lambda rngs: models.build("resnet18", **facts, rngs=rngs)
    return interchange.to_state_dict(quickly_built(build))


IMAGENET = ("--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225")


def test_what_a_network_for_imagenet_was_trained_with_is_asked_for(tmp_path, capsys):
    path, out = tmp_path / "resnet18.safetensors", tmp_path / "out"
    safetensors.numpy.save_file(resnet18_state(), path)
    common = (path, "--model", "resnet18", "--width", "8", "--out", out)
    line = refusal(capsys, *common)
    assert "--image-size, --mean and --std are required for images of 3 ch" in line
    assert "--image-size is required" in refusal(capsys, *common, *IMAGENET)
    assert "--mean and --std are" in refusal(capsys, *common, "--image-size", "64")
    assert not out.exists()
    cli.main(["convert", *map(str, common), *IMAGENET, "--image-size", "64"])
    assert runs.load_network(out).network.image_shape == (64, 64, 3)


def test_a_vision_transformer_of_torchvision_is_recognized_without_its_image_size(
    tmp_path, capsys
):
    theirs = torch_networks.VisionTransformer(224, 16, 24, 12, heads=3, classes=4)
    path, out = tmp_path / "vit.safetensors", tmp_path / "out"
    state = as_numpy(torch_networks.with_random_values(theirs).state_dict())
    safetensors.numpy.save_file(state, path)
    common = (path, "--model", "vit_ti", "--width", "24", *IMAGENET, "--out", out)
    line = refusal(capsys, *common)
    assert "--image-size is required for images of 3 channels" in line
    cli.main(["convert", *map(str, common), "--image-size", "224"])
    back = interchange.to_state_dict(runs.load_network(out).module)
    expected = state["encoder.layers.encoder_layer_3.self_attention.in_proj_weight"]
    np.testing.assert_array_equal(back["blocks.3.attn.qkv.weight"], expected)


def test_names_of_many_layers_are_changed_by_one_pattern(tmp_path):
    state = {
        re.sub(r"layer(\d)\.0\.conv", r"stages.\1.unit_0.convolution", name): x
        for name, x in resnet8().state_dict().items()
    }
    path, out = tmp_path / "odd.pth", tmp_path / "out"
    torch.save(state, path)
    names = ("--rename", "stages.*.unit_*.convolution", "layer*.*.conv")
    model = ("--model", "resnet8", *CHANNEL)
    cli.main(["convert", str(path), "--out", str(out), *model, *names])
    back = interchange.to_state_dict(runs.load_network(out).module)
    expected = resnet8().state_dict()["layer2.0.conv2.weight"]
    np.testing.assert_array_equal(back["layer2.0.conv2.weight"], expected)


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("names.txt", "ape\nbee\ncat\ndog\n", None),
        ("names.json", '["ape", "bee", "cat", "dog"]', None),
        ("names.txt", "\ufeffape\r\nbee\r\ncat\r\ndog", None),
        ("names.txt", "ape\nbee\ncat\n", "has 3 names, but the network has 4 classes"),
        ("names.txt", "ape\nbee\ncat\nape\n", "has the name 'ape' twice"),
        ("names.txt", "ape\n\ncat\ndog\n", "has an empty name"),
        ("names.json", '{"ape": 0}', "must contain a list of strings"),
        ("names.json", "[1, 2, 3, 4]", "must contain a list of strings"),
        ("names.json", "[", "must be text in UTF-8 or a JSON list"),
        ("names.txt", b"\xff\xfe", "must be text in UTF-8"),
        (".", None, "is not a file"),
    ],
)
def test_class_names_come_from_a_file(tmp_path, checkpoint, capsys, name, text, says):
    path, out = tmp_path / name, tmp_path / "run"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    model = ("--model", "resnet8", *CHANNEL)
    arguments = [checkpoint, *model, "--class-names", path, "--out", out]
    if says is not None:
        assert says in refusal(capsys, *arguments)
        assert not out.exists()
        return
    cli.main(["convert", *map(str, arguments)])
    assert runs.load_network(out).class_names == ("ape", "bee", "cat", "dog")


def test_one_of_two_networks_is_chosen_and_its_names_are_changed(tmp_path, capsys):
    ours, theirs = resnet8().state_dict(), resnet8(classes=5).state_dict()
    for state in (ours, theirs):
        for name in ("weight", "bias"):
            state[f"head.{name}"] = state.pop(f"fc.{name}")
        state["stem.weight"] = state.pop("conv1.weight")
    path, out = tmp_path / "both.pth", tmp_path / "out"
    torch.save({"model": theirs, "ema": ours, "epoch": 3}, path)
    assert "contains 2 state dicts: model (" in refusal(capsys, path, "--out", out)
    names = ["--rename", "head.", "fc.", "--rename", "stem.", "conv1."]
    key = ["--key", "ema", *CHANNEL, "--model", "resnet8"]
    cli.main(["convert", str(path), "--out", str(out), *key, *names])
    back = interchange.to_state_dict(runs.load_network(out).module)
    np.testing.assert_array_equal(back["fc.weight"], ours["head.weight"].numpy())


def test_nothing_is_left_behind_if_the_run_cannot_be_written(
    tmp_path, checkpoint, capsys, monkeypatch
):
    def fail(self, *arguments, **settings):
        del self, arguments, settings
        (out / "checkpoints").mkdir(parents=True)
        raise OSError("no space left on device")

    out = tmp_path / "run"
    monkeypatch.setattr(training.Checkpoints, "save_network", fail)
    arguments = (checkpoint, "--model", "resnet8", *CHANNEL, "--out", out)
    assert "no space left" in refusal(capsys, *arguments)
    assert not out.exists()


def test_color_images_of_another_size_have_no_normalization_by_default(
    tmp_path, capsys
):
    path = tmp_path / "teacher.pt"
    torch.save(resnet8(classes=5, channels=3).state_dict(), path)
    size = ("--image-size", "64", "--out", str(tmp_path / "t"))
    with pytest.raises(SystemExit, match="2"):
        cli.main(["convert", str(path), "--model", "resnet8", *size])
    assert "images of 3 channels and size 64: give the" in capsys.readouterr().err


def refusal_of_evaluate(run, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", str(run)])
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "--mean and --std are required for images of 1 channel"),
        (["--mean", "0.5"], "must be given together"),
        (["--mean", "0.5", "0.5", "--std", "1"], "--mean must have one number for"),
        (["--mean", "nan", "--std", "1"], "--mean must lie in 0 to 1"),
        (["--mean", "0.5", "--std", "0"], "--std must be positive"),
        (["--mean", "120", "--std", "60"], "divide by 255: 0.4706"),
        (["--key", "ema"], "key 'ema' is not a state dict of the file. It contains"),
        (["--rename", "conv9.", "conv1."], "'conv9.' is not the beginning of any name"),
        (["--rename", "conv1.", "*."], "rename has more * in the replacement"),
        (["--rename", "conv1.", "bn1."], "rename gives two tensors the name 'bn1.w"),
        (["--model", "resnet21"], "unknown model 'resnet21'; did you mean"),
        (["--model", "resnet14"], "does not fit resnet14"),
        (["--model", "mlp"], "none of mlp has"),
        (["--width", "0"], "--width must be at least 1, got 0"),
        (["--image-size", "0"], "--image-size must be at least 1"),
        (["--image-size", "65537"], "--image-size must be at most 65536"),
        (["--model", "resnet8", "--image-size", "4"], "at least 8x8 pixels"),
    ],
)
def test_unusable_options_are_refused(tmp_path, checkpoint, capsys, arguments, says):
    out = tmp_path / "run"
    line = refusal(capsys, checkpoint, "--out", out, *arguments)
    assert says in line
    assert not out.exists()


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def break_malicious(path, state):
    torch.save({"model": state, "x": Malicious(f"touch {path.parent}/trace")}, path)


def break_truncated(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:5000])


def break_text(path, state):
    path.write_text("no checkpoint")


def break_missing_key(path, state):
    torch.save({n: x for n, x in state.items() if n != "bn1.bias"}, path)


def break_shape(path, state):
    torch.save({**state, "bn1.bias": torch.zeros(17)}, path)


def break_nan(path, state):
    torch.save({**state, "bn1.bias": torch.full((16,), np.nan)}, path)


def break_file(path, state):
    del path, state


@pytest.mark.parametrize(
    "write, says",
    [
        (break_malicious, r"refused, and nothing in it was run: .*system"),
        (break_truncated, "damaged or not a PyTorch checkpoint"),
        (break_text, "damaged or not a PyTorch checkpoint"),
        (break_missing_key, "nearest is resnet8, with 1 missing: bn1.bias"),
        (break_shape, r"1 of another shape: bn1.bias \(\[17\], must be \[16\]\)"),
        (break_nan, "must be finite; 1 are not: bn1.bias"),
        (break_file, "teacher.pth does not exist"),
    ],
)
def test_unusable_checkpoints_are_refused(tmp_path, capsys, write, says):
    path, out = tmp_path / "teacher.pth", tmp_path / "run"
    write(path, resnet8().state_dict())
    line = refusal(capsys, path, "--out", out, *CHANNEL)
    assert re.search(says, line)
    assert str(path) in line
    assert not out.exists()
    assert not (tmp_path / "trace").exists()


def test_an_unsupported_suffix_is_refused(tmp_path, capsys):
    (tmp_path / "teacher.h5").touch()
    line = refusal(capsys, tmp_path / "teacher.h5", "--out", tmp_path / "run")
    assert "suffix must be" in line


def test_an_existing_folder_is_not_overwritten(checkpoint, converted, capsys):
    line = refusal(capsys, checkpoint, *CHANNEL, "--out", converted)
    assert "already exists" in line


def test_without_torch_the_extra_is_named(tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    line = refusal(capsys, checkpoint, *CHANNEL, "--out", tmp_path / "run")
    assert "pip install '.[torch]'" in line


def test_a_converted_network_cannot_be_trained_on(converted, quadrants, capsys):
    arguments = [
        "--dataset",
        str(quadrants),
        "--model",
        "resnet8",
        "--batch-size",
        "16",
    ]
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", *arguments, "--out", str(converted), "--resume"])
    assert caught.value.code == 2
    assert "was started with other settings" in capsys.readouterr().err


def test_checkpoints_of_a_network_alone_hold_nothing_to_resume(converted):
    checkpoints = training.Checkpoints(converted / "checkpoints")
    assert checkpoints.latest() == 0
    assert [p.name for p in (converted / "checkpoints").iterdir()] == ["0"]
    assert not (converted / "checkpoints" / "0" / "training").exists()

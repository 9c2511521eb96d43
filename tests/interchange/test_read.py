import argparse
import os
import sys
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch_support import as_numpy, resnet8

from jaxkd import InvalidInputError, interchange

ZIP = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(content, path, *, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def state():
    return resnet8().state_dict()


def assert_same(read, state):
    assert list(read) == list(state)
    for name, array in as_numpy(state).items():
        np.testing.assert_array_equal(read[name], array, strict=True)


@ZIP
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": prefixed(state, "module.")},
        lambda state: prefixed(state, "_orig_mod."),
        lambda state: prefixed(state, "module._orig_mod."),
        lambda state: {"model": prefixed(state, "_orig_mod.module.")},
    ],
    ids=["bare", "model", "state_dict", "compiled", "both", "both, other way"],
)
def test_a_state_dict_is_read_from_all_known_wrappers(tmp_path, state, zipped, wrap):
    path = save(wrap(state), tmp_path / "teacher.pth", zipped=zipped)
    assert_same(interchange.read_state_dict(path), state)


@pytest.mark.parametrize("name", ["t.pt", "t.ckpt", "t.pth.tar", "t.bin", "T.PTH"])
def test_all_supported_suffixes_are_read(tmp_path, state, name):
    assert_same(interchange.read_state_dict(save(state, tmp_path / name)), state)


def test_safetensors_are_read_without_torch(tmp_path, state, monkeypatch):
    path = tmp_path / "teacher.safetensors"
    safetensors.torch.save_file(prefixed(state, "module."), path)
    monkeypatch.setitem(sys.modules, "torch", None)
    read = interchange.read_state_dict(path)
    assert_same({name: read[name] for name in state}, state)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_tensors_become_float32_without_loss(tmp_path, suffix, dtype):
    tensor = torch.tensor([[1.5, -0.0078125], [3e-5, 240.0]]).to(dtype)
    path = tmp_path / f"half.{suffix}"
    writer = torch.save if suffix == "pth" else safetensors.torch.save_file
    writer({"fc.weight": tensor}, path)
    (read,) = interchange.read_state_dict(path).values()
    np.testing.assert_array_equal(read, tensor.float().numpy(), strict=True)


@ZIP
@pytest.mark.parametrize(
    "accuracy",
    [np.float64(73.1), np.float32(73.1), np.int64(73), 73.1, torch.tensor(73.1)],
    ids=["float64", "float32", "int64", "float", "tensor"],
)
def test_other_entries_of_training_scripts_are_ignored(
    tmp_path, state, zipped, accuracy
):
    momentum = {0: {"momentum_buffer": torch.ones(3)}}
    content = {
        "epoch": 240,
        "model": state,
        "best_acc": accuracy,
        "accuracy": accuracy,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.05, "params": [0]}]},
    }
    path = save(content, tmp_path / "ckpt_epoch_240.pth", zipped=zipped)
    assert_same(interchange.read_state_dict(path), state)


@ZIP
def test_the_script_arguments_of_a_published_checkpoint_are_ignored(
    tmp_path, state, zipped
):
    arguments = argparse.Namespace(model="resnet32x4", lr_decay_epochs=[150, 180, 210])
    path = save(
        {"opt": arguments, "model": state}, tmp_path / "last.pth", zipped=zipped
    )
    assert_same(interchange.read_state_dict(path), state)


def test_scalars_saved_by_numpy_1_are_read(tmp_path, state):
    content = {"model": state, "accuracy": np.float64(73.1)}
    path = save(content, tmp_path / "old.pth", zipped=False)
    new, old = b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"
    assert path.read_bytes().count(new) == 1
    path.write_bytes(path.read_bytes().replace(new, old))
    assert_same(interchange.read_state_dict(path), state)


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, call, argument):
        self.call = call
        self.argument = argument

    def __reduce__(self):
        return self.call, (self.argument,)


@ZIP
@pytest.mark.parametrize(
    "call, argument, name",
    [(os.system, "touch {}", "system"), (eval, "open('{}', 'w')", "eval")],
)
@pytest.mark.parametrize("place", ["model", "accuracy"])
def test_a_malicious_pickle_raises_and_is_not_run(
    tmp_path, state, zipped, call, argument, name, place
):
    trace = tmp_path / "trace"
    attack = Malicious(call, argument.format(trace))
    content = {"model": state, place: attack}
    path = save(content, tmp_path / "teacher.pth", zipped=zipped)
    with pytest.raises(InvalidInputError, match=f"refused, and nothing .*{name}"):
        interchange.read_state_dict(path)
    assert not trace.exists()


def test_the_error_for_a_pickled_module_names_its_class(tmp_path):
    path = save(resnet8(), tmp_path / "module.pth")
    with pytest.raises(InvalidInputError, match=r"ResNet8; save model\.state_dict"):
        interchange.read_state_dict(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file_raises(tmp_path, state, kind, share):
    path = tmp_path / ("t.safetensors" if kind == "safetensors" else "t.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        save(state, path, zipped=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InvalidInputError, match="is damaged or not a"):
        interchange.read_state_dict(path)


def make_text(path):
    path.write_text("hello, world\n")


def make_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme", "hello")


@pytest.mark.parametrize("write", [make_text, make_zip])
def test_a_file_that_is_not_a_checkpoint_raises(tmp_path, write):
    write(tmp_path / "t.pth")
    with pytest.raises(InvalidInputError, match="not a PyTorch checkpoint"):
        interchange.read_state_dict(tmp_path / "t.pth")


@pytest.mark.parametrize(
    "content, says",
    [
        ({}, "a state dict, but it contains nothing"),
        (torch.zeros(3), "a state dict, but it contains Tensor"),
        ([torch.zeros(3)], "a state dict, but it contains list"),
        ({"model": {"fc.weight": 3}}, "'fc.weight' is a int"),
        ({"epoch": 3, "weights": torch.zeros(3)}, "'epoch' is a int"),
        ({0: torch.zeros(3)}, "0 is a Tensor"),
        pytest.param(
            {"a": torch.zeros(3).to_sparse()},
            "'a' is a Tensor",
            marks=pytest.mark.filterwarnings("ignore:Validating sparse"),
        ),
    ],
)
def test_a_checkpoint_without_a_state_dict_raises(tmp_path, content, says):
    path = save(content, tmp_path / "t.pth")
    with pytest.raises(InvalidInputError, match=says):
        interchange.read_state_dict(path)


def test_a_safetensors_file_of_another_dtype_raises(tmp_path):
    path = tmp_path / "t.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2).to(torch.float8_e5m2)}, path)
    with pytest.raises(InvalidInputError, match="F8_E5M2"):
        interchange.read_state_dict(path)


def test_a_missing_file_a_folder_and_another_suffix_raise(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        interchange.read_state_dict(tmp_path / "none.pth")
    with pytest.raises(InvalidInputError, match="is a folder"):
        interchange.read_state_dict(tmp_path)
    (tmp_path / "teacher.h5").touch()
    with pytest.raises(InvalidInputError, match=r"suffix must be .*'\.h5'"):
        interchange.read_state_dict(tmp_path / "teacher.h5")


def test_the_error_without_torch_names_the_extra(tmp_path, state, monkeypatch):
    path = save(state, tmp_path / "t.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InvalidInputError, match=r"pip install .\.\[torch\]"):
        interchange.read_state_dict(path)

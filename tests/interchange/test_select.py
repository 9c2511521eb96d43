"""Checkpoints as training scripts, Lightning and wrappers write them."""

from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from jaxkd import InvalidInputError, interchange


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def inserted(state, wrapper):
    """The names after a wrapper around a part of each layer's name."""
    return {
        name.replace(".weight", f".{wrapper}.weight"): x for name, x in state.items()
    }


STATE = OrderedDict(
    {
        "conv.weight": torch.arange(8.0).reshape(2, 1, 2, 2),
        "fc.weight": torch.ones(3, 2),
        "fc.bias": torch.zeros(3),
    }
)
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
AVERAGED = {"n_averaged": torch.tensor(5), **prefixed(STATE, "module.")}
OPTIMIZER = {
    "state": {0: {"momentum_buffer": torch.ones(2, 2), "step": torch.tensor(3.0)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
}
LIGHTNING = {
    "epoch": 3,
    "global_step": 60,
    "pytorch-lightning_version": "2.4.0",
    "loops": {"fit_loop": {"state_dict": {"x": torch.ones(2, 2)}}},
    "callbacks": {"EarlyStopping": {"best_score": torch.ones(2, 2)}},
    "optimizer_states": [OPTIMIZER],
    "lr_schedulers": [{"last_epoch": 3}],
    "hyper_parameters": {"width": 8, "means": {"rgb": torch.ones(2, 2)}},
}


def read(content, path, **settings):
    torch.save(content, path)
    return interchange.read_state_dict(path, **settings)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


ENTRIES = [
    *("model_state_dict", "net", "model", "state_dict", "params", "module", "ema"),
    *("network", "weights", "teacher", "student", "params_ema", "my own name"),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_state_dict_is_found_in_any_entry(tmp_path, entry):
    content = {
        "epoch": 3,
        entry: STATE,
        "optimizer": OPTIMIZER,
        "acc": torch.tensor(7.0),
    }
    assert_same(read(content, tmp_path / "t.pth"), STATE)


@pytest.mark.parametrize(
    "content",
    [
        {"state": {"model": STATE}, "epoch": 1},
        {"model": {"state_dict": STATE, "config": {"depth": 8}}},
        {"checkpoint": {"net": {"params": prefixed(STATE, "module.")}}},
        LIGHTNING | {"state_dict": STATE},
        AVERAGED,
        {"swa": AVERAGED},
        STATE | {"total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)},
        prefixed(AVERAGED, "module."),
        {"model": prefixed(STATE, "module._orig_mod.module.")},
        inserted(STATE, "_checkpoint_wrapped_module"),
        prefixed(inserted(STATE, "_orig_mod"), "_fsdp_wrapped_module."),
        {
            "model": STATE,
            "image_statistics": {"mean": torch.ones(3), "n": torch.ones(1)},
        },
        {"model": STATE, "optimizer": {"buffers": OTHER}, "scheduler": OTHER},
    ],
    ids=lambda content: " ".join(content)[:40],
)
def test_a_state_dict_is_found_below_other_things(tmp_path, content):
    assert_same(read(content, tmp_path / "t.ckpt"), STATE)


BOTH = {"model": STATE, "ema": {"shadow": prefixed(OTHER, "module.")}, "epoch": 3}
TWO_PARTS = LIGHTNING | {
    "state_dict": prefixed(STATE, "student.") | prefixed(OTHER, "teacher.net.")
}


MOMENTUM = {
    "state_dict": prefixed(STATE, "module.encoder_q.")
    | prefixed(OTHER, "module.encoder_k.")
    | {"module.queue": torch.ones(2, 4)}
}


@pytest.mark.parametrize(
    "content, key, expected",
    [
        (BOTH, "model", STATE),
        (BOTH, "ema.shadow", OTHER),
        (BOTH, "ema", OTHER),
        (BOTH, "ema.shadow.module", OTHER),
        (TWO_PARTS, "state_dict.student", STATE),
        (TWO_PARTS, "student", STATE),
        (TWO_PARTS, "teacher.net.", OTHER),
        (MOMENTUM, "encoder_q", STATE),
        (MOMENTUM, "module.encoder_k", OTHER),
        (MOMENTUM, "state_dict.encoder_k", OTHER),
        (TWO_PARTS, "state_dict.teacher.net", OTHER),
        (prefixed(STATE, "a.") | prefixed(OTHER, "b."), "b", OTHER),
        ({"model": STATE, "scheduler": OTHER}, "model", STATE),
    ],
)
def test_a_key_chooses_one_of_several(tmp_path, content, key, expected):
    assert_same(read(content, tmp_path / "t.pth", key=key), expected)


def test_a_key_chooses_a_network_in_safetensors(tmp_path):
    path = tmp_path / "t.safetensors"
    state = prefixed(STATE, "a.") | prefixed(OTHER, "b.")
    safetensors.torch.save_file(state, path)
    found = interchange.read_state_dict(path, key="b")
    assert_same({name: found[name] for name in OTHER}, OTHER)
    with pytest.raises(InvalidInputError, match=r"begin with (a|b) \(3\), "):
        interchange.read_state_dict(path, key="c")


@pytest.mark.parametrize(
    "content, says",
    [
        (BOTH, r"2 state dicts: model \(3 tensors\), ema\.shadow \(3 tensors\)\. Cho"),
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "2 state dicts: state_dict "),
        ({"epoch": 1, **STATE, "ema": OTHER}, "2 state dicts: the top level"),
        ({"student": STATE, "teacher": OTHER}, "--key"),
    ],
)
def test_one_of_several_state_dicts_is_never_guessed(tmp_path, content, says):
    with pytest.raises(InvalidInputError, match=says):
        read(content, tmp_path / "t.pth")


@pytest.mark.parametrize("key", ["emma", "optimizer", "model.conv9"])
def test_the_error_for_an_unknown_key_lists_what_there_is(tmp_path, key):
    with pytest.raises(InvalidInputError, match=r"key '.*(model|conv) \(") as caught:
        read(BOTH | {"optimizer": OPTIMIZER}, tmp_path / "t.pth", key=key)
    assert caught.value.argument == "key"


def test_names_of_several_networks_in_one_state_dict_are_pointed_out():
    state = {
        f"{part}.conv1.weight": np.zeros((16, 3, 3, 3)) for part in ("model", "ema")
    }
    with pytest.raises(InvalidInputError, match=r"begin with model \(1\), ema .*--key"):
        interchange.recognize(state, among=("resnet8",))


def test_names_that_become_the_same_without_wrappers_are_refused(tmp_path):
    content = {"conv.weight": torch.ones(1), "conv._orig_mod.weight": torch.ones(1)}
    with pytest.raises(InvalidInputError, match=r"two tensors the name 'conv\.weight'"):
        read(content, tmp_path / "t.pth")


def test_meta_tensors_are_refused(tmp_path):
    state = nn.Linear(3, 2, device="meta").state_dict()
    with pytest.raises(InvalidInputError, match=r"weight is a meta tensor.*\[2, 3\]"):
        read(state, tmp_path / "t.pt")


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_and_torchscript_are_refused(tmp_path):
    quantized = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
    with pytest.raises(InvalidInputError, match=r"'w' is a Tensor \(quantized\)"):
        read({"w": quantized}, tmp_path / "t.pt")
    program = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    torch.jit.save(program, tmp_path / "t.pt")
    with pytest.raises(InvalidInputError, match=r"TorchScript program; save model\."):
        interchange.read_state_dict(tmp_path / "t.pt")

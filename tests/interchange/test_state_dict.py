import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from model_support import abstract_rngs, quickly_built
from torch import nn
from torch_support import as_numpy, logits, resnet8

from jaxkd import InvalidInputError, interchange, models, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def construct_resnet8(rngs):
    return models.build("resnet8", num_classes=4, image_shape=(8, 8, 1), rngs=rngs)


def build_resnet8(seed=0):
    return quickly_built(construct_resnet8, seed)


def infer(network, images):
    frozen = training.freeze(network)
    return jax.jit(frozen.apply)(frozen.variables, images).logits


class Layers(nnx.Module):
    """Every kind of layer that a network may have, one after the other."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)

        def conv(before, after, **settings):
            return nnx.Conv(before, after, (3, 3), padding=1, rngs=rngs, **settings)

        self.grouped = conv(4, 8, feature_group_count=2)
        self.depthwise = conv(8, 8, feature_group_count=8, use_bias=False)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.layer_norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.linear = nnx.Linear(8, 8, use_bias=False, rngs=rngs)
        self.token = nnx.Param(rngs.normal((1, 1, 8)))
        self.classifier = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.depthwise(self.grouped(x)))
        x = self.linear(self.layer_norm(x.mean((1, 2)))) + self.token[0]
        return self.classifier(x)

    def torch_layers(self):
        yield "token", self.token
        for name in ("grouped", "depthwise", "norm", "layer_norm", "linear"):
            yield name, getattr(self, name)
        yield "head.0", self.classifier


class TorchLayers(nn.Module):
    """The same network in PyTorch."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.layer_norm = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 8, bias=False)
        self.head = nn.Sequential(nn.Linear(8, 5))

    def forward(self, x):
        x = self.norm(self.depthwise(self.grouped(x)))
        x = self.linear(self.layer_norm(x.mean((2, 3)))) + self.token[0]
        return self.head(x)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(0.3, 1, (3, 8, 8, 1)).astype(np.float32)


def test_a_converted_resnet8_computes_what_pytorch_computes(images):
    network = build_resnet8()
    interchange.load_state_dict(network, as_numpy(resnet8().state_dict()))
    expected = logits(resnet8(), images)
    np.testing.assert_allclose(infer(network, images), expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_every_kind_of_layer_computes_what_pytorch_computes():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = TorchLayers()
        for parameter in theirs.parameters():
            nn.init.normal_(parameter)
        theirs(torch.randn(16, 4, 6, 6))
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 4)).astype(np.float32)
    ours = Layers()
    interchange.load_state_dict(ours, as_numpy(theirs.state_dict()))
    expected = logits(theirs.eval(), x)
    output = nnx.jit(Layers.__call__)(ours, jnp.asarray(x))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [build_resnet8, Layers])
def test_the_round_trip_returns_the_same_bits(build):
    state = interchange.to_state_dict(build(0))
    other = build(1)
    interchange.load_state_dict(other, state)
    chex.assert_trees_all_equal(interchange.to_state_dict(other), state, strict=True)
    chex.assert_trees_all_equal(nnx.state(other), nnx.state(build(0)), strict=True)


def test_pytorch_accepts_the_exported_state_dict(images):
    network = build_resnet8(3)
    state = interchange.to_state_dict(network)
    theirs = resnet8()
    assert list(state) == list(theirs.state_dict())
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    theirs.load_state_dict(tensors, strict=True)
    expected = infer(network, images)
    np.testing.assert_allclose(logits(theirs, images), expected, atol=1e-4)


def test_the_round_trip_of_a_checkpoint_is_bit_equal():
    state = as_numpy(resnet8().state_dict())
    network = build_resnet8()
    interchange.load_state_dict(network, state)
    back = interchange.to_state_dict(network)
    counted = {name: x for name, x in state.items() if "num_batches" not in name}
    assert set(state) - set(counted) == {n for n in back if "num_batches" in n}
    for name, array in counted.items():
        np.testing.assert_array_equal(back[name], array, strict=True)


def test_an_abstract_network_can_be_loaded():
    state = interchange.to_state_dict(build_resnet8(2))
    network = nnx.eval_shape(lambda: construct_resnet8(abstract_rngs()))
    interchange.load_state_dict(network, state)
    chex.assert_trees_all_equal(interchange.to_state_dict(network), state)


def test_counts_of_batches_may_be_absent():
    state = interchange.to_state_dict(build_resnet8(2))
    network = build_resnet8()
    bare = {name: x for name, x in state.items() if "num_batches" not in name}
    interchange.load_state_dict(network, bare)
    chex.assert_trees_all_equal(interchange.to_state_dict(network), state)


def test_the_error_lists_all_differences_and_the_network_is_unchanged():
    network = build_resnet8()
    before = interchange.to_state_dict(network)
    state = interchange.to_state_dict(build_resnet8(1))
    for name in ("bn1.bias", "fc.bias", "layer1.0.bn1.weight", "layer1.0.bn1.bias"):
        del state[name]
    state["ema.decay"] = np.zeros(3, np.float32)
    state["fc.weight"] = state["fc.weight"].T
    with pytest.raises(InvalidInputError) as caught:
        interchange.load_state_dict(network, state)
    assert str(caught.value) == (
        "the state dict does not fit CifarResNet: "
        "4 missing: bn1.bias, layer1.0.bn1.weight, layer1.0.bn1.bias, ...; "
        "1 left over: ema.decay; "
        "1 of another shape: fc.weight ([64, 4], must be [4, 64])"
    )
    chex.assert_trees_all_equal(interchange.to_state_dict(network), before)


@pytest.mark.parametrize(
    "array, says",
    [
        (np.full(4, np.nan, np.float32), "finite; 1 are not: fc.bias"),
        (np.array([0, 1, np.inf, 0], np.float32), "finite; 1 are not: fc.bias"),
        (np.zeros(4, np.int64), r"floating point, got fc.bias \(int64\)"),
        (np.full(4, 1e39), r"dtype; 1 do not: fc.bias \(1e\+39\)"),
    ],
)
def test_weights_that_are_not_finite_floats_raise(array, says):
    state = interchange.to_state_dict(build_resnet8())
    state["fc.bias"] = array
    with pytest.raises(InvalidInputError, match=says):
        interchange.load_state_dict(build_resnet8(), state)


def test_a_negative_variance_raises():
    state = interchange.to_state_dict(build_resnet8())
    state["bn1.running_var"] = -state["bn1.running_var"]
    with pytest.raises(InvalidInputError, match=r"negative; 1 are: bn1\.running_var"):
        interchange.load_state_dict(build_resnet8(), state)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_weights_that_were_never_loaded_raise(value):
    state = interchange.to_state_dict(build_resnet8())
    for name, array in state.items():
        if array.ndim > 1:
            state[name] = np.full_like(array, value)
    with pytest.raises(InvalidInputError, match=f"one value only, such as {value:g}:"):
        interchange.load_state_dict(build_resnet8(), state)


class Buffered(nnx.Module):
    """No names in PyTorch, every kind of variable, and random numbers."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.parts = nnx.List(
            [nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)]
        )
        self.table = nnx.Variable(rngs.normal((2,)))
        self.count = nnx.Variable(jnp.array(seed, jnp.int32))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def test_a_network_without_published_names_has_its_names_in_flax():
    state = interchange.to_state_dict(Buffered(3))
    assert set(state) == {
        *("parts.0.kernel", "parts.0.bias", "table", "count"),
        *(f"parts.1.{name}" for name in ("scale", "bias", "mean", "var")),
    }
    other = Buffered()
    interchange.load_state_dict(other, state)
    chex.assert_trees_all_equal(interchange.to_state_dict(other), state, strict=True)


@pytest.mark.parametrize("prefix", ["model.", "net.", "backbone.", "model.module.x."])
def test_a_prefix_that_all_names_share_is_removed_when_loading(prefix):
    state = interchange.to_state_dict(Buffered(3))
    other = Buffered()
    interchange.load_state_dict(other, {prefix + n: x for n, x in state.items()})
    chex.assert_trees_all_equal(interchange.to_state_dict(other), state, strict=True)


class Forgetful(Layers):
    def torch_layers(self):
        yield from list(super().torch_layers())[1:]


class Repetitive(Layers):
    def torch_layers(self):
        yield from super().torch_layers()
        yield "again", self.linear


@pytest.mark.parametrize("network", [Forgetful, Repetitive])
def test_names_must_cover_every_array_once(network):
    with pytest.raises(InvalidInputError, match="must name each array once"):
        interchange.to_state_dict(network())


def test_a_layer_of_another_kind_raises():
    class Strange(Layers):
        def torch_layers(self):
            yield "embedding", nnx.Embed(3, 4, rngs=nnx.Rngs(0))

    with pytest.raises(InvalidInputError, match="got Embed for 'embedding'"):
        interchange.to_state_dict(Strange())

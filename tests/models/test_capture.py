"""Outputs of layers by their paths, of networks that know nothing of jaxkd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxkd import models

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.linear = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return x + self.linear(self.norm(x))


class Network(nnx.Module):
    """Returns logits alone, and calls one of its layers twice."""

    def __init__(self, rngs):
        self.stem = nnx.Linear(2, 3, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(3)])
        self.twice = nnx.Linear(3, 3, rngs=rngs)
        self.unused = nnx.Linear(3, 3, rngs=rngs)
        self.head = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, images):
        x = self.stem(images.mean(1))
        for block in self.blocks:
            x = block(x)
        return self.head(self.twice(self.twice(x)).mean(1))


@pytest.fixture
def network():
    return Network(nnx.Rngs(0))


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(0), (5, 4, 4, 2))


def by_hand(network, images):
    """The outputs of the stem and of each block."""
    outputs = [network.stem(images.mean(1))]
    for block in network.blocks:
        outputs.append(block(outputs[-1]))
    return outputs


def test_outputs_are_those_of_the_layers(network, images):
    stem, *blocks = by_hand(network, images)
    output = models.output_of(network, images, ["blocks.*", "stem", "blocks.-1"])
    np.testing.assert_array_equal(output.layers["stem"][0], stem)
    np.testing.assert_array_equal(output.layers["blocks.*"], blocks)
    np.testing.assert_array_equal(output.layers["blocks.-1"][0], blocks[-1])
    np.testing.assert_array_equal(output.logits, network(images))


def test_the_gradient_flows_through_a_layer(network, images):
    def square(network):
        output = models.output_of(network, images, ["stem"])
        return jnp.sum(output.layers["stem"][0] ** 2)

    grads = nnx.jit(nnx.grad(square))(network)
    x = images.mean(1).reshape(-1, 2)
    expected = 2 * x.T @ network.stem(x)
    np.testing.assert_allclose(grads.stem.kernel[...], expected, rtol=1e-5)
    assert not np.any(grads.head.kernel[...])


def test_the_network_is_the_same_afterwards(network, images):
    kinds = [type(module) for _, module in nnx.iter_modules(network)]
    models.output_of(network, images, ["stem"])
    assert [type(module) for _, module in nnx.iter_modules(network)] == kinds


def test_the_network_is_the_same_after_an_error(network, images):
    kinds = [type(module) for _, module in nnx.iter_modules(network)]
    with pytest.raises(TypeError):
        models.output_of(network, images[..., :1], ["stem"])
    assert [type(module) for _, module in nnx.iter_modules(network)] == kinds


def test_statistics_are_updated_as_without_recording(network, images):
    other = nnx.clone(network)
    network(images)
    models.output_of(other, images, ["blocks.0"])
    for block, recorded in zip(network.blocks, other.blocks, strict=True):
        np.testing.assert_array_equal(block.norm.mean[...], recorded.norm.mean[...])


@pytest.mark.parametrize("call, times", [(0, 1), (1, 2)])
def test_each_call_of_a_layer_has_a_number(network, images, call, times):
    x = by_hand(network, images)[-1]
    for _ in range(times):
        x = network.twice(x)
    output = models.output_of(network, images, [f"twice[{call}]"])
    np.testing.assert_array_equal(output.layers[f"twice[{call}]"][0], x)


class Scanned(nnx.Module):
    """Runs equal layers by nnx.scan, as large networks do."""

    def __init__(self, rngs):
        make = nnx.split_rngs(splits=3)(nnx.vmap(Block, in_axes=0))
        self.stem = nnx.Linear(2, 3, rngs=rngs)
        self.layers = make(rngs)

    def __call__(self, images):
        run = nnx.scan(lambda x, block: (block(x), None), in_axes=(nnx.Carry, 0))
        return run(self.stem(images.mean(1)), self.layers)[0].mean(1)


class Around(nnx.Module):
    def __init__(self, rngs):
        self.body = Scanned(rngs)
        self.head = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, images):
        return self.head(self.body(images))


@pytest.mark.parametrize(
    "path, says",
    [
        ("twice", r"'twice' is called 2 times; write 'twice\[0\]' or 'twice\[1\]'"),
        ("twice[2]", "'twice' is called 2 times, so there is no twice"),
        ("stem[1]", r"'stem' is called once, so there is no stem\[1\]"),
        ("unused", "'unused' cannot be taken: .* or not at all"),
        ("stems", "no layer has the path 'stems'; did you mean 'stem'"),
    ],
)
def test_paths_that_name_no_output_are_refused(network, images, path, says):
    with pytest.raises(ValueError, match=says):
        models.output_of(network, images, [path])


def test_layers_around_a_scan_are_recorded(images):
    network = Around(nnx.Rngs(0))
    output = nnx.jit(models.output_of, static_argnums=2)(
        network, images, ("body.stem",)
    )
    expected = network.body.stem(images.mean(1))
    np.testing.assert_allclose(output.layers["body.stem"][0], expected, rtol=1e-5)


def test_a_layer_inside_a_scan_is_refused_with_the_nearest_around_it(images):
    with pytest.raises(ValueError, match=r"nnx\.scan.*around it is 'body'"):
        models.output_of(Around(nnx.Rngs(0)), images, ["body.layers.linear"])


def test_a_layer_that_returns_several_arrays_is_refused(images):
    class Both(nnx.Module):
        def __call__(self, x):
            return x, x

    class Pair(nnx.Module):
        def __init__(self):
            self.both = Both()

        def __call__(self, images):
            return self.both(images.mean((1, 2)))[0]

    with pytest.raises(ValueError, match=r"'both' returns a tuple of length 2"):
        models.output_of(Pair(), images, ["both"])


def test_a_function_has_no_paths(images):
    with pytest.raises(ValueError, match="the network is a function"):
        models.output_of(lambda x: x.mean((1, 2)), images, ["stem"])


def test_a_network_may_return_layers_of_its_own(images):
    def network(images):
        return models.ModelOutput(
            images.mean((1, 2)), images[:, 0, 0], layers={"x": images}
        )

    assert models.output_of(network, images).layers["x"][0] is images


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.relu(linen.Dense(3)(x))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, images, train: bool):
        x = linen.BatchNorm(use_running_average=not train)(images.mean(1))
        shared = Dense(name="shared")
        x = shared(Dense()(x))
        return linen.Dense(4)(shared(x).mean(1))


@pytest.fixture
def from_linen():
    return models.from_linen(Linen(), image_shape=(4, 4, 2), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("inference", [False, True])
def test_layers_of_linen_modules_have_paths(from_linen, images, inference):
    view = nnx.view(from_linen, use_running_average=inference)
    _, found = Linen().apply(
        view.collections(),
        images,
        train=not inference,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=True,
    )
    output = models.output_of(view, images, ["Dense_0.Dense_0", "shared[1]"])
    calls = found["intermediates"]
    inner, second = (
        calls["Dense_0"]["Dense_0"]["__call__"][0],
        calls["shared"]["__call__"][1],
    )
    np.testing.assert_array_equal(output.layers["Dense_0.Dense_0"][0], inner)
    np.testing.assert_array_equal(output.layers["shared[1]"][0], second)


def test_a_linen_module_inside_another_network_has_paths(from_linen, images):
    class Wrapped(nnx.Module):
        def __init__(self):
            self.backbone = from_linen

        def __call__(self, images):
            return self.backbone(images)

    direct = models.output_of(nnx.clone(from_linen), images, ["Dense_0"])
    wrapped = models.output_of(Wrapped(), images, ["backbone.Dense_0"])
    np.testing.assert_array_equal(
        wrapped.layers["backbone.Dense_0"][0], direct.layers["Dense_0"][0]
    )


def test_the_table_of_layers(network):
    table = models.layers(network, (7, 4, 4, 2))
    shapes = {layer.path: layer.shapes for layer in table}
    assert list(shapes)[:3] == ["stem", "blocks.0", "blocks.0.norm"]
    assert shapes["blocks.1"] == ((7, 4, 3),)
    assert shapes["twice"] == ((7, 4, 3), (7, 4, 3))
    assert {layer.path for layer in table if not layer.usable} == {"twice", "unused"}
    assert {layer.path: layer.parameters for layer in table}["blocks.2"] == 6 + 12


def test_the_table_counts_the_parameters_of_linen_layers(from_linen):
    counts = {x.path: x.parameters for x in models.layers(from_linen, (1, 4, 4, 2))}
    assert counts == {"BatchNorm_0": 4, "shared": 12, "shared.Dense_0": 12} | {
        "Dense_0": 9,
        "Dense_0.Dense_0": 9,
        "Dense_1": 16,
    }


def test_the_table_needs_a_module_and_images(network, unchecked):
    with pytest.raises(TypeError, match="must be a Flax NNX module, got function"):
        models.layers(lambda x: x, (1, 4, 4, 2))
    with pytest.raises(ValueError, match=r"got \[4, 4, 2\]"):
        models.layers(network, (4, 4, 2))


def test_a_layer_of_two_outputs_is_not_one_of_two_calls(network, images):
    class Pair(nnx.Module):
        def __call__(self, x):
            return x, x

    class Wrapped(nnx.Module):
        def __init__(self):
            self.pair, self.network = Pair(), network

        def __call__(self, images):
            return self.network(self.pair(images)[0])

    text = repr(models.layers(Wrapped(), images.shape)).splitlines()
    notes = {line.split()[0]: line.rpartition("  ")[2] for line in text}
    assert notes["pair"] == "not usable"
    assert notes["network.twice"] == "called several times"


def test_a_layer_that_is_called_inside_a_vmap_is_refused(images):
    class Mapped(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

        def __call__(self, images):
            return jax.vmap(lambda image: self.layer(image.mean((0, 1))))(images)

    with pytest.raises(ValueError, match=r"'layer' cannot be taken.*nnx\.vmap"):
        models.output_of(Mapped(), images, ["layer"])

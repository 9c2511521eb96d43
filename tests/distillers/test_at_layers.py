"""Losses between any layers of two networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers, losses, models
from jaxkd.models import ModelOutput

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def output(**layers):
    """An output with these layers, of six examples and three classes."""
    named = {name: x if isinstance(x, tuple) else (x,) for name, x in layers.items()}
    return ModelOutput(jnp.zeros((6, 3)), jnp.zeros((6, 0)), layers=named)


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def batch():
    return distillers.Batch(
        jnp.zeros((6, 1, 1, 1)), jnp.arange(6) % 3, None, jax.random.key(0)
    )


def evaluate(method, student, teacher, rngs=0):
    """Initialize a method and evaluate its loss; also return its state."""
    labels = np.arange(6) % 3
    spec = distillers.Spec(student, teacher, 3, labels)
    state = method.init(nnx.Rngs(rngs), spec)
    return *method.loss(*state, student, teacher, batch()), state


def test_the_loss_is_the_sum_over_the_pairs():
    a, b, c, d = (draw(6, 4, 4, 3, seed=i) for i in range(4))
    method = distillers.at_layers(
        {("a", "c"): losses.hint, ("b", "d"): losses.attention_transfer}
    )
    value, _, metrics, state = evaluate(method, output(a=a, b=b), output(c=c, d=d))
    parts = losses.hint(a, c), losses.attention_transfer(b, d)
    np.testing.assert_allclose(value, sum(parts), rtol=1e-6)
    assert metrics.keys() == {"a", "b"}
    assert not jax.tree.leaves(state)


def test_layers_of_two_patterns_are_compared_in_order():
    s, t = (tuple(draw(6, 5, seed=10 * k + i) for i in range(2)) for k in range(2))
    method = distillers.at_layers({("s.*", "t.*"): losses.hint})
    value, *_ = evaluate(method, output(**{"s.*": s}), output(**{"t.*": t}))
    expected = sum(losses.hint(a, b) for a, b in zip(s, t, strict=True))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (6, 7, 5), (6, 2, 2, 5)])
def test_a_linear_projection_maps_channels(shape):
    s, t = draw(*shape), draw(*shape[:-1], 8, seed=1)
    method = distillers.at_layers({("a", "b"): losses.hint}, project="linear")
    value, _, _, state = evaluate(method, output(a=s), output(b=t))
    weights = {k: np.asarray(v) for k, v in state.params["a"].items()}
    projected = np.asarray(s) @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(value, losses.hint(projected, t), rtol=1e-4)


def test_a_linear_projection_of_maps_pools_the_larger_one():
    s, t = draw(6, 4, 4, 5), draw(6, 2, 2, 8, seed=1)
    method = distillers.at_layers({("a", "b"): losses.hint}, project="linear")
    value, _, _, state = evaluate(method, output(a=s), output(b=t))
    pooled = s.reshape(6, 2, 2, 2, 2, 5).mean((2, 4))
    weights = {k: np.asarray(v) for k, v in state.params["a"].items()}
    projected = np.asarray(pooled) @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(value, losses.hint(projected, t), rtol=1e-4)


def test_a_convolution_maps_size_and_channels_and_has_statistics():
    s, t = draw(6, 4, 4, 5), draw(6, 2, 2, 8, seed=1)
    method = distillers.at_layers({("a", "b"): losses.hint}, project="conv")
    value, extra, _, state = evaluate(method, output(a=s), output(b=t))
    assert value.shape == (6,)
    before, after = (x["a"]["norm"]["mean"] for x in (state.extra, extra))
    assert not np.array_equal(before, after)


def test_a_projection_can_reach_negative_features():
    t = -jnp.ones((6, 4, 4, 5))
    method = distillers.at_layers({("a", "b"): losses.hint}, project="conv")
    state = evaluate(method, output(a=draw(6, 4, 4, 3)), output(b=t))[-1]
    state.params["a"]["norm"]["scale"] *= 0
    state.params["a"]["norm"]["bias"] = -jnp.ones(5)
    value, *_ = method.loss(*state, output(a=draw(6, 4, 4, 3)), output(b=t), batch())
    np.testing.assert_allclose(value, 0, atol=1e-6)


def test_no_gradient_reaches_the_teacher():
    method = distillers.at_layers({("a", "b"): lambda s, t: ((s - t) ** 2).sum(-1)})
    s, t = draw(6, 4), draw(6, 4, seed=1)

    def loss(t):
        return method.loss({}, {}, output(a=s), output(b=t), batch())[0].sum()

    assert not np.any(jax.grad(loss)(t))


def test_a_metric_names_both_paths_if_the_student_has_one_layer_in_two_pairs():
    pairs = {("a", "b"): losses.hint, ("a", "c"): losses.hint}
    x = draw(6, 4)
    _, _, metrics, _ = evaluate(
        distillers.at_layers(pairs), output(a=x), output(b=x, c=x)
    )
    assert metrics.keys() == {"a-b", "a-c"}


def test_parts_of_a_mixture_share_their_layers():
    first, second = (
        distillers.at_layers({("a", name): losses.hint}) for name in ("b", "c")
    )
    mixture = distillers.weighted(
        ce=(1.0, distillers.cross_entropy()), x=(1.0, first), y=(1.0, second)
    )
    assert mixture.layers == distillers.LayerPaths(("a",), ("b", "c"))


@pytest.mark.parametrize(
    "layers, project, says",
    [
        ({"a": (6, 5), "b": (6, 7)}, "linear", None),
        ({"a": (6, 5), "b": (6, 2, 7)}, "linear", "changes channels only"),
        ({"a": (6, 5), "b": (6, 7)}, "conv", r"\[6, 5\], but a method of feature maps"),
        ({"a": (6, 5)}, None, r"the teacher's output has no layer 'b' \(it has 'a'\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_at_the_start(layers, project, says):
    both = output(**{name: jnp.zeros(shape) for name, shape in layers.items()})
    method = distillers.at_layers({("a", "b"): losses.hint}, project=project)
    if says is None:
        evaluate(method, both, both)
        return
    with pytest.raises(ValueError, match=says):
        evaluate(method, both, both)


def test_patterns_of_different_numbers_of_layers_are_refused():
    x = draw(6, 4)
    method = distillers.at_layers({("a.*", "b.*"): losses.hint})
    with pytest.raises(ValueError, match="names 2 layers of the student, and 'b"):
        evaluate(method, output(**{"a.*": (x, x)}), output(**{"b.*": (x,)}))


def test_a_loss_of_another_shape_is_refused():
    method = distillers.at_layers({("a", "b"): lambda s, t: jnp.mean((s - t) ** 2)})
    with pytest.raises(ValueError, match=r"one value for each example, \[6\], got"):
        evaluate(method, output(a=draw(6, 4)), output(b=draw(6, 4)))


@pytest.mark.parametrize(
    "pairs, says",
    [
        ({}, "got {}"),
        ([("a", "b")], "must be a dictionary"),
        ({"ab": losses.hint}, "each key of pairs must be"),
        ({("a", 1): losses.hint}, "each key of pairs must be"),
        ({("a", "b"): 1.0}, "must be a function of two arrays"),
    ],
)
def test_wrong_pairs_are_refused(pairs, says, unchecked):
    with pytest.raises(TypeError, match=says):
        distillers.at_layers(pairs)


def test_an_unknown_projection_is_refused(unchecked):
    with pytest.raises(
        ValueError, match="unknown project 'lin'; did you mean 'linear'"
    ):
        distillers.at_layers({("a", "b"): losses.hint}, project="lin")


def test_the_output_of_a_network_has_the_layers_that_are_read():
    network = models.MLP(4, (5, 6), num_classes=3, rngs=nnx.Rngs(0))
    images = draw(6, 2, 2, 1)
    method = distillers.at_layers(
        {("layers.0", "layers.-1"): losses.hint}, project="linear"
    )
    seen = [models.output_of(network, images, paths) for paths in method.layers]
    assert evaluate(method, *seen)[0].shape == (6,)


@pytest.mark.parametrize(
    "loss", [losses.hint, lambda s, t: ((s - t) ** 2).sum(-1)], ids=["hint", "own"]
)
def test_different_widths_without_a_projection_are_refused_at_the_start(
    loss, unchecked
):
    method = distillers.at_layers({("a", "b"): loss})
    spec = distillers.Spec(
        output(a=draw(6, 4)), output(b=draw(6, 5)), 3, np.arange(6) % 3
    )
    with pytest.raises(ValueError, match=r"loss of 'a' .*\[6, 4\].*project=\"linear\""):
        method.init(nnx.Rngs(0), spec)

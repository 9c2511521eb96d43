import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import models
from jaxkd._errors import InvalidInputError


class Head(nnx.Module):
    """A bare classifier of given weights."""

    def __init__(self, kernel, bias=None):
        features, classes = kernel.shape
        self.classifier = nnx.Linear(
            features,
            classes,
            use_bias=bias is not None,
            param_dtype=kernel.dtype,
            rngs=nnx.Rngs(0),
        )
        self.classifier.kernel[...] = kernel
        if bias is not None:
            self.classifier.bias[...] = bias


def weights(dtype, *, offset=0.0, classes=10):
    rng = np.random.default_rng(0)
    kernel = rng.normal(offset, 1, (16, classes))
    return jnp.asarray(kernel, dtype), jnp.asarray(rng.normal(size=classes), dtype)


def parameters_of(model):
    """Kernel and bias of the classifier in float64, exactly."""
    head = model.classifier
    return [np.float64(p[...]) for p in (head.kernel, head.bias) if p is not None]


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.usefixtures("x64")
def test_removes_the_class_means_and_nothing_else():
    kernel, bias = weights(jnp.float64)
    actual = parameters_of(models.center_classifier(Head(kernel, bias)))
    for ours, before in zip(actual, (kernel, bias), strict=True):
        before = np.asarray(before)
        expected = before - before.sum(-1, keepdims=True) / 10
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


def test_predictions_are_unchanged_and_mean_logits_are_zero():
    model = models.MLP(64, (16,), num_classes=10, rngs=nnx.Rngs(0))
    x = images(32, 8, 8, 1)
    before, after = model(x).logits, models.center_classifier(model)(x).logits
    assert np.abs(before.mean(-1)).max() > 0.05
    np.testing.assert_allclose(after.mean(-1), 0, atol=2e-7)
    np.testing.assert_allclose(
        jax.nn.softmax(after), jax.nn.softmax(before), rtol=2e-6, atol=1e-7
    )


def test_the_original_network_and_all_other_variables_are_bit_equal():
    model = models.MLP(64, (16,), num_classes=10, rngs=nnx.Rngs(0))
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]
    centered = models.center_classifier(model)
    after = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("kernel", "bias"):
        ours, theirs = (getattr(m.layers[0], name)[...] for m in (model, centered))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4"])
def test_the_residual_networks_have_such_a_classifier(name):
    def class_sums(key):
        model = models.build(
            name, num_classes=10, image_shape=(8, 8, 1), width=4, rngs=nnx.Rngs(key)
        )
        head = models.center_classifier(model).classifier
        return head.kernel[...].sum(-1), head.bias[...].sum(-1)

    for sums in jax.jit(class_sums)(jax.random.key(0)):
        np.testing.assert_allclose(sums, 0, atol=1e-6)


def test_changing_the_copy_does_not_change_the_original_network():
    model = models.MLP(64, (16,), num_classes=10, rngs=nnx.Rngs(0))
    before = np.asarray(model.layers[0].kernel[...])
    centered = models.center_classifier(model)
    centered.layers[0].kernel[...] = jnp.zeros_like(before)
    np.testing.assert_array_equal(model.layers[0].kernel[...], before)


def test_a_classifier_without_bias_gets_none():
    kernel, _ = weights(jnp.float32)
    centered = models.center_classifier(Head(kernel))
    assert centered.classifier.bias is None
    (ours,) = parameters_of(centered)
    np.testing.assert_allclose(ours.sum(-1), 0, atol=2e-6)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_class_sums_are_zero_up_to_rounding_even_if_means_are_large(classes):
    kernel, bias = weights(jnp.float32, offset=1000.0, classes=classes)
    for ours in parameters_of(models.center_classifier(Head(kernel, bias))):
        rounding = np.finfo(np.float32).eps * np.abs(ours).max()
        assert np.abs(ours.sum(-1)).max() <= 0.5 * classes * rounding


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_parameters_are_centered_in_float32_and_rounded_once(dtype):
    kernel, bias = weights(dtype, offset=3.0)
    centered = models.center_classifier(Head(kernel, bias))
    assert centered.classifier.kernel[...].dtype == dtype
    for ours, before in zip(parameters_of(centered), (kernel, bias), strict=True):
        exact = np.float64(before) - np.float64(before).mean(-1, keepdims=True)
        np.testing.assert_array_equal(ours, np.float64(jnp.asarray(exact, dtype)))


def test_centering_twice_is_centering_once():
    once = models.center_classifier(Head(*weights(jnp.float32)))
    again = models.center_classifier(once)
    for ours, theirs in zip(parameters_of(again), parameters_of(once), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-7)


def test_works_inside_jit():
    def build(key):
        model = models.MLP(64, (16,), num_classes=10, rngs=nnx.Rngs(key))
        return nnx.state(models.center_classifier(model), nnx.Param)

    compiled = jax.jit(build)(jax.random.key(0))
    np.testing.assert_allclose(
        np.float64(compiled["classifier"]["kernel"][...]).sum(-1), 0, atol=1e-6
    )


class Bare(nnx.Module):
    pass


class Convolution(nnx.Module):
    def __init__(self):
        self.classifier = nnx.Conv(4, 10, (1, 1), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "network, says",
    [(Bare, "Bare has nothing there"), (Convolution, "has a Conv there")],
)
def test_a_network_without_a_linear_classifier_raises(network, says):
    with pytest.raises(
        InvalidInputError, match=rf"nnx\.Linear .* 'classifier'.*{says}"
    ):
        models.center_classifier(network())

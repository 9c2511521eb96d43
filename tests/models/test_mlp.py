import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import models
from jaxkd._errors import InvalidInputError


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_matches_its_definition_in_float64():
    model = models.MLP(12, (7, 5), num_classes=3, rngs=nnx.Rngs(0))
    x = images(4, 2, 3, 2)
    expected = np.asarray(x, np.float64).reshape(4, 12)
    for layer in model.layers:
        kernel, bias = (
            np.asarray(p[...], np.float64) for p in (layer.kernel, layer.bias)
        )
        expected = np.maximum(expected @ kernel + bias, 0)
    output = model(x)
    np.testing.assert_allclose(output.embedding, expected, rtol=1e-5, atol=1e-6)
    head = model.classifier
    logits = expected @ np.float64(head.kernel[...]) + np.float64(head.bias[...])
    np.testing.assert_allclose(output.logits, logits, rtol=1e-5, atol=1e-6)


def test_has_no_stages():
    output = models.MLP(12, (7,), num_classes=3, rngs=nnx.Rngs(0))(images(4, 12))
    assert output.stages == ()
    assert output.preactivations == ()


def test_without_hidden_layers_the_embedding_is_the_input():
    model = models.MLP(12, (), num_classes=3, rngs=nnx.Rngs(0))
    x = images(4, 12)
    np.testing.assert_array_equal(model(x).embedding, x)


def test_layers_start_uniform_within_the_root_of_fan_in():
    model = models.MLP(400, (300,), num_classes=3, rngs=nnx.Rngs(0))
    for leaf in (model.layers[0].kernel, model.layers[0].bias):
        values = np.asarray(leaf[...])
        assert np.abs(values).max() <= 0.05
        assert values.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.1)


def test_gradient_reaches_every_parameter():
    model = models.MLP(12, (7, 5), num_classes=3, rngs=nnx.Rngs(0))
    x = images(64, 12)
    grads = nnx.grad(lambda m: (m(x).logits ** 2).sum())(model)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    model = models.MLP(12, (7,), num_classes=3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    output = model(images(4, 12))
    assert output.logits.dtype == output.embedding.dtype == jnp.bfloat16
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(nnx.state(model)))


@pytest.mark.usefixtures("x64")
def test_float64_computes_and_stores_float64():
    model = models.MLP(12, (7,), num_classes=3, dtype=jnp.float64, rngs=nnx.Rngs(0))
    output = model(images(4, 12))
    assert output.logits.dtype == output.embedding.dtype == jnp.float64
    assert all(p.dtype == jnp.float64 for p in jax.tree.leaves(nnx.state(model)))


def test_float64_is_refused_while_x64_is_off():
    with pytest.raises(InvalidInputError, match="needs jax_enable_x64, which is off"):
        models.MLP(12, (7,), num_classes=3, dtype=jnp.float64, rngs=nnx.Rngs(0))


def test_wrong_input_size_raises():
    model = models.MLP(12, (7,), num_classes=3, rngs=nnx.Rngs(0))
    with pytest.raises(InvalidInputError, match="12 values per example"):
        model(images(4, 13))


def test_integer_images_raise():
    model = models.MLP(12, (7,), num_classes=3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError):
        model(jnp.zeros((4, 12), jnp.uint8))


@pytest.mark.parametrize(
    "in_features, hidden, num_classes, name",
    [
        (0, (7,), 3, "in_features"),
        (12, (7, 0), 3, r"hidden\[1\]"),
        (12, (7,), 0, "num"),
    ],
)
def test_errors_name_the_invalid_size(in_features, hidden, num_classes, name):
    with pytest.raises(InvalidInputError, match=name):
        models.MLP(in_features, hidden, num_classes=num_classes, rngs=nnx.Rngs(0))

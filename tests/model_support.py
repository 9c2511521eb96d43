"""Shared by the tests of the networks: inputs, passes, layers by their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import models


@jax.jit
def train(model, x):
    """One pass in training mode: the output and the model with its new statistics."""
    return model(x), model


@jax.jit
def evaluate(model, x):
    """One pass in evaluation mode: the output and the model."""
    model = nnx.view(model, use_running_average=True)
    return model(x), model


class _ConstantStream(nnx.RngStream):
    """Returns the same key for all parameters of a network that is only traced."""

    def __call__(self):
        return self.key[...]


def abstract_rngs():
    """Streams for networks whose values are not used: Flax traces them much faster."""
    rngs = nnx.Rngs(0)
    rngs.default = _ConstantStream(0, tag="default")
    return rngs


def quickly_built(construct, seed=0):
    """Builds ``construct(rngs)`` with values from NumPy.

    This compiles none of the initializers. It is for tests whose claims do not depend
    on the initial values.
    """
    model = nnx.eval_shape(lambda: construct(abstract_rngs()))
    rng = np.random.default_rng(seed)
    state = nnx.state(model)
    for path, variable in nnx.to_flat_state(state):
        shape, dtype = variable.get_value().shape, variable.get_value().dtype
        if path[-1] in ("scale", "var"):
            values = np.ones(shape)
        elif path[-1] in ("bias", "mean"):
            values = np.zeros(shape)
        else:
            values = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        variable.set_value(jnp.asarray(values, dtype))
    nnx.update(model, state)
    return model


def images(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def leaves(model, kind):
    """The variables of a kind by their paths."""
    return {
        "/".join(map(str, path)): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(model, kind))
    }


def published(name, size=32, classes=100):
    """Abstract output (RGB images, batch 2) and parameter count of a network."""

    def apply(x):
        model = models.build(
            name, num_classes=classes, image_shape=(size, size, 3), rngs=abstract_rngs()
        )
        return evaluate(model, x)[0], nnx.state(model, nnx.Param)

    output, params = jax.eval_shape(apply, jnp.zeros((2, size, size, 3)))
    return output, sum(leaf.size for leaf in jax.tree.leaves(params))


def move_from_identity(module, seed=1):
    """Moves every variable, so that statistics and affine parameters tell."""
    rng = np.random.default_rng(seed)
    state = nnx.state(module)
    moved = jax.tree.map(
        lambda p: jnp.asarray(p + rng.uniform(0.1, 0.5, p.shape), p.dtype),
        jax.tree.map(np.asarray, state),
    )
    nnx.update(module, moved)


def assert_gradient_reaches_every_parameter(model, x):
    grads = jax.jit(nnx.grad(lambda m: (m(x).logits ** 2).sum()))(model)
    for path, leaf in nnx.to_flat_state(grads):
        assert np.isfinite(leaf[...]).all(), path
        assert np.abs(leaf[...]).max() > 0, path


def assert_convolutions_start_kaiming_normal(model):
    for path, kernel in leaves(model, nnx.Param).items():
        if kernel.ndim != 4:
            continue
        height, width, _, out_channels = kernel.shape
        expected = np.sqrt(2 / (height * width * out_channels))
        # The standard deviation of n normal draws is itself known to 1/sqrt(2n).
        tolerance = 4 / np.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(expected, rel=tolerance), path
        if kernel.size > 10_000:  # Untruncated: 0.3% of normal draws pass 3 sigma.
            assert np.abs(kernel).max() > 3 * expected, path


def names_of(construct):
    """The names of the published layers; each variable must be in one of them."""
    model = nnx.eval_shape(construct)
    names, layers = zip(*model.torch_layers(), strict=True)
    variables = [v for layer in layers for v in jax.tree.leaves(nnx.state(layer))]
    state = jax.tree.leaves(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    assert sorted(map(id, variables)) == sorted(map(id, state))
    return names


def convolve(x, kernel, stride, padding):
    """Cross-correlation by its definition, NHWC and HWIO, float64."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((x.shape[0], height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            window = x[:, top : top + size, left : left + size, :]
            out[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
    return out


def conv(x, layer, stride, padding):
    y = convolve(x, np.float64(layer.kernel[...]), stride, padding)
    return y if layer.bias is None else y + np.float64(layer.bias[...])


def norm(x, layer):
    """Batch normalization by the running statistics."""
    scale, bias, mean, var = (
        np.float64(p[...]) for p in (layer.scale, layer.bias, layer.mean, layer.var)
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def conv_norm(x, layer, stride, padding):
    return norm(conv(x, layer.conv, stride, padding), layer.norm)


def relu(x):
    return np.maximum(x, 0)


def max_pool(x, size):
    """Maxima of whole windows that do not overlap; what is left over is dropped."""
    height, width = (n // size for n in x.shape[1:3])
    x = x[:, : height * size, : width * size]
    return x.reshape(len(x), height, size, width, size, -1).max((2, 4))

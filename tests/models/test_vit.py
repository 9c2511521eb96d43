import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx
from model_support import (
    abstract_rngs,
    assert_gradient_reaches_every_parameter,
    images,
    leaves,
    move_from_identity,
    quickly_built,
)

from jaxkd import models
from jaxkd._errors import InvalidInputError

SIZE = (8, 12)


@jax.jit
def run(model, x):
    return model(x)


def construct(rngs, size=SIZE, channels=6, **settings):
    arguments = {"patch_size": 4, "depth": 4, "heads": 3, "num_classes": 10} | settings
    return models.VisionTransformer(size, channels, rngs=rngs, **arguments)


def built(**settings):
    return quickly_built(lambda rngs: construct(rngs, **settings))


tiny = functools.cache(built)  # No test changes its networks.


@pytest.mark.parametrize(
    "name, parameters, channels",
    [
        ("vit_ti", 5_717_416, 192),
        ("vit_s", 22_050_664, 384),
        ("vit_b", 86_567_656, 768),
    ],
)
def test_parameter_count_and_feature_shapes_are_the_published_ones(
    name, parameters, channels
):
    def apply(x):
        model = models.build(
            name, num_classes=1000, image_shape=(224, 224, 3), rngs=abstract_rngs()
        )
        return model(x), nnx.state(model, nnx.Param)

    output, params = jax.eval_shape(apply, jnp.zeros((2, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert [stage.shape for stage in output.stages] == [(2, 14, 14, channels)] * 5
    assert output.embedding.shape == (2, channels)
    assert output.logits.shape == (2, 1000)


def dense(x, layer):
    return x @ np.float64(layer.kernel[...]) + np.float64(layer.bias[...])


def normalize(x, layer):
    centered = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)
    return centered / deviation * np.float64(layer.scale[...]) + np.float64(
        layer.bias[...]
    )


def attention(x, block):
    """Example by example, head by head, of one token after the other."""
    q, k, v = np.split(dense(x, block.qkv), 3, axis=-1)
    size = x.shape[-1] // block.heads
    y = np.zeros_like(x)
    for example, token, head in np.ndindex(*x.shape[:2], block.heads):
        own = slice(head * size, (head + 1) * size)
        scores = k[example, :, own] @ q[example, token, own] / np.sqrt(size)
        weights = np.exp(scores) / np.exp(scores).sum()
        y[example, token, own] = weights @ v[example, :, own]
    return dense(y, block.proj)


def apply_block(x, block):
    x = x + attention(normalize(x, block.norm1), block)
    hidden = dense(normalize(x, block.norm2), block.fc1)
    hidden = hidden * (1 + scipy.special.erf(hidden / np.sqrt(2))) / 2
    return x + dense(hidden, block.fc2)


@pytest.mark.usefixtures("x64")
def test_network_matches_its_definition_to_the_last_digits():
    model = built(dtype=jnp.float64)
    move_from_identity(model)
    x = np.random.default_rng(1).normal(size=(2, *SIZE, 3))

    kernel = np.float64(model.patches.kernel[...]).reshape(-1, 6)
    bias = np.float64(model.patches.bias[...])
    tokens = [
        x[:, i : i + 4, j : j + 4].reshape(2, -1) @ kernel + bias
        for i in (0, 4)
        for j in (0, 4, 8)
    ]
    first = np.broadcast_to(np.float64(model.class_token[...])[0], (2, 6))
    y = np.stack([first, *tokens], axis=1) + np.float64(model.positions[...])
    stages = [y]
    for block in model.blocks:
        y = apply_block(y, block)
        stages.append(y)
    embedding = normalize(y, model.norm)[:, 0]

    output = run(model, jnp.asarray(x))
    for actual, expected in zip(output.stages, stages, strict=True):
        expected = expected[:, 1:].reshape(2, 2, 3, 6)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(output.embedding, embedding, rtol=1e-12, atol=1e-12)
    logits = dense(embedding, model.classifier)
    np.testing.assert_allclose(output.logits, logits, rtol=1e-12, atol=1e-12)


def test_preactivations_equal_the_stages():
    output = run(tiny(), images(2, *SIZE, 3))
    for stage, before in zip(output.stages, output.preactivations, strict=True):
        np.testing.assert_array_equal(stage, before)


def test_stages_end_after_every_third_of_twelve_blocks():
    # Of blocks that only add one to each token's first channel: it counts them.
    model = built(depth=12)
    for block in model.blocks:
        for layer in (block.proj, block.fc2):
            layer.kernel[...] = jnp.zeros(layer.kernel.shape)
        block.fc2.bias[...] = jnp.zeros(6).at[0].set(1.0)
    stem, *stages = run(model, images(2, *SIZE, 3)).stages
    for blocks, stage in zip((3, 6, 9, 12), stages, strict=True):
        counted = stem.at[..., 0].add(blocks)
        np.testing.assert_allclose(stage, counted, rtol=1e-5, atol=1e-6)


def test_layers_have_the_published_names_in_their_order():
    model = nnx.eval_shape(lambda: construct(abstract_rngs()))
    names, layers = zip(*model.torch_layers(), strict=True)
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    assert names == (
        "cls_token",
        "pos_embed",
        "patch_embed.proj",
        *(f"blocks.{i}.{layer}" for i in range(4) for layer in block),
        "norm",
        "head",
    )
    shapes = []
    for layer in layers:
        is_bare = isinstance(layer, nnx.Param)
        parts = [layer] if is_bare else jax.tree.leaves(nnx.state(layer))
        shapes += [part.shape for part in parts]
    state = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sorted(shapes) == sorted(leaf.shape for leaf in state)


def test_layers_are_initialized_as_in_deit():
    for path, leaf in leaves(construct(nnx.Rngs(0)), nnx.Param).items():
        if path.startswith("patches"):
            bound = 1 / np.sqrt(3 * 4 * 4)
            assert 0.9 * bound < np.abs(leaf).max() <= bound, path
        elif path.endswith("kernel") or path in ("class_token", "positions"):
            tolerance = 4 / np.sqrt(2 * leaf.size)
            assert leaf.std() == pytest.approx(0.02, rel=tolerance), path
        else:
            assert (leaf == (1 if path.endswith("scale") else 0)).all(), path


def test_gradient_reaches_every_parameter():
    model = built()
    move_from_identity(model)
    assert_gradient_reaches_every_parameter(model, images(2, *SIZE, 3))


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    model, x = tiny(dtype=jnp.bfloat16), images(2, *SIZE, 3)
    output = run(model, x)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = run(tiny(), x).logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.05 * np.abs(reference).max()


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, *SIZE, 1)])
def test_images_of_another_shape_raise(shape):
    with pytest.raises(InvalidInputError, match=r"must be \[batch, 8, 12, 3\]"):
        tiny()(jnp.zeros(shape))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"size": (8, 10)}, "multiples of the patch size, 4, got 8x10"),
        ({"channels": 8}, "multiple of the number of heads, 3"),
        ({"depth": 3}, "depth must be at least 4"),
        ({"heads": 0}, "heads"),
        ({"size": (0, 8)}, r"image_size\[0\]"),
        ({"num_classes": 0}, "num_classes"),
        ({"dtype": jnp.int32}, "dtype must be"),
    ],
)
def test_errors_name_the_invalid_argument(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        construct(nnx.Rngs(0), **settings)

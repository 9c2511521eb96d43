import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import semantic_calibration as reference

from jaxkd import distillers, heads
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._semantic_calibration import attend, similarities
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

BATCH = 16
# Stages larger and smaller than the teacher's, by whole factors and others.
SHAPES = {
    "student": ((4, 4, 2), (4, 4, 3), (2, 2, 4)),
    "teacher": ((4, 4, 2), (3, 3, 3), (4, 4, 5)),
}
PAIRS = [(s, t) for s in (1, 2) for t in (1, 2)]


def outputs(dtype=np.float32, size=BATCH):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=(size, *shape)), dtype)
    return tuple(
        ModelOutput(draw(3), draw(2), tuple(draw(*shape) for shape in shapes), ())
        for shapes in SHAPES.values()
    )


def spec_of(student, teacher):
    return distillers.Spec(student, teacher, 3, np.zeros(BATCH, np.int32))


def batch(size=BATCH):
    return distillers.Batch(
        jnp.zeros((size, 4, 4, 1), jnp.uint8),
        jnp.zeros(size, jnp.int32),
        jnp.arange(size),
        jax.random.key(0),
    )


@functools.cache
def started():
    """(distiller, parameters, state), drawn by NumPy: compiling init takes long."""
    method = distillers.semantic_calibration()
    init = lambda key: method.init(nnx.Rngs(key), spec_of(*outputs()))
    rng = np.random.default_rng(3)

    def draw(path, leaf):
        names = [key.key for key in path]
        if names[-1] in ("scale", "var"):
            return jnp.ones(leaf.shape, leaf.dtype)
        if names[-1] == "mean" or names[1].startswith("norm"):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), leaf.dtype)

    state = jax.eval_shape(init, jax.random.key(0))
    params, extra = (jax.tree_util.tree_map_with_path(draw, x) for x in state)
    return method, params, extra


@functools.cache
def value_and_gradients():
    method, params, extra = started()

    def total(params, student, teacher):
        value, new, metrics = method.loss(params, extra, student, teacher, batch())
        return value.sum(), (value, new, metrics)

    differentiated = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
    (_, result), gradients = jax.jit(differentiated)(params, *outputs())
    return result, gradients


def expected_attention():
    _, params, _ = started()
    params = jax.tree.map(np.float64, params)
    maps = [[np.float64(x) for x in output.stages[1:]] for output in outputs()]
    queries = [params[f"query{i}"] for i in (1, 2)]
    keys = [params[f"key{i}"] for i in (1, 2)]
    return reference.attention(queries, keys, *maps), params, maps


def test_the_loss_is_the_attended_difference_of_all_pairs_of_stages():
    alpha, params, maps = expected_attention()
    assert alpha.std(axis=0).min() > 1e-3  # examples attend differently
    projections = [[params[f"projection{s}_{t}"] for t in (1, 2)] for s in (1, 2)]
    expected = reference.semantic_calibration(alpha, projections, *maps)
    (value, _, _), _ = value_and_gradients()
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_the_metric_is_the_mean_entropy_of_the_attention():
    alpha, _, _ = expected_attention()
    (_, _, metrics), _ = value_and_gradients()
    assert metrics.keys() == {"entropy"}
    entropy = -np.sum(alpha * np.log(alpha), axis=-1).mean()
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)


def test_attention_rows_sum_to_one_and_follow_the_inner_products():
    rng = np.random.default_rng(1)
    queries, keys = (rng.normal(size=(5, n, 4)).astype(np.float32) for n in (2, 3))
    attention, entropy = attend(jnp.asarray(queries), jnp.asarray(keys))
    np.testing.assert_allclose(attention.sum(axis=-1), 1.0, rtol=1e-6)
    scores = np.einsum("bsd,btd->bst", queries, keys)
    np.testing.assert_array_equal(np.argsort(attention), np.argsort(scores))
    assert np.all(entropy > 0)
    assert np.all(entropy < np.log(3))


def test_every_head_has_a_gradient_and_the_teacher_none():
    _, (heads_, student, teacher) = value_and_gradients()
    assert heads_.keys() == {
        *("query1", "query2", "key1", "key2"),
        *(f"projection{s}_{t}" for s, t in PAIRS),
    }
    for layers in heads_.values():
        for leaf in jax.tree.leaves(layers):
            assert np.isfinite(leaf).all()
        for layer in layers.values():
            assert all(np.any(leaf) for leaf in jax.tree.leaves(layer))
    assert all(np.any(g) for g in student.stages[1:])
    assert not np.any(student.stages[0])
    assert not any(np.any(g) for g in jax.tree.leaves(teacher))


def test_the_state_is_the_projections_statistics_and_keeps_its_structure():
    _, _, extra = started()
    (_, new, _), _ = value_and_gradients()
    assert extra.keys() == {f"projection{s}_{t}" for s, t in PAIRS}
    old_leaves, structure = jax.tree.flatten(extra)
    new_leaves, new_structure = jax.tree.flatten(new)
    assert structure == new_structure
    for old, after in zip(old_leaves, new_leaves, strict=True):
        assert (old.shape, old.dtype) == (after.shape, after.dtype)
        assert np.any(old != after)


def test_the_embeddings_are_a_quarter_of_the_batch_wide_but_at_least_two():
    _, params, _ = started()
    init = lambda key: distillers.semantic_calibration().init(
        nnx.Rngs(key), spec_of(*outputs(size=4))
    )
    small, _ = jax.eval_shape(init, jax.random.key(0))
    for found, size, width in ((params, 16, 4), (small, 4, 2)):
        assert found["key2"]["hidden"]["kernel"].shape == (size, 2 * width)
        assert found["key2"]["out"]["kernel"].shape == (2 * width, width)


def test_a_batch_of_another_size_is_refused():
    method, params, extra = started()
    with pytest.raises(InvalidInputError, match="a batch of 16 examples, got 8"):
        method.loss(params, extra, *outputs(size=8), batch(8))


def test_bfloat16_is_computed_in_float32():
    method, params, extra = started()
    loss = lambda: method.loss(params, extra, *outputs(jnp.bfloat16), batch())
    value, _, metrics = jax.eval_shape(loss)
    assert value.dtype == metrics["entropy"].dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_networks_of_unequal_depth_are_compared_and_float64_stays():
    method = distillers.semantic_calibration()
    student, teacher = outputs(np.float64)
    teacher = teacher._replace(stages=teacher.stages[:2])

    def run():
        state = method.init(nnx.Rngs(0), spec_of(student, teacher))
        return state, method.loss(*state, student, teacher, batch())

    (params, extra), (value, new, _) = state, result = jax.eval_shape(run)
    assert {name for name in params if name.startswith("key")} == {"key1"}
    assert value.shape == (BATCH,)
    assert jax.tree.structure(extra) == jax.tree.structure(new)
    for leaf in jax.tree.leaves((state, result)):
        assert leaf.dtype == jnp.float64


def test_similarities_are_inner_products_of_flattened_features():
    x = np.random.default_rng(2).normal(size=(3, 2, 2, 4)).astype(np.float32)
    expected = reference.similarities(np.float64(x))
    np.testing.assert_allclose(similarities(jnp.asarray(x)), expected, rtol=1e-5)


def test_networks_it_cannot_use_are_refused():
    method = distillers.semantic_calibration()
    student, teacher = outputs()
    no_stages = lambda output: output._replace(stages=())
    flat = teacher._replace(stages=tuple(x[:, 0, 0] for x in teacher.stages))
    for spec, match in (
        (spec_of(no_stages(student), teacher), "student's output has 0 stages"),
        (spec_of(student, no_stages(teacher)), "teacher's output has 0 stages"),
        (spec_of(student, None), "needs a teacher"),
        (spec_of(student, flat), "stage 0 of the teacher has the shape"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            method.init(nnx.Rngs(0), spec)


def test_the_embeddings_start_uniform_with_one_over_the_inputs_root_as_limit():
    embedding = heads.SimilarityEmbedding(64, 16, rngs=nnx.Rngs(0))
    for layer, inputs in ((embedding.hidden, 64), (embedding.out, 32)):
        kernel, bias = np.float64(layer.kernel[...]), np.float64(layer.bias[...])
        assert max(np.abs(kernel).max(), np.abs(bias).max()) <= inputs**-0.5
        np.testing.assert_allclose(kernel.var(), 1 / (3 * inputs), rtol=0.2)
        assert np.any(bias)


def test_heads_without_channels_are_refused():
    with pytest.raises(InvalidInputError, match="dim must be at least 1"):
        heads.SimilarityEmbedding(4, 0, rngs=nnx.Rngs(0))
    with pytest.raises(InvalidInputError, match="out_channels must be at least 1"):
        heads.CrossLayerProjection(3, 0, rngs=nnx.Rngs(0))

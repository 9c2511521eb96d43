import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_support import SHAPES, apply, batch, gradients, outputs, spec_of, start
from feature_support import without_stages as no_stages
from flax import nnx
from reference import overhaul, review, stage_flow

from jaxkd import distillers, heads
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

METHODS = {"overhaul": distillers.overhaul, "review": distillers.review}


@functools.cache
def started(name):
    """(compiled loss, parameters, state), once for all tests."""
    method, params, extra = start(METHODS[name]())
    return jax.jit(method.loss), params, extra


def run(name, student, teacher, *, extra=None):
    loss, params, first = started(name)
    return loss(params, first if extra is None else extra, student, teacher, batch())


def mean_of_negatives(x):
    channels = np.moveaxis(np.float64(x), -1, 0)
    return np.array([c[c < 0].mean() if (c < 0).any() else 0.0 for c in channels])


def pooled(x, size):
    return np.stack([stage_flow.pool(np.float64(example), *size) for example in x])


def test_the_margins_are_the_means_of_the_first_batchs_negative_values():
    student, teacher = outputs()
    positive = teacher.preactivations[1].at[..., 0].set(1.0)
    teacher = teacher._replace(
        preactivations=(
            teacher.preactivations[0],
            positive,
            teacher.preactivations[2],
        )
    )
    _, extra, _ = run("overhaul", student, teacher)
    for i in (1, 2):
        expected = mean_of_negatives(teacher.preactivations[i])
        np.testing.assert_allclose(
            extra["margins"][f"stage{i}"], expected, rtol=1e-5, atol=1e-7
        )
    assert extra["margins"]["stage1"][0] == 0.0
    _, later, _ = run("overhaul", *outputs(seed=1), extra=extra)
    for i in (1, 2):
        name = f"stage{i}"
        np.testing.assert_array_equal(later["margins"][name], extra["margins"][name])


def test_overhaul_is_the_weighted_sum_over_connected_stages():
    _, params, extra = started("overhaul")
    student, teacher = outputs()
    value, _, metrics = run("overhaul", student, teacher)
    parts = []
    for i, weight in ((1, 0.5), (2, 1.0)):
        s, t = student.preactivations[i], teacher.preactivations[i]
        size = np.minimum(s.shape[1:3], t.shape[1:3])
        channels = SHAPES["student"][i][-1], SHAPES["teacher"][i][-1]
        connected, _ = apply(
            lambda rngs, channels=channels: heads.Connector(*channels, rngs=rngs),
            params[f"stage{i}"],
            extra["statistics"][f"stage{i}"],
            pooled(s, size).astype(np.float32),
        )
        margin = mean_of_negatives(t)
        definition = overhaul.overhaul(np.float64(connected), pooled(t, size), margin)
        parts.append(weight * definition)
    np.testing.assert_allclose(value, sum(parts), rtol=1e-4)
    assert metrics.keys() == {"stage1", "stage2"}
    np.testing.assert_allclose(metrics["stage1"], parts[0].mean(), rtol=1e-4)


def test_review_fuses_from_the_embedding_to_stage_1():
    _, params, extra = started("review")
    student, teacher = outputs()
    value, _, metrics = run("review", student, teacher)
    position = lambda output: output.embedding[:, None, None]
    levels = [
        ("embedding", position(student), position(teacher)),
        ("stage2", student.stages[2], teacher.stages[2]),
        ("stage1", student.stages[1], teacher.stages[1]),
    ]
    residual, parts = None, {}
    for name, s, t in levels:
        widths, fuse = (s.shape[-1], 2, t.shape[-1]), residual is not None

        def fusion(params, rest, s, residual, widths=widths, fuse=fuse, size=t.shape):
            make = lambda rngs: heads.AttentionFusion(*widths, fuse=fuse, rngs=rngs)
            return heads.bind_heads(make, params, rest)(s, residual, size[1:3])

        fused, residual = jax.jit(fusion)(params[name], extra[name], s, residual)
        parts[name] = review.review(np.float64(fused), np.float64(t))
    np.testing.assert_allclose(value, sum(parts.values()), rtol=1e-4)
    assert metrics.keys() == parts.keys()
    for name, part in parts.items():
        np.testing.assert_allclose(metrics[name], part.mean(), rtol=1e-4)


@pytest.mark.parametrize("setting, width", [(None, 2), (6, 6)])
def test_the_residual_is_as_wide_as_the_students_embedding_or_as_wanted(setting, width):
    method = distillers.review(mid_channels=setting)
    init = lambda key: method.init(nnx.Rngs(key), spec_of(*outputs()))
    params, _ = jax.eval_shape(init, jax.random.key(0))
    assert params["stage1"]["conv_in"]["kernel"].shape == (1, 1, 3, width)


@pytest.mark.parametrize("name", METHODS)
def test_every_head_and_stage_learns_and_the_teacher_does_not(name):
    loss, params, extra = started(name)
    heads_, student, teacher = gradients(loss, params, extra, *outputs())
    for level in heads_.values():
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(level))
        convolutions = [v for k, v in level.items() if k.startswith("conv")]
        assert all(np.any(v["kernel"]) for v in convolutions)
    maps = student.preactivations if name == "overhaul" else student.stages
    assert all(np.any(g) for g in maps[1:])
    assert not np.any(maps[0])
    assert np.any(student.embedding) == (name == "review")
    assert not any(np.any(g) for g in jax.tree.leaves(teacher))


@pytest.mark.parametrize("name", METHODS)
def test_the_state_has_one_structure_and_new_statistics(name):
    _, _, extra = started(name)
    _, new, _ = run(name, *outputs())
    old_leaves, structure = jax.tree.flatten(extra)
    new_leaves, new_structure = jax.tree.flatten(new)
    assert structure == new_structure
    for old, after in zip(old_leaves, new_leaves, strict=True):
        assert (old.shape, old.dtype) == (after.shape, after.dtype)
        assert np.any(old != after)


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_is_computed_in_float32(name):
    value, _, _ = run(name, *outputs(jnp.bfloat16))
    assert value.dtype == jnp.float32
    assert np.isfinite(value).all()


@pytest.mark.parametrize("name", METHODS)
def test_networks_they_cannot_use_are_refused(name):
    student, teacher = outputs()
    method = METHODS[name]()
    for spec, match in (
        (spec_of(no_stages(student), teacher), "compares feature maps"),
        (spec_of(student, None), "needs a teacher"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            method.init(nnx.Rngs(0), spec)


def test_no_channels_are_refused():
    with pytest.raises(InvalidInputError, match="mid_channels must be at least 1"):
        distillers.review(mid_channels=0)

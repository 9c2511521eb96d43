"""Special cases of relational distances and angles; the rest is in test_every_loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses

PAIRWISE = [losses.relational_distance, losses.relational_angle]


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)


def gradient(loss, student, teacher):
    total = lambda s, t: loss(s, t).sum()
    return jax.jit(jax.grad(total))(jnp.asarray(student), jnp.asarray(teacher))


@pytest.mark.parametrize("loss", PAIRWISE)
def test_identical_rows_get_no_gradient(loss, embeddings):
    same = np.tile(embeddings[0, :1], (6, 1))
    assert not np.any(gradient(loss, same, embeddings[1]))


def test_rows_that_coincide_get_the_same_distances_and_gradients(embeddings):
    student, teacher = embeddings
    student[1], teacher[1] = student[0], teacher[0]
    value = losses.relational_distance(student, teacher)
    np.testing.assert_array_equal(value[0], value[1])
    moves = gradient(losses.relational_distance, student, teacher)
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_the_gradient_flows_through_the_mean_distance(embeddings):
    # A loss that does not see the scale has a gradient across the direction of scaling.
    student, teacher = np.float64(embeddings)
    slope = gradient(losses.relational_distance, student, teacher)
    assert abs(np.sum(slope * student)) < 1e-14 < 1e-3 < np.abs(slope).max()


@pytest.mark.parametrize("loss", PAIRWISE)
def test_small_distances_keep_their_digits_far_from_the_origin(loss, embeddings):
    # Multiples of 1/64 below 1024 are exact in float32; their squares are not.
    student = np.round(embeddings[0] * 8) / 64 + 1000
    expected = loss(student - 1000, embeddings[1])
    np.testing.assert_allclose(loss(student, embeddings[1]), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", PAIRWISE)
def test_nan_is_not_taken_for_zero(loss, embeddings):
    embeddings[0, 2, 1] = np.nan
    assert np.isnan(loss(*embeddings)).any()


def test_memory_of_angles_does_not_grow_with_the_cube_of_the_batch():
    x = jax.ShapeDtypeStruct((256, 2), jnp.float32)
    step = jax.jit(jax.grad(lambda s, t: losses.relational_angle(s, t).sum()))
    memory = step.lower(x, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 256**3

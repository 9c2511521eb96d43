"""What is special about single relational losses; the rest is in test_zoo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relations as definitions

from jaxkd import losses
from jaxkd._errors import InvalidInputError

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


def test_opposite_embeddings_have_a_finite_transfer_loss():
    # At width 50 the cosine rounds to less than -1 for some of these.
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.normal(size=(100, 50)), jnp.float32)
    transfer = lambda row: losses.probabilistic_transfer(
        jnp.stack([row, -row]), jnp.ones((2, 3))
    )
    assert np.isfinite(jax.vmap(transfer)(rows)).all()


@pytest.mark.usefixtures("x64")
def test_the_kernel_expansion_approaches_the_gaussian_kernel(embeddings):
    unit = [
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in np.float64(embeddings)
    ]
    kernels = [
        np.exp(-0.4 * np.sum((x[:, None] - x[None]) ** 2, axis=-1)) for x in unit
    ]
    value = losses.correlation_congruence_kernel(*unit, gamma=0.4, order=15)
    expected = np.mean((kernels[0] - kernels[1]) ** 2, axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_correlation_congruence_has_its_closed_form_gradient(embeddings):
    student, teacher = np.float64(embeddings)
    error = np.pad(np.abs(student - teacher), ((1, 1), (0, 0)))
    expected = np.sign(student - teacher) * (error[:-2] + error[2:])
    slope = gradient(losses.correlation_congruence, student, teacher)
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_correlation_congruence_needs_two_examples():
    with pytest.raises(InvalidInputError, match="at least 2, got shape"):
        losses.correlation_congruence(jnp.ones((1, 3)), jnp.ones((1, 3)))


@pytest.mark.usefixtures("x64")
def test_self_supervised_similarity_has_its_closed_form_gradient():
    rng = np.random.default_rng(0)
    views, teacher_views = rng.normal(size=(2, 5, 3))
    originals = jnp.eye(3)  # unit vectors: the cosines are the views' own components
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    loss = lambda v, t: losses.self_supervised_similarity(v, originals, t, originals)
    slope = gradient(loss, views, teacher_views)
    q = jax.nn.softmax(views / 0.5)
    p = jax.nn.softmax(definitions.cosines(teacher_views, np.eye(3)) / 0.5)
    by_cosine = 0.5 * (q - p)
    expected = by_cosine - views * (views * by_cosine).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_views_and_originals_of_other_widths_are_refused():
    x, y = jnp.ones((4, 3)), jnp.ones((4, 2))
    with pytest.raises(ValueError, match="teacher_views and teacher_originals"):
        losses.self_supervised_similarity.__wrapped__(x, x, x, y)


def test_channels_that_differ_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match="1x1 convolution"):
        losses.inter_channel_correlation.__wrapped__(
            jnp.ones((2, 2, 2, 3)), jnp.ones((2, 2, 2, 4))
        )


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": np.inf}, {"order": 0}])
def test_a_kernel_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        losses.correlation_congruence_kernel(jnp.ones((2, 2)), jnp.eye(2), **settings)


def test_features_without_a_second_axis_are_refused():
    with pytest.raises(ValueError, match=r"student_features must be \[batch, ...\]"):
        losses.similarity_preserving(jnp.ones(3), jnp.ones((3, 2)))

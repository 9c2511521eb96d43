"""Special cases of single losses of relations; the rest is in test_every_loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)


def gradient(loss, student, teacher):
    total = lambda s, t: loss(s, t).sum()
    return jax.jit(jax.grad(total))(jnp.asarray(student), jnp.asarray(teacher))


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
    with pytest.raises(InvalidInputError, match="at least 2 examples"):
        losses.correlation_congruence(jnp.ones((1, 3)), jnp.ones((1, 3)))


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": np.inf}, {"order": 0}])
def test_a_kernel_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        losses.correlation_congruence_kernel(jnp.ones((2, 2)), jnp.eye(2), **settings)


def test_features_without_a_second_axis_are_refused():
    with pytest.raises(ValueError, match=r"student_features must be \[batch, ...\]"):
        losses.similarity_preserving(jnp.ones(3), jnp.ones((3, 2)))

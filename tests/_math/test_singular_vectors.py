import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd._math import singular_vectors


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(0.2, 1.0, shape).astype(dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_singular_vectors_are_those_of_the_decomposition(shape):
    x = np.float64(draw(*shape))
    vectors, squares = singular_vectors(jnp.asarray(x), 3)
    _, values, expected = np.linalg.svd(x)
    np.testing.assert_allclose(squares * np.abs(x).max() ** 2, values[:3] ** 2)
    cosines = np.sum(np.asarray(vectors) * expected[:3].T, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1.0, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "shape", [(5, 3), pytest.param((3, 5), marks=pytest.mark.slow)]
)
def test_singular_vectors_have_derivatives_of_second_order(shape):
    x, way = (jnp.asarray(draw(*shape, seed=i, dtype=np.float64)) for i in range(2))
    weights = np.float64(draw(shape[1], 2, seed=2))
    # Squares, because signs are arbitrary.
    total = lambda x: jnp.sum(weights * singular_vectors(x, 2)[0] ** 2)
    gradient = jax.jit(jax.grad(total))
    slope = lambda h: (gradient(x + h * way) - gradient(x - h * way)) / (2 * h)
    twice = jax.jit(jax.grad(lambda x: jnp.vdot(jax.grad(total)(x), way)))
    np.testing.assert_allclose(twice(x), slope(1e-5), rtol=1e-6, atol=1e-6)


def test_equal_singular_values_have_a_derivative_no_larger_than_others():
    # Rounding makes their differences arbitrary; what is divided by them must not be.
    rotation = np.linalg.qr(draw(5, 5))[0]
    x = jnp.asarray(np.linalg.qr(draw(9, 5, seed=1))[0] @ rotation)
    jacobian = jax.jit(jax.jacobian(lambda x: singular_vectors(x, 3)[0]))(x)
    assert np.abs(jacobian).max() < 1e3


def test_a_matrix_of_lower_rank_has_zero_vectors_for_the_rest():
    x = np.outer(np.arange(1.0, 7.0), np.ones(4)).astype(np.float32)
    for matrix in (x, x.T.copy()):
        vectors, squares = singular_vectors(jnp.asarray(matrix), 3)
        norms = np.linalg.norm(vectors, axis=0)
        np.testing.assert_allclose(norms, [1, 0, 0], atol=1e-6)
        assert np.count_nonzero(squares) == 1

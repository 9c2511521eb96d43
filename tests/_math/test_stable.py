import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxkd._math import _stable

FLOATS = [np.float32, np.float64]


@pytest.fixture(params=FLOATS, ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def exact(values):
    return np.array([float(x) for x in values])


def exp_remainder(x, order):
    with mpmath.workdps(60):
        x = mpmath.mpf(x)
        if abs(x) < 1e-3:
            return mpmath.fsum(x**n / mpmath.factorial(n + order) for n in range(20))
        head = mpmath.fsum(x**n / mpmath.factorial(n) for n in range(order))
        return (mpmath.exp(x) - head) / x**order


def log1p_remainder(x, order):
    with mpmath.workdps(60):
        x = mpmath.mpf(x)
        if abs(x) < 1e-3:
            return mpmath.fsum((-x) ** n / mpmath.mpf(n + order) for n in range(20))
        head = mpmath.fsum(-((-x) ** n) / n for n in range(1, order))
        return (mpmath.log1p(x) - head) / (-x) ** order * -1


def points(low, high, dtype, extra=()):
    """Numbers between the two on both sides of zero, small ones and zero included."""
    rng = np.random.default_rng(0)
    spread = 10.0 ** rng.uniform(-8, 0, 60)
    return np.concatenate([low * spread, high * spread, [0.0, *extra]]).astype(dtype)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_exp_remainder_is_exact_to_the_last_digits(order, dtype):
    x = points(-80.0, 60.0, dtype, [2.0, -2.0, 1.9999, -1.9999, 2.5, -2.5])
    value = jax.jit(lambda x: _stable.exp_remainder(x, order))(x)
    expected = exact(exp_remainder(a, order) for a in x.tolist())
    np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("low, high", [(-1.0, 2.0), (-1.0, 1.0), (0.0, 0.5)])
def test_second_exp_remainder_is_exact_to_the_last_digits(low, high, dtype):
    inside = np.linspace(low, high, 61)
    small = 10.0 ** -np.arange(1.0, 31.0)
    signed = np.concatenate([small, -small])
    x = np.concatenate([inside, signed[(signed >= low) & (signed <= high)]])
    x = x.astype(dtype)
    value = jax.jit(lambda x: _stable.second_exp_remainder(x, low, high))(x)
    assert value.dtype == dtype
    expected = exact(exp_remainder(a, 2) for a in x.tolist())
    np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("order", [1, 2])
def test_log1p_remainder_is_exact_to_the_last_digits(order, dtype):
    x = points(-0.99, 1e6, dtype, [0.5, -0.5, 0.4999, -0.4999, 0.6])
    value = jax.jit(lambda x: _stable.log1p_remainder(x, order))(x)
    expected = exact(log1p_remainder(a, order) for a in x.tolist())
    np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "fn, expected, low, high",
    [
        (_stable.exp_remainder, exp_remainder, -5.0, 5.0),
        (_stable.log1p_remainder, log1p_remainder, -0.8, 3.0),
    ],
)
@pytest.mark.parametrize("order", [1, 2])
def test_remainders_have_exact_derivatives(fn, expected, low, high, order, dtype):
    x = points(low, high, dtype)
    derivative = jax.jit(jax.vmap(jax.grad(lambda x: fn(x, order))))(x)
    with mpmath.workdps(60):
        wanted = exact(
            mpmath.diff(lambda y: expected(y, order), a, h=1e-20) for a in x.tolist()
        )
    np.testing.assert_allclose(derivative, wanted, rtol=60 * np.finfo(dtype).eps)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("fn", [_stable.exp_remainder, _stable.log1p_remainder])
def test_remainders_are_differentiable_twice_across_zero(fn):
    x = np.array([-0.6, -0.3, 0.0, 0.3, 0.7, 2.5])
    check_grads(jax.jit(lambda x: fn(x, 1)), (x,), order=2)


def test_exp_remainder_of_minus_infinity_is_zero():
    np.testing.assert_array_equal(_stable.exp_remainder(jnp.array([-jnp.inf]), 2), 0)


def test_the_plain_formula_for_the_exp_remainder_fails_near_zero():
    x = jnp.float32(1e-3)
    expected = float(exp_remainder(x.item(), 2))
    plain = float((jnp.exp(x) - 1.0 - x) / (x * x))
    assert abs(plain / expected - 1.0) > 1e-2
    np.testing.assert_allclose(_stable.exp_remainder(x, 2), expected, rtol=1e-6)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
@pytest.mark.parametrize("small", [1.0, 5e-5, 1e-6])
def test_accurate_sum_does_not_lose_small_terms_beside_a_large_one(transform, small):
    x = np.full((3, 1001), small, np.float32)
    x[:, 0] = 1.0
    value = transform(_stable.accurate_sum)(jnp.asarray(x))
    expected = np.sum(x, axis=-1, dtype=np.float64)
    np.testing.assert_allclose(value, expected, rtol=1.3e-7)


def test_accurate_sum_of_terms_that_cancel_is_accurate_too():
    x = np.random.default_rng(0).normal(size=(20, 1000)).astype(np.float32)
    x = np.concatenate([x, -x[:, ::-1], np.full((20, 1), 1e-3, np.float32)], axis=1)
    value = _stable.accurate_sum(jnp.asarray(x))
    np.testing.assert_allclose(value, 1e-3, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("x", [[0.0, 0.0], [3.0], [1e38, 1e38, -1e38], [np.inf, 1.0]])
def test_accurate_sum_of_special_values(x):
    np.testing.assert_allclose(_stable.accurate_sum(jnp.float32(x)), np.sum(x))


def test_accurate_sum_has_the_gradient_of_a_sum():
    x = jnp.arange(10.0).reshape(2, 5)
    gradient = jax.jit(jax.grad(lambda x: _stable.accurate_sum(x).sum()))(x)
    np.testing.assert_array_equal(gradient, jnp.ones_like(x))


LENGTHS = [1, 2, 7, 8, 9, 15, 16, 17, 1000, 32_000]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
@pytest.mark.parametrize("n", LENGTHS)
def test_pairwise_sum_of_positive_terms_is_off_by_half_a_unit_per_addition(
    transform, n
):
    x = 10.0 ** np.random.default_rng(n).uniform(-3, 3, (3, n))
    x = x.astype(np.float32)
    value = transform(_stable.pairwise_sum)(jnp.asarray(x))
    assert value.shape == (3,)
    # A term takes part in three additions of each pass, in those of what the pass left
    # over, and in those of the last, shorter than sixteen.
    passes = max(0, int(np.log2(n) / 3))
    additions = 11 * passes + 15
    rtol = additions * np.finfo(np.float32).eps / 2
    np.testing.assert_allclose(value, x.sum(axis=-1, dtype=np.float64), rtol=rtol)


@pytest.mark.parametrize("n", LENGTHS)
def test_pairwise_sum_adds_every_term_once(n):
    # Whole numbers add up exactly in any order.
    x = np.random.default_rng(n).integers(-99, 99, (2, n))
    value = jax.jit(_stable.pairwise_sum)(jnp.asarray(x, jnp.float32))
    np.testing.assert_array_equal(value, x.sum(axis=-1))


def test_pairwise_sum_does_not_add_up_rounding_errors_of_many_equal_terms():
    x = np.full((1, 32_000), 0.1, np.float32)
    value = jax.jit(_stable.pairwise_sum)(jnp.asarray(x))
    expected = np.sum(x, axis=-1, dtype=np.float64)
    np.testing.assert_allclose(value, expected, rtol=3e-7)
    one_by_one = np.cumsum(x, axis=-1, dtype=np.float32)[:, -1]
    assert abs(one_by_one / expected - 1.0) > 1e-5


def test_pairwise_sum_has_the_gradient_of_a_sum():
    x = jnp.arange(40.0).reshape(2, 20)
    gradient = jax.jit(jax.grad(lambda x: _stable.pairwise_sum(x).sum()))(x)
    np.testing.assert_array_equal(gradient, jnp.ones_like(x))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_product_error_makes_a_product_exact(transform):
    rng = np.random.default_rng(0)
    a, b = (10.0 ** rng.uniform(-4, 4, (2, 500)) * rng.normal(size=(2, 500))).astype(
        np.float32
    )
    product = a * b
    error = transform(_stable.product_error)(*map(jnp.asarray, (a, b, product)))
    exact_product = np.float64(a) * np.float64(b)
    np.testing.assert_array_equal(
        np.float64(product) + np.float64(error), exact_product
    )
    assert (np.asarray(error) != 0.0).any()


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_two_sum_returns_the_rounding_error(transform):
    rng = np.random.default_rng(0)
    a, b = (10.0 ** rng.uniform(-4, 4, (2, 500)) * rng.normal(size=(2, 500))).astype(
        np.float32
    )
    total, error = transform(_stable.two_sum)(jnp.asarray(a), jnp.asarray(b))
    exact_sum = np.float64(a) + np.float64(b)
    np.testing.assert_array_equal(np.float64(total) + np.float64(error), exact_sum)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
@pytest.mark.parametrize("scale", [0.05, 0.7, 3.0, 1e8])
def test_scaled_difference_is_accurate_beyond_its_precision(transform, scale):
    rng = np.random.default_rng(0)
    x, reference = 30.0 * rng.normal(size=(2, 500)).astype(np.float32)
    scale = np.float32(scale)
    high, low = transform(_stable.scaled_difference)(
        *map(jnp.asarray, (x, reference, scale))
    )
    exact_value = (np.float64(x) - np.float64(reference)) / np.float64(scale)
    np.testing.assert_allclose(high, exact_value, rtol=3e-7)
    np.testing.assert_allclose(
        np.float64(high) + np.float64(low), exact_value, rtol=1e-13
    )


def test_scaled_difference_at_infinite_scale_is_zero_except_where_masked():
    x = jnp.array([1.0, -jnp.inf, 3.0])
    high, low = _stable.scaled_difference(x, jnp.array(1.0), jnp.array(jnp.inf))
    np.testing.assert_array_equal(high, [0.0, -np.inf, 0.0])
    np.testing.assert_array_equal(low, 0.0)


@pytest.mark.usefixtures("x64")
def test_scaled_difference_is_differentiable_in_all_arguments():
    first = jax.jit(lambda *arguments: _stable.scaled_difference(*arguments)[0])
    check_grads(first, (np.array([1.0, -2.0]), np.array([0.5]), np.array(0.3)), order=2)


def test_scaled_difference_has_finite_gradients_where_masked():
    fn = lambda x, r, s: jnp.exp(_stable.scaled_difference(x, r, s)[0]).sum()
    gradient = jax.jit(jax.grad(fn, argnums=(0, 1, 2)))
    for scale in (2.0, np.inf):
        gradients = gradient(
            jnp.array([1.0, -jnp.inf]), jnp.array([1.0]), jnp.float32(scale)
        )
        assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_normalized_vectors_keep_direction_and_get_length_one(axis, transform):
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    y = transform(functools.partial(_stable.l2_normalize, axis=axis))(jnp.asarray(x))
    norm = np.linalg.norm(np.float64(x), axis=axis, keepdims=True)
    np.testing.assert_allclose(y, x / norm, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e30, 3e38])
def test_normalizing_neither_overflows_nor_underflows(scale):
    y = _stable.l2_normalize(jnp.float32([[3.0, 4.0], [0.5, 0.0]]) / 5 * scale)
    # The second vector is subnormal at the smallest scale, which counts as zero.
    expected = [[0.6, 0.8], [float(scale > 1e-37), 0.0]]
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_zero_vector_stays_zero_with_zero_gradient_whatever_the_others_are():
    x = jnp.float32([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    fn = lambda x: (_stable.l2_normalize(x) * jnp.arange(6.0).reshape(3, 2)).sum()
    y, gradient = _stable.l2_normalize(x), jax.jit(jax.grad(fn))(x)
    np.testing.assert_array_equal(y[::2], 0.0)
    np.testing.assert_array_equal(gradient[::2], 0.0)
    np.testing.assert_allclose(gradient[1], [-0.032, 0.024], rtol=1e-5)


def test_dividing_by_the_plain_norm_has_a_nan_gradient_at_zero():
    plain = lambda x: (x / (jnp.linalg.norm(x) + 1e-12)).sum()
    assert np.isnan(jax.grad(plain)(jnp.zeros(2))).all()


@pytest.mark.usefixtures("x64")
def test_normalizing_is_differentiable_twice():
    x = np.random.default_rng(0).normal(size=(2, 3))
    check_grads(jax.jit(_stable.l2_normalize), (x,), order=2)


def test_gradient_of_a_normalized_vector_is_orthogonal_to_it():
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda x: (_stable.l2_normalize(x) * weights).sum()))(x)
    np.testing.assert_allclose((gradient * x).sum(axis=1), 0.0, atol=1e-6)


def test_normalizing_bfloat16_computes_in_float32():
    x = jnp.array([[3.0, 4.0]], jnp.bfloat16)
    y = _stable.l2_normalize(x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, [[0.6, 0.8]], rtol=1e-6)


def test_vectors_without_components_are_allowed():
    assert _stable.l2_normalize(jnp.zeros((3, 0))).shape == (3, 0)


def test_normalizing_integers_is_a_type_error():
    with pytest.raises(TypeError):
        _stable.l2_normalize(jnp.array([3, 4]))


def test_a_vector_with_nan_does_not_pass_for_zero():
    normalized = _stable.l2_normalize(jnp.array([[jnp.nan, 1.0], [3.0, 4.0]]))
    assert np.isnan(normalized[0]).all()
    np.testing.assert_allclose(normalized[1], [0.6, 0.8], rtol=1e-6)

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError
from jaxkd._math import singular_vectors

flow_of_solution = inspect.unwrap(losses.flow_of_solution)
singular_value = inspect.unwrap(losses.singular_value)
overhaul = inspect.unwrap(losses.overhaul)
review = inspect.unwrap(losses.review)


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(0.2, 1.0, shape).astype(dtype)


def pairs(low=(2, 3, 3, 5), high=(2, 3, 3, 4)):
    shapes = (low, high, low, high)
    return [draw(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="LAPACK is for CPU")
def test_on_cpu_no_batch_of_decompositions_waits_for_the_threads_of_xla():
    trials = [np.stack([x, x]) for x in pairs()]
    total = lambda *x: singular_value(*x).sum()
    step = jax.jit(jax.vmap(jax.value_and_grad(total)))
    calls = re.findall(
        r"@lapack_\w+syevd\w*\(.*: \((\S+)\)", step.lower(*trials).as_text()
    )
    assert calls
    assert all(re.fullmatch(r"tensor<\d+x\d+xf32>", shape) for shape in calls)


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_the_flow_is_its_closed_form():
    x_s, y_s, x_t, y_t = (np.float64(x) for x in pairs())
    gram = lambda x, y: np.einsum("bhwi,bhwj->bij", x, y) / 9
    gap = gram(x_s, y_s) - gram(x_t, y_t)
    total = lambda x, y: losses.flow_of_solution(x, y, x_t, y_t).sum()
    gradients = jax.grad(total, argnums=(0, 1))(x_s, y_s)
    factor = 2 / (9 * 5 * 4)
    expected = factor * np.einsum("bhwj,bij->bhwi", y_s, gap)
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-10, atol=1e-14)
    expected = factor * np.einsum("bhwi,bij->bhwj", x_s, gap)
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("loss", [flow_of_solution, singular_value])
def test_other_channels_than_the_teachers_are_refused(loss):
    x = pairs()
    x[3] = x[3][..., :3]
    with pytest.raises(InvalidInputError, match=r"teacher_high .* channels, got 4 and"):
        loss(*x)


@pytest.mark.parametrize("k, name", [(5, "student_high"), (6, "student_low")])
def test_more_vectors_than_a_map_has_are_refused(k, name):
    with pytest.raises(InvalidInputError, match=f"k is {k}, but {name}"):
        singular_value(*pairs(high=(2, 3, 3, k - 1)), k=k)


def test_more_vectors_than_positions_are_refused():
    with pytest.raises(InvalidInputError, match="only 2 singular vectors"):
        singular_value(*pairs(low=(2, 2, 1, 5)), k=3)


def test_vectors_are_counted_from_one():
    with pytest.raises(InvalidInputError, match="k must be at least 1, got 0"):
        singular_value(*pairs(), k=0)


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
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
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


def test_nan_features_do_not_pass_for_zero():
    x = pairs()
    x[0][0, 0, 0, 0] = np.nan
    value = singular_value(*x)
    assert np.isnan(value[0])
    assert np.isfinite(value[1])


def test_the_students_own_relations_cost_nothing():
    low, high, _, _ = pairs()
    value = singular_value(low, high, low, high, k=3)
    np.testing.assert_allclose(value, 0.0, atol=1e-9)


@pytest.mark.parametrize(
    "student, teacher, expected",
    [
        (-2.0, -1.0, 0.0),  # the target is the margin: below it anything will do
        (-2.0, -0.25, 0.0),
        (-0.25, -1.0, 0.0625),
        (0.5, -0.25, 0.5625),
        (-2.0, 1.0, 9.0),
        (3.0, 1.0, 4.0),
    ],
)
def test_the_partial_distance_case_by_case(student, teacher, expected):
    at = lambda x: jnp.full((1, 1, 1, 1), x)
    value = overhaul(at(student), at(teacher), -0.5)
    np.testing.assert_allclose(value, [expected], atol=1e-7)


def test_the_margin_is_a_constant():
    x = draw(2, 3, 3, 4), draw(2, 3, 3, 4, seed=1)
    total = lambda m: losses.overhaul(*x, m, stop_teacher_gradient=False).sum()
    assert not np.any(jax.grad(total)(jnp.full(4, -0.5)))


@pytest.mark.parametrize("shape", [(3,), (1, 4)])
def test_a_margin_for_other_channels_is_refused(shape):
    x = draw(2, 3, 3, 4)
    with pytest.raises(InvalidInputError, match="one for each of 4 channels"):
        overhaul(x, x, np.zeros(shape, np.float32))


@pytest.mark.parametrize("loss", [review, lambda s, t: overhaul(s, t, 0.0)])
def test_maps_of_other_shapes_are_refused(loss):
    with pytest.raises(InvalidInputError, match=r"\(2, 3, 3, 4\) and \(2, 3, 3, 5\)"):
        loss(draw(2, 3, 3, 4), draw(2, 3, 3, 5))


@pytest.mark.parametrize(
    "size, weight", [(8, 1.875), (4, 1.75), (3, 1.75), (2, 1.5), (1, 1.0)]
)
def test_review_pools_to_the_sizes_below_the_maps(size, weight):
    # One bright position: pooled to n, the mean square is n^2 / size^4.
    student = np.zeros((1, size, size, 1), np.float32)
    student[0, 0, 0, 0] = 1.0
    levels = [n for n in (4, 2, 1) if n < size]
    expected = 1 / size**2
    for i, n in enumerate(levels, start=1):
        bin_size = -(-size // n)
        expected += 0.5**i / (n * n) / bin_size**4
    value = review(student, np.zeros_like(student))
    np.testing.assert_allclose(value, [expected / weight], rtol=1e-5)

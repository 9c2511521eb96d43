import inspect
import re

import jax
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError

flow_of_solution = inspect.unwrap(losses.flow_of_solution)


singular_value = inspect.unwrap(losses.singular_value)


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

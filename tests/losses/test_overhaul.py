import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(0.2, 1.0, shape).astype(dtype)


overhaul = inspect.unwrap(losses.overhaul)


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


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(InvalidInputError, match=r"\(2, 3, 3, 4\) and \(2, 3, 3, 5\)"):
        overhaul(draw(2, 3, 3, 4), draw(2, 3, 3, 5), 0.0)

import inspect

import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(0.2, 1.0, shape).astype(dtype)


review = inspect.unwrap(losses.review)


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


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(InvalidInputError, match=r"\(2, 3, 3, 4\) and \(2, 3, 3, 5\)"):
        review(draw(2, 3, 3, 4), draw(2, 3, 3, 5))

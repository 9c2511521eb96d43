"""Feature maps that the cases share."""

import numpy as np


def maps(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.3, 1.0, shape) for shape in shapes)


SAME = maps((4, 3, 3, 5), (4, 3, 3, 5))

EVEN = maps((4, 6, 4, 3), (4, 3, 2, 5), seed=1)

ODD = maps((3, 3, 5, 2), (3, 7, 4, 6), seed=2)

ZEROS = np.zeros((3, 2, 2, 4))

ONES = np.ones((3, 2, 2, 4))

RAMP = np.arange(48.0).reshape(3, 2, 2, 4) - 20.0

ONE_CHANNEL_ZERO = RAMP * np.array([1.0, 0.0, 1.0, 1.0])

DEGENERATE = {
    "a student of zeros": (ZEROS, RAMP),
    "a teacher of zeros": (RAMP, ZEROS),
    "all zeros": (ZEROS, ZEROS),
    "constant maps": (ONES, -ONES),
    "student and teacher equal": (RAMP, RAMP),
    "a channel of zeros": (ONE_CHANNEL_ZERO, ONE_CHANNEL_ZERO[::-1]),
    "one position": (RAMP[:, :1, :1], RAMP[::-1, :1, :1]),
    "one example": (RAMP[:1], RAMP[1:2]),
    "tiny features": (1e-18 * RAMP, 1e-30 * RAMP),
}

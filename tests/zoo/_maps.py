"""Feature maps that the cases share."""

import numpy as np


def maps(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.3, 1.0, shape) for shape in shapes)


SAME = maps((4, 3, 3, 5), (4, 3, 3, 5))

EVEN = maps((4, 6, 4, 3), (4, 3, 2, 5), seed=1)

ODD = maps((3, 3, 5, 2), (3, 7, 4, 6), seed=2)


def degenerate_maps(*shape):
    """Pairs of feature maps of one shape, and of few positions or examples."""
    zeros, ones = np.zeros(shape), np.ones(shape)
    size = zeros.size
    ramp = np.arange(float(size)).reshape(shape) * (48.0 / size) - 20.0
    one_channel_zero = ramp * (np.arange(shape[-1]) != 1)
    return {
        "a student of zeros": (zeros, ramp),
        "a teacher of zeros": (ramp, zeros),
        "all zeros": (zeros, zeros),
        "constant maps": (ones, -ones),
        "student and teacher equal": (ramp, ramp),
        "a channel of zeros": (one_channel_zero, one_channel_zero[::-1]),
        "one position": (ramp[:, :1, :1], ramp[::-1, :1, :1]),
        "one example": (ramp[:1], ramp[1:2]),
        "tiny features": (1e-18 * ramp, 1e-30 * ramp),
    }


# In the shape of the arguments, so that one compiled program serves both.
DEGENERATE = degenerate_maps(*SAME[0].shape)

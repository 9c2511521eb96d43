"""Attention losses transcribed from their definitions; shares no code with jaxkd."""

import numpy as np
from reference.feature_maps import matched


def attention(x, power):
    """One example's attention, a vector over its positions."""
    raw = np.array(
        [np.mean(position**power) for position in x.reshape(-1, x.shape[-1])]
    )
    return raw / np.sqrt(np.sum(raw**2))


def _gaps(student, teacher, power):
    return [
        attention(s, power) - attention(t, power)
        for s, t in zip(*matched(student, teacher), strict=True)
    ]


def attention_transfer(student, teacher, power=2):
    return np.array([np.mean(gap**2) for gap in _gaps(student, teacher, power)])


def factor_transfer(student, teacher, power=2):
    return np.array([np.mean(np.abs(gap)) for gap in _gaps(student, teacher, power)])


def neuron_selectivity(student, teacher):
    values = []
    for s, t in zip(*matched(student, teacher), strict=True):
        s, t = (
            [
                channel.ravel() / np.linalg.norm(channel)
                for channel in np.moveaxis(x, -1, 0)
            ]
            for x in (s, t)
        )
        mean = lambda a, b: np.mean([np.dot(x, y) ** 2 for x in a for y in b])
        values.append(mean(t, t) + mean(s, s) - 2 * mean(s, t))
    return np.array(values)

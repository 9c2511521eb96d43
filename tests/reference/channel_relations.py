"""Channel relations transcribed from their definitions; shares no code with jaxkd."""

import numpy as np
import scipy.special
from reference.example_relations import unit_rows
from reference.feature_maps import matched


def inter_channel_correlation(student, teacher):
    leading, channels = student.shape[:-3], student.shape[-1]
    values = np.zeros(leading)
    for index in np.ndindex(leading):
        s, t = (x[index].reshape(-1, channels) for x in (student, teacher))
        difference = unit_rows(s.T @ s) - unit_rows(t.T @ t)
        values[index] = np.sum(difference**2) / channels
    return values


def channel_distributions(student, teacher, temperature=4.0):
    values = []
    for s, t in zip(*matched(student, teacher), strict=True):
        divergences = []
        for channel in range(s.shape[-1]):
            q = scipy.special.softmax(s[..., channel] / temperature)
            p = scipy.special.softmax(t[..., channel] / temperature)
            divergences.append(temperature**2 * scipy.special.rel_entr(p, q).sum())
        values.append(np.mean(divergences))
    return np.array(values)

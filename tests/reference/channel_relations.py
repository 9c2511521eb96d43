"""Channel relations transcribed from their definitions; shares no code with jaxkd."""

import numpy as np
from reference.example_relations import unit_rows


def inter_channel_correlation(student, teacher):
    leading, channels = student.shape[:-3], student.shape[-1]
    values = np.zeros(leading)
    for index in np.ndindex(leading):
        s, t = (x[index].reshape(-1, channels) for x in (student, teacher))
        difference = unit_rows(s.T @ s) - unit_rows(t.T @ t)
        values[index] = np.sum(difference**2) / channels
    return values

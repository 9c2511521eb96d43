"""The overhaul's loss transcribed from its definition; shares no code with jaxkd."""

import numpy as np


def overhaul(student, teacher, margin):
    losses = np.zeros(len(student))
    margin = np.broadcast_to(margin, student.shape[-1:])
    for index, s in np.ndenumerate(student):
        target = max(teacher[index], margin[index[-1]])
        if not s <= target <= 0:
            losses[index[0]] += (s - target) ** 2
    return losses

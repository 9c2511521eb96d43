"""Losses with labels transcribed from their definitions; shares no code with jaxkd."""

import numpy as np
from reference._logits import kl, row_by_row, softmax


def decoupled_kl(
    student,
    teacher,
    labels,
    target_weight=1.0,
    non_target_weight=8.0,
    temperature=4.0,
    where=None,
):
    def row(z, v, y):
        p, q = softmax(v, temperature), softmax(z, temperature)
        p_y, q_y = p[y], q[y]
        target = p_y * np.log(p_y / q_y)
        p, q = np.delete(p, y), np.delete(q, y)
        target += p.sum() * np.log(p.sum() / q.sum())
        non_target = kl(p / p.sum(), q / q.sum())
        return temperature**2 * (
            target_weight * target + non_target_weight * non_target
        )

    return row_by_row(row, student, teacher, labels, where)


def normalized_kl(
    student, teacher, labels, non_target_weight=1.5, temperature=1.0, where=None
):
    def row(z, v, y):
        target = -softmax(v, 1.0)[y] * np.log(softmax(z, 1.0)[y])
        p = softmax(np.delete(v, y), temperature)
        q = softmax(np.delete(z, y), temperature)
        return target - non_target_weight * temperature**2 * (p * np.log(q)).sum()

    return row_by_row(row, student, teacher, labels, where)

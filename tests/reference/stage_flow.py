"""Losses between stages and levels in float64; shares no code with jaxkd."""

import numpy as np


def pool(x, height, width):
    """Average-pools one example [h, w, c], bin by bin."""
    h, w, c = x.shape
    out = np.zeros((height, width, c))
    for i in range(height):
        for j in range(width):
            rows = slice(i * h // height, -(-(i + 1) * h // height))
            columns = slice(j * w // width, -(-(j + 1) * w // width))
            out[i, j] = x[rows, columns].mean(axis=(0, 1))
    return out


def _gram(low, high):
    height, width = np.minimum(low.shape[:2], high.shape[:2])
    low, high = pool(low, height, width), pool(high, height, width)
    total = np.zeros((low.shape[-1], high.shape[-1]))
    for i in range(height):
        for j in range(width):
            total += np.outer(low[i, j], high[i, j])
    return total / (height * width)


def flow_of_solution(student_low, student_high, teacher_low, teacher_high):
    stages = zip(student_low, student_high, teacher_low, teacher_high, strict=True)
    return np.array(
        [np.mean((_gram(a, b) - _gram(c, d)) ** 2) for a, b, c, d in stages]
    )


def _matched_vectors(student, teacher, k):
    """The scaled vectors of one example's stage, [k, c] of both."""
    _, _, v_s = np.linalg.svd(student.reshape(-1, student.shape[-1]), False)
    _, values, v_t = np.linalg.svd(teacher.reshape(-1, teacher.shape[-1]), False)
    values = values[:k] / np.sqrt(np.sum(values[:k] ** 2))
    matched, kept = [], []
    for value, v in zip(values, v_t[:k], strict=True):
        v = v * np.sign(v[np.argmax(np.abs(v))])
        cosines = [candidate @ v for candidate in v_s[: k + 3]]
        best = int(np.argmax(np.abs(cosines)))
        matched.append(value * np.sign(cosines[best]) * v_s[best])
        kept.append(value * v)
    return matched, kept


def singular_value(student_low, student_high, teacher_low, teacher_high, *, k=1):
    losses = []
    stages = zip(student_low, student_high, teacher_low, teacher_high, strict=True)
    for low_s, high_s, low_t, high_t in stages:
        low_s, low_t = _matched_vectors(low_s, low_t, k)
        high_s, high_t = _matched_vectors(high_s, high_t, k)
        total = 0.0
        for m in range(k):
            relation_s = np.exp(-(np.subtract.outer(high_s[m], low_s[m]) ** 2) / 8)
            relation_t = np.exp(-(np.subtract.outer(high_t[m], low_t[m]) ** 2) / 8)
            total += np.sum((relation_s - relation_t) ** 2)
        losses.append(total)
    return np.array(losses)

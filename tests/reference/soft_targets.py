"""Soft targets transcribed from their definitions; shares no code with jaxkd."""

import mpmath
import numpy as np
import scipy.special
from reference._logits import kl, row_by_row, softmax

DIGITS = 60


def soften(logits, temperature):
    """The softmax of logits over a temperature in (0, inf]; -inf masks a class."""
    logits = np.float64(logits)
    scaled = np.zeros_like(logits) if np.isinf(temperature) else logits / temperature
    return scipy.special.softmax(np.where(np.isneginf(logits), -np.inf, scaled), -1)


def soft_target_kl(student, teacher, temperature):
    p, q = soften(teacher, temperature), soften(student, temperature)
    if np.isinf(temperature):
        return 0.5 * (p * _centered_difference(student, teacher, p) ** 2).sum(axis=-1)
    return temperature**2 * scipy.special.rel_entr(p, q).sum(axis=-1)


def soft_target_kl_gradients(student, teacher, temperature):
    p, q = soften(teacher, temperature), soften(student, temperature)
    centered = _centered_difference(student, teacher, p)
    student_gradient = p * centered if np.isinf(temperature) else temperature * (q - p)
    return student_gradient, -p * centered


def _centered_difference(student, teacher, p):
    mask = np.isneginf(student) | np.isneginf(teacher)
    student, teacher = (np.where(mask, 0, np.float64(x)) for x in (student, teacher))
    d = student - teacher
    return np.where(mask, 0, d - (p * d).sum(axis=-1, keepdims=True))


def logit_matching(student, teacher):
    return 0.5 * np.mean((np.float64(student) - np.float64(teacher)) ** 2, axis=-1)


def mean_gap(student, teacher):
    gap = np.float64(student).mean(axis=-1) - np.float64(teacher).mean(axis=-1)
    return 0.5 * gap**2


def exact_soft_target_kl(student, teacher, temperature):
    """Value, student gradient and temperature derivative for one example."""
    with mpmath.workdps(DIGITS):
        z = [mpmath.mpf(float(x)) for x in student]
        v = [mpmath.mpf(float(x)) for x in teacher]
        t = mpmath.mpf(float(temperature))
        d = [a - b for a, b in zip(z, v, strict=True)]
        if mpmath.isinf(t):
            mean = mpmath.fsum(d) / len(d)
            gradient = [(x - mean) / len(d) for x in d]
            return mpmath.fsum((x - mean) ** 2 for x in d) / (2 * len(d)), gradient, 0
        p, log_p = _softmax(v, t)
        q, log_q = _softmax(z, t)
        kl = _expectation(p, [a - b for a, b in zip(log_p, log_q, strict=True)])
        gradient = [t * (b - a) for a, b in zip(p, q, strict=True)]
        covariance = _expectation(p, [a * b for a, b in zip(v, d, strict=True)])
        covariance -= _expectation(p, v) * _expectation(p, d)
        drift = _expectation(q, z) - _expectation(p, z)
        return t**2 * kl, gradient, 2 * t * kl - drift + covariance / t


def _softmax(x, t):
    weights = [mpmath.exp(a / t) for a in x]
    total = mpmath.fsum(weights)
    return [w / total for w in weights], [a / t - mpmath.log(total) for a in x]


def _expectation(p, x):
    return mpmath.fsum(a * b for a, b in zip(p, x, strict=True))


def _power_transform(v, temperature):
    power = softmax(v, 1.0) ** (1 / temperature)
    return power / power.sum(), power.sum()


def transformed_teacher_matching(student, teacher, temperature=4.0, where=None):
    def row(z, v):
        return kl(_power_transform(v, temperature)[0], softmax(z, 1.0))

    return row_by_row(row, student, teacher, where=where)


def weighted_transformed_teacher_matching(
    student, teacher, temperature=4.0, where=None
):
    def row(z, v):
        p, weight = _power_transform(v, temperature)
        return weight * kl(p, softmax(z, 1.0))

    return row_by_row(row, student, teacher, where=where)

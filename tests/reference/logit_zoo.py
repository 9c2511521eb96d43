"""The zoo's losses of logits, transcribed from their formulas in float64 NumPy."""

import numpy as np
import scipy.special


def _rows(x):
    x = np.asarray(x, np.float64)
    return x.reshape(-1, x.shape[-1])


def _kept(where, shape):
    mask = True if where is None else where
    return np.broadcast_to(mask, shape).reshape(-1, shape[-1])


def _row_by_row(row, student, teacher, labels=None, where=None, **settings):
    """A row's loss from its participating classes alone; zero without any."""
    shape = np.shape(student)
    values = []
    for i, keep in enumerate(_kept(where, shape)):
        z, v = _rows(student)[i][keep], _rows(teacher)[i][keep]
        if not keep.any():
            values.append(0.0)
        elif labels is None:
            values.append(row(z, v, **settings))
        else:
            y = np.cumsum(keep)[np.ravel(labels)[i]] - 1
            values.append(row(z, v, y, **settings))
    return np.reshape(values, shape[:-1])


def _soften(z, temperature):
    return scipy.special.softmax(np.float64(z) / temperature, axis=-1)


def _kl(p, q):
    return scipy.special.rel_entr(p, q).sum()


def reverse_kl(student, teacher, temperature=1.0, where=None):
    def row(z, v):
        p, q = _soften(v, temperature), _soften(z, temperature)
        return temperature**2 * _kl(q, p)

    return _row_by_row(row, student, teacher, where=where)


def jensen_shannon(student, teacher, mixture=0.5, temperature=1.0, where=None):
    def row(z, v):
        p, q = _soften(v, temperature), _soften(z, temperature)
        m = mixture * p + (1 - mixture) * q
        return temperature**2 * (mixture * _kl(p, m) + (1 - mixture) * _kl(q, m))

    return _row_by_row(row, student, teacher, where=where)


def skewed_kl(student, teacher, skew=0.1, temperature=1.0, where=None):
    def row(z, v):
        p, q = _soften(v, temperature), _soften(z, temperature)
        return temperature**2 * _kl(p, skew * p + (1 - skew) * q)

    return _row_by_row(row, student, teacher, where=where)


def _power_transform(v, temperature):
    power = _soften(v, 1.0) ** (1 / temperature)
    return power / power.sum(), power.sum()


def transformed_teacher_matching(student, teacher, temperature=4.0, where=None):
    def row(z, v):
        return _kl(_power_transform(v, temperature)[0], _soften(z, 1.0))

    return _row_by_row(row, student, teacher, where=where)


def weighted_transformed_teacher_matching(
    student, teacher, temperature=4.0, where=None
):
    def row(z, v):
        p, weight = _power_transform(v, temperature)
        return weight * _kl(p, _soften(z, 1.0))

    return _row_by_row(row, student, teacher, where=where)


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
        p, q = _soften(v, temperature), _soften(z, temperature)
        p_y, q_y = p[y], q[y]
        target = p_y * np.log(p_y / q_y)
        p, q = np.delete(p, y), np.delete(q, y)
        target += p.sum() * np.log(p.sum() / q.sum())
        non_target = _kl(p / p.sum(), q / q.sum())
        return temperature**2 * (
            target_weight * target + non_target_weight * non_target
        )

    return _row_by_row(row, student, teacher, labels, where)


def normalized_kl(
    student, teacher, labels, non_target_weight=1.5, temperature=1.0, where=None
):
    def row(z, v, y):
        target = -_soften(v, 1.0)[y] * np.log(_soften(z, 1.0)[y])
        p = _soften(np.delete(v, y), temperature)
        q = _soften(np.delete(z, y), temperature)
        return target - non_target_weight * temperature**2 * (p * np.log(q)).sum()

    return _row_by_row(row, student, teacher, labels, where)


def inter_class_relation(student, teacher, temperature=4.0, where=None):
    def row(z, v):
        q, p = _soften(z, temperature), _soften(v, temperature)
        return 1 - np.corrcoef(q, p)[0, 1]

    return _row_by_row(row, student, teacher, where=where)


def _predictions(logits, temperature, where):
    """Softened predictions; zero where a class takes no part."""
    predictions = np.zeros(np.shape(logits))
    for i, keep in enumerate(_kept(where, np.shape(logits))):
        if keep.any():
            predictions[i][keep] = _soften(logits[i][keep], temperature)
    return predictions


def intra_class_relation(student, teacher, temperature=4.0, where=None):
    q = _predictions(student, temperature, where)
    p = _predictions(teacher, temperature, where)
    kept = _kept(where, np.shape(student))
    values = []
    for c in range(kept.shape[1]):
        column = kept[:, c]
        if not column.any():
            values.append(0.0)
            continue
        correlation = np.corrcoef(q[column, c], p[column, c])[0, 1]
        values.append(1 - correlation)
    return np.array(values)


def multi_level(student, teacher, temperatures=(2, 3, 4, 5, 6), where=None):
    kept = _kept(where, np.shape(student))
    classes = kept.any(axis=0).sum()
    levels = []
    for temperature in temperatures:
        q = _predictions(student, temperature, where)
        p = _predictions(teacher, temperature, where)
        batch = ((p @ p.T - q @ q.T) ** 2).sum(axis=1)
        between = ((p.T @ p - q.T @ q) ** 2).sum() / classes
        kl = temperature**2 * scipy.special.rel_entr(p, q).sum(axis=1)
        levels.append(kl + batch + between)
    return np.where(kept.any(axis=1), np.mean(levels, axis=0), 0.0)

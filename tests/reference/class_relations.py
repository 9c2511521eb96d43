"""Class relations transcribed from their definitions; shares no code with jaxkd."""

import numpy as np
import scipy.special
from reference._logits import row_by_row, rows_of_mask, softmax


def inter_class_relation(student, teacher, temperature=4.0, where=None):
    def row(z, v):
        q, p = softmax(z, temperature), softmax(v, temperature)
        return 1 - np.corrcoef(q, p)[0, 1]

    return row_by_row(row, student, teacher, where=where)


def _predictions(logits, temperature, where):
    """Softened predictions; zero where a class takes no part."""
    predictions = np.zeros(np.shape(logits))
    for i, keep in enumerate(rows_of_mask(where, np.shape(logits))):
        if keep.any():
            predictions[i][keep] = softmax(logits[i][keep], temperature)
    return predictions


def intra_class_relation(student, teacher, temperature=4.0, where=None):
    q = _predictions(student, temperature, where)
    p = _predictions(teacher, temperature, where)
    kept = rows_of_mask(where, np.shape(student))
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
    kept = rows_of_mask(where, np.shape(student))
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

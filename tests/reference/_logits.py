"""Rows of logits with masks, for the transcriptions of logit losses."""

import numpy as np
import scipy.special


def rows(x):
    x = np.asarray(x, np.float64)
    return x.reshape(-1, x.shape[-1])


def rows_of_mask(where, shape):
    mask = True if where is None else where
    return np.broadcast_to(mask, shape).reshape(-1, shape[-1])


def row_by_row(row, student, teacher, labels=None, where=None, **settings):
    """A row's loss from its participating classes alone; zero without any."""
    shape = np.shape(student)
    values = []
    for i, keep in enumerate(rows_of_mask(where, shape)):
        z, v = rows(student)[i][keep], rows(teacher)[i][keep]
        if not keep.any():
            values.append(0.0)
        elif labels is None:
            values.append(row(z, v, **settings))
        else:
            y = np.cumsum(keep)[np.ravel(labels)[i]] - 1
            values.append(row(z, v, y, **settings))
    return np.reshape(values, shape[:-1])


def softmax(z, temperature):
    return scipy.special.softmax(np.float64(z) / temperature, axis=-1)


def kl(p, q):
    return scipy.special.rel_entr(p, q).sum()

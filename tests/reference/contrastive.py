"""Contrastive representation distillation by its definition, in NumPy float64."""

import numpy as np


def info_nce(positive, negatives, temperature, log_weight=0.0):
    numerator = np.exp(np.float64(positive) / temperature)
    others = np.exp(np.float64(negatives) / temperature + log_weight)
    return -np.log(numerator / (numerator + others.sum(axis=-1)))


EPSILON = 1e-7


def noise_contrastive(
    positive, negatives, *, normalizer, noise_probability, temperature
):
    """The published formula, with its epsilon inside the denominators."""
    noise = negatives.shape[-1] * noise_probability
    p = np.exp(positive / temperature) / normalizer
    p_k = np.exp(negatives / temperature) / normalizer
    log_d1 = np.log(p / (p + noise + EPSILON))
    log_d0 = np.log(noise / (p_k + noise + EPSILON))
    return -(log_d1 + log_d0.sum(axis=-1))


def embed(features, head):
    """A linear map, then unit length."""
    y = features @ head["linear"]["kernel"] + head["linear"]["bias"]
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def sides(params, student, teacher, bank, rows, negatives, temperature, constants=None):
    """Both sides' losses, the embeddings, and the normalizers.

    ``negatives`` holds the bank rows of every example, ``[batch, K]``; ``bank`` the
    tables of student and teacher; ``constants`` the normalizers, None on the first
    batch.
    """
    anchors = embed(student, params["student"]), embed(teacher, params["teacher"])
    values, used = [], []
    for side, (anchor, table) in enumerate(zip(anchors, bank[::-1], strict=True)):
        positive = np.einsum("bd,bd->b", anchor, table[rows])
        others = np.einsum("bd,bkd->bk", anchor, table[negatives])
        if constants is None:
            scores = np.concatenate([positive[:, None], others], axis=1)
            z = np.exp(scores / temperature).mean() * len(table)
        else:
            z = constants[side]
        used.append(z)
        values.append(
            noise_contrastive(
                positive,
                others,
                normalizer=z,
                noise_probability=1 / len(table),
                temperature=temperature,
            )
        )
    return values, anchors, used

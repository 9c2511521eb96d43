"""Divergences transcribed from their definitions; shares no code with jaxkd."""

from reference._logits import kl, row_by_row, softmax


def reverse_kl(student, teacher, temperature=1.0, where=None):
    def row(z, v):
        p, q = softmax(v, temperature), softmax(z, temperature)
        return temperature**2 * kl(q, p)

    return row_by_row(row, student, teacher, where=where)


def jensen_shannon(student, teacher, mixture=0.5, temperature=1.0, where=None):
    def row(z, v):
        p, q = softmax(v, temperature), softmax(z, temperature)
        m = mixture * p + (1 - mixture) * q
        return temperature**2 * (mixture * kl(p, m) + (1 - mixture) * kl(q, m))

    return row_by_row(row, student, teacher, where=where)


def skewed_kl(student, teacher, skew=0.1, temperature=1.0, where=None):
    def row(z, v):
        p, q = softmax(v, temperature), softmax(z, temperature)
        return temperature**2 * kl(p, skew * p + (1 - skew) * q)

    return row_by_row(row, student, teacher, where=where)

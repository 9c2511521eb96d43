"""Feature losses transcribed from their definitions; shares no code with jaxkd."""

import numpy as np


def hint(student, teacher):
    return np.array(
        [((s - t) ** 2).mean() for s, t in zip(student, teacher, strict=True)]
    )


def pooled(x, height, width):
    """Average over the bins of adaptive pooling, one bin after the other."""
    _, h, w, _ = x.shape
    out = np.empty((len(x), height, width, x.shape[-1]))
    for i in range(height):
        for j in range(width):
            rows = slice(int(np.floor(i * h / height)), -int(-(i + 1) * h // height))
            columns = slice(int(np.floor(j * w / width)), -int(-(j + 1) * w // width))
            out[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return out


def matched(student, teacher):
    height, width = np.minimum(student.shape[1:3], teacher.shape[1:3])
    return pooled(student, height, width), pooled(teacher, height, width)


def variational_information(prediction, teacher, log_scale):
    variance = np.log1p(np.exp(log_scale)) + 1e-5
    terms = (prediction - teacher) ** 2 / variance + np.log(variance)
    return 0.5 * terms.mean(axis=(1, 2, 3))


def activation_boundary(student, teacher, margin=1.0):
    should_be_off = (student > -margin) & (teacher <= 0)
    should_be_on = (student <= margin) & (teacher > 0)
    terms = (student + margin) ** 2 * should_be_off
    terms += (student - margin) ** 2 * should_be_on
    return terms.sum(axis=(1, 2, 3))

"""Semantic calibration in float64, example by example; shares no code with jaxkd."""

import numpy as np


def similarities(x):
    """Inner products of all pairs of examples."""
    return np.array([[np.sum(a * b) for b in x] for a in x])


def embedding(head, row):
    """A two-layer perceptron of one row of similarities, at unit length."""
    hidden = row @ head["hidden"]["kernel"] + head["hidden"]["bias"]
    y = np.where(hidden > 0, hidden, 0) @ head["out"]["kernel"] + head["out"]["bias"]
    return y / np.sqrt(np.sum(y**2))


def attention(queries, keys, students, teachers):
    """alpha[i, s, t] from the heads' arrays and the stages' features."""
    rows_s = [similarities(x) for x in students]
    rows_t = [similarities(x) for x in teachers]
    alpha = np.zeros((len(students[0]), len(students), len(teachers)))
    for i in range(len(alpha)):
        k = [embedding(h, m[i]) for h, m in zip(keys, rows_t, strict=True)]
        for s, (head, m) in enumerate(zip(queries, rows_s, strict=True)):
            q = embedding(head, m[i])
            energy = np.exp([np.dot(q, key) for key in k])
            alpha[i, s] = energy / energy.sum()
    return alpha


def pooled(x, height, width):
    """Average over the bins of adaptive pooling, one bin after the other."""
    h, w = x.shape[1:3]
    out = np.empty((len(x), height, width, x.shape[-1]))
    for i in range(height):
        for j in range(width):
            rows = slice(i * h // height, -(-(i + 1) * h // height))
            columns = slice(j * w // width, -(-(j + 1) * w // width))
            out[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return out


def normalized(x):
    """Batch normalization in training, with the scale and shift it starts from."""
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-5)


def convolved(x, kernel):
    """A convolution that keeps height and width, offset by offset."""
    size = len(kernel)
    edge = size // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    h, w = x.shape[1:3]
    return sum(
        padded[:, i : i + h, j : j + w] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def projection(head, x):
    """1x1, 3x3 and 1x1; after the first two normalized and rectified."""
    for name in ("conv_in", "conv_mid"):
        x = np.maximum(normalized(convolved(x, head[name]["kernel"])), 0)
    return convolved(x, head["conv_out"]["kernel"])


def semantic_calibration(alpha, projections, students, teachers):
    """One value per example; projections[s][t] are the heads' arrays."""
    losses = np.zeros(len(alpha))
    for s, x in enumerate(students):
        for t, y in enumerate(teachers):
            size = np.minimum(x.shape[1:3], y.shape[1:3])
            gap = projection(projections[s][t], pooled(x, *size)) - pooled(y, *size)
            for i, example in enumerate(gap):
                losses[i] += alpha[i, s, t] * np.mean(example**2)
    return losses / len(students)

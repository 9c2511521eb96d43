"""Embeddings of a batch that the cases share."""

import numpy as np


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.2, 1.0, shape) for shape in shapes)


SAME_WIDTH = draw(0, (6, 5), (6, 5))

WIDTHS = draw(1, (7, 4), (7, 3))

ONE, ONE_MORE = draw(3, (1, 4), (1, 3))

ROW = draw(4, (1, 4))[0]

EMBEDDINGS = {
    "zeros": (np.zeros((5, 4)), WIDTHS[1][:5]),
    "a row of zeros": (np.concatenate([np.zeros((1, 4)), WIDTHS[0]]), np.eye(8)),
    "identical rows": (np.tile(ROW, (5, 1)), np.tile(ROW, (5, 1))),
    "two identical rows": (np.concatenate([WIDTHS[0], WIDTHS[0][:1]]), np.eye(8)),
    "opposite rows": (np.concatenate([ROW, -ROW]), np.ones((2, 3))),
    "rows almost alike": (
        1.0 + 1e-6 * np.arange(20).reshape(5, 4),
        np.arange(5.0)[:, None],
    ),
    "one example": (ONE, ONE_MORE),
}

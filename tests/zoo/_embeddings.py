"""Embeddings of a batch that the cases share."""

import numpy as np


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.2, 1.0, shape) for shape in shapes)


SAME_WIDTH = draw(0, (6, 5), (6, 5))

WIDTHS = draw(1, (7, 4), (7, 3))

ONE, ONE_MORE = draw(3, (1, 4), (1, 3))

ROW = draw(4, (1, 4))[0]

SIGNS = (-1.0) ** np.arange(7)[:, None]

# Most in the shapes of WIDTHS, so that one compiled program serves them all.
EMBEDDINGS = {
    "zeros": (np.zeros((7, 4)), WIDTHS[1]),
    "a row of zeros": (np.concatenate([np.zeros((1, 4)), WIDTHS[0][1:]]), WIDTHS[1]),
    "identical rows": (np.tile(ROW, (7, 1)), np.tile(ROW[:, :3], (7, 1))),
    "two identical rows": (
        np.concatenate([WIDTHS[0][:6], WIDTHS[0][:1]]),
        np.eye(7)[:, :3] + np.arange(7.0)[:, None],
    ),
    "opposite rows": (np.tile(ROW, (7, 1)) * SIGNS, np.ones((7, 3))),
    "rows almost alike": (
        1.0 + 1e-6 * np.arange(28).reshape(7, 4),
        np.tile(np.arange(7.0)[:, None], (1, 3)),
    ),
    "two opposite rows": (np.concatenate([ROW, -ROW]), np.ones((2, 3))),
    "one example": (ONE, ONE_MORE),
}

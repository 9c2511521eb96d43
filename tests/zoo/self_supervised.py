import numpy as np
from reference import self_supervised as reference

from jaxkd import losses
from zoo._case import Case
from zoo._embeddings import ROW, draw

VIEWS = draw(8, (6, 4), (3, 4), (6, 5), (3, 5))

CASES: tuple[Case, ...] = (
    Case(
        losses.self_supervised_similarity,
        reference.self_supervised_similarity,
        VIEWS,
        student=2,
        settings={"temperature": 0.2},
        degenerate={
            "zeros": tuple(np.zeros_like(x) for x in VIEWS),
            "identical rows": tuple(np.ones_like(x) for x in VIEWS),
            "one original": (np.ones((4, 2)), ROW[:, :2], np.eye(4), ROW),
        },
    ),
)

import numpy as np
from reference import self_supervised as reference

from jaxkd import losses
from zoo._case import Case
from zoo._embeddings import ROW, draw

CASES: tuple[Case, ...] = (
    Case(
        losses.self_supervised_similarity,
        reference.self_supervised_similarity,
        draw(8, (6, 4), (3, 4), (6, 5), (3, 5)),
        student=2,
        settings={"temperature": 0.2},
        degenerate={
            "zeros": tuple(np.zeros((n, 2)) for n in (4, 3, 4, 3)),
            "identical rows": tuple(np.ones((n, 2)) for n in (4, 3, 4, 3)),
            "one original": (np.ones((4, 2)), ROW[:, :2], np.eye(4), ROW),
        },
    ),
)

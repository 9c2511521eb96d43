import numpy as np
from reference import example_relations as reference

from jaxkd import losses
from zoo._case import Case
from zoo._embeddings import EMBEDDINGS, ONE, ONE_MORE, SAME_WIDTH, WIDTHS, draw

MAPS = draw(2, (5, 4, 4, 3), (5, 2, 2, 6))

CASES: tuple[Case, ...] = (
    Case(
        losses.similarity_preserving,
        reference.similarity_preserving,
        MAPS,
        degenerate={
            "one example": (ONE, ONE_MORE),
            "a row of zeros": EMBEDDINGS["a row of zeros"],
            "constant maps": tuple(np.ones_like(x) for x in MAPS),
            "maps of zeros": tuple(np.zeros_like(x) for x in MAPS),
        },
        label="maps",
    ),
    Case(
        losses.similarity_preserving,
        reference.similarity_preserving,
        WIDTHS,
        label="embeddings",
    ),
    Case(
        losses.probabilistic_transfer,
        reference.probabilistic_transfer,
        WIDTHS,
        degenerate=EMBEDDINGS,
    ),
    Case(
        losses.probabilistic_transfer,
        reference.probabilistic_transfer,
        SAME_WIDTH,
        label="equal-widths",
    ),
    Case(
        losses.correlation_congruence,
        reference.correlation_congruence,
        SAME_WIDTH,
        degenerate={
            "equal embeddings": (SAME_WIDTH[0], SAME_WIDTH[0]),
            "zeros": tuple(np.zeros_like(x) for x in SAME_WIDTH),
        },
    ),
    Case(
        losses.correlation_congruence,
        reference.correlation_congruence,
        draw(7, (2, 3), (2, 3)),
        label="two-examples",
    ),
    Case(
        losses.correlation_congruence_kernel,
        reference.correlation_congruence_kernel,
        WIDTHS,
        degenerate=EMBEDDINGS,
    ),
    Case(
        losses.correlation_congruence_kernel,
        reference.correlation_congruence_kernel,
        WIDTHS,
        settings={"gamma": 1.3, "order": 5},
        label="order-5",
    ),
)

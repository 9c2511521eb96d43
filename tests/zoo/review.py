from reference import review as reference

from jaxkd import losses
from zoo._case import Case
from zoo._stages import MAPS, draw, first_example, zeros

LEVELS = draw((2, 6, 5, 3), (2, 6, 5, 3), seed=4)

CASES: tuple[Case, ...] = (
    Case(
        losses.review,
        reference.review,
        LEVELS,
        label="all levels",
        degenerate={
            "zero features": zeros(LEVELS),
            "one example": first_example(MAPS),
        },
    ),
    Case(losses.review, reference.review, MAPS, label="small maps"),
    Case(
        losses.review,
        reference.review,
        draw((3, 1, 1, 4), (3, 1, 1, 4), seed=5),
        label="one position",
    ),
)

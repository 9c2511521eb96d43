from reference import relational as reference

from jaxkd import losses
from zoo._case import Case
from zoo._embeddings import EMBEDDINGS, WIDTHS, draw

CASES: tuple[Case, ...] = (
    Case(
        losses.relational_distance,
        reference.relational_distance,
        WIDTHS,
        degenerate=EMBEDDINGS,
    ),
    Case(
        losses.relational_distance,
        reference.relational_distance,
        draw(5, (19, 2), (19, 3)),
        label="more-than-a-chunk",
    ),
    Case(
        losses.relational_angle,
        reference.relational_angle,
        WIDTHS,
        degenerate=EMBEDDINGS,
    ),
    Case(
        losses.relational_angle,
        reference.relational_angle,
        draw(6, (18, 2), (18, 3)),
        label="more-than-a-chunk",
    ),
)

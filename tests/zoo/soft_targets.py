from reference import soft_targets as reference

from jaxkd import losses
from zoo._case import Case
from zoo._logits import cases

CASES: tuple[Case, ...] = (
    *cases(
        losses.transformed_teacher_matching,
        reference.transformed_teacher_matching,
        settings={"temperature": 2.0},
    ),
    *cases(
        losses.weighted_transformed_teacher_matching,
        reference.weighted_transformed_teacher_matching,
        settings={"temperature": 2.0},
    ),
)

from reference import labeled as reference

from jaxkd import losses
from zoo._case import Case
from zoo._logits import LABELED_DEGENERATE, cases

CASES: tuple[Case, ...] = (
    *cases(
        losses.decoupled_kl,
        reference.decoupled_kl,
        settings={"target_weight": 2.0, "non_target_weight": 0.5, "temperature": 1.0},
        degenerate=LABELED_DEGENERATE,
    ),
    *cases(
        losses.normalized_kl,
        reference.normalized_kl,
        settings={"non_target_weight": 0.5, "temperature": 3.0},
        degenerate=LABELED_DEGENERATE,
    ),
)

from reference import divergences as reference

from jaxkd import losses
from zoo._case import Case
from zoo._logits import cases

CASES: tuple[Case, ...] = (
    *cases(losses.reverse_kl, reference.reverse_kl, settings={"temperature": 3.0}),
    *cases(
        losses.jensen_shannon,
        reference.jensen_shannon,
        settings={"mixture": 0.2, "temperature": 30.0},
    ),
    *cases(
        losses.skewed_kl,
        reference.skewed_kl,
        settings={"skew": 0.6, "temperature": 30.0},
    ),
)

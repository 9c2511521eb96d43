"""Every loss of the zoo with its definition, arguments and degenerate inputs."""

from zoo import features, flow, logits, relations
from zoo._case import Case as Case

CASES: tuple[Case, ...] = (
    *logits.CASES,
    *features.CASES,
    *flow.CASES,
    *relations.CASES,
)

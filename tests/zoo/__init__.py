"""Every loss of the zoo with its definition, arguments and degenerate inputs."""

from zoo import (
    attention,
    channel_relations,
    class_relations,
    divergences,
    example_relations,
    feature_maps,
    labeled,
    overhaul,
    relational,
    review,
    self_supervised,
    soft_targets,
    stage_flow,
)
from zoo._case import Case as Case

CASES: tuple[Case, ...] = (
    *soft_targets.CASES,
    *divergences.CASES,
    *labeled.CASES,
    *class_relations.CASES,
    *feature_maps.CASES,
    *overhaul.CASES,
    *review.CASES,
    *attention.CASES,
    *stage_flow.CASES,
    *example_relations.CASES,
    *relational.CASES,
    *self_supervised.CASES,
    *channel_relations.CASES,
)

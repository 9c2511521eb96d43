"""What a loss does not see: declared beside every loss, verified by machine."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Transformation(enum.Enum):
    """Something done to a loss's arguments. ``a`` is positive, ``c`` is any number."""

    STUDENT_SHIFT = "c added to each row of the student's logits"
    COMMON_SHIFT = "the same c added to each row of both logits"
    STUDENT_AFFINE = "the student's logits z replaced by a z + c"
    COMMON_SCALE = "both logits multiplied by a"
    CLASS_PERMUTATION = "the classes of both reordered alike"
    SCORE_SHIFT = "c added to each anchor's positive and negatives"
    SCORE_SCALE = "all scores multiplied by a"
    NEGATIVE_PERMUTATION = "each anchor's negatives reordered"
    BATCH_PERMUTATION = "the examples of both arguments reordered alike"


LOGIT_TRANSFORMATIONS = (
    Transformation.STUDENT_SHIFT,
    Transformation.COMMON_SHIFT,
    Transformation.STUDENT_AFFINE,
    Transformation.COMMON_SCALE,
    Transformation.CLASS_PERMUTATION,
    Transformation.BATCH_PERMUTATION,
)
"""What can be done to losses of student and teacher logits."""

SCORE_TRANSFORMATIONS = (
    Transformation.SCORE_SHIFT,
    Transformation.SCORE_SCALE,
    Transformation.NEGATIVE_PERMUTATION,
    Transformation.BATCH_PERMUTATION,
)
"""What can be done to losses of a positive's and of negatives' scores."""


@dataclass(frozen=True)
class Declaration:
    """The symmetries of a loss; what is not named changes its values.

    Attributes:
        loss: The loss.
        transformations: Those that apply to its arguments.
        invariant: Those that change no value.
        equivariant: Those that reorder the values as they reorder the examples.
        settings: Keyword arguments of the loss for which it is declared.
    """

    loss: Callable[..., Any]
    transformations: tuple[Transformation, ...]
    invariant: frozenset[Transformation]
    equivariant: frozenset[Transformation] = frozenset(
        {Transformation.BATCH_PERMUTATION}
    )
    settings: Mapping[str, Any] = field(default_factory=dict)

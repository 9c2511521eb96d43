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
    STUDENT_FEATURE_SCALE = "the student's features multiplied by one a"
    FEATURE_SCALE = "all features multiplied by one a"
    EXAMPLE_SCALE = "each example of the student's features multiplied by its own a"
    STUDENT_TRANSLATION = "one vector added to all of the student's features"
    TRANSLATION = "one vector added to all features"
    STUDENT_CHANNEL_PERMUTATION = "the student's channels reordered"
    CHANNEL_PERMUTATION = "the channels of both reordered alike"
    STUDENT_ROTATION = "an orthogonal map of the student's channels"
    ROTATION = "the same orthogonal map of the channels of both"
    POSITION_PERMUTATION = "the positions of all feature maps reordered alike"
    BATCH_PERMUTATION = "the examples of all arguments reordered alike"


class Arguments(enum.Enum):
    """What a loss takes: the student's arguments, then the teacher's, then labels."""

    LOGITS = "logits of student and teacher"
    LABELED_LOGITS = "logits of student and teacher, labels"
    SCORES = "scores of a positive and of negatives"
    EMBEDDINGS = "embeddings of student and teacher"
    EMBEDDING_PAIRS = "two embeddings of the student and two of the teacher"
    FEATURE_MAPS = "feature maps of student and teacher"
    FEATURE_MAP_PAIRS = "two feature maps of the student and two of the teacher"


_LOGITS = (
    Transformation.STUDENT_SHIFT,
    Transformation.COMMON_SHIFT,
    Transformation.STUDENT_AFFINE,
    Transformation.COMMON_SCALE,
    Transformation.CLASS_PERMUTATION,
    Transformation.BATCH_PERMUTATION,
)
_EMBEDDINGS = (
    Transformation.STUDENT_FEATURE_SCALE,
    Transformation.FEATURE_SCALE,
    Transformation.EXAMPLE_SCALE,
    Transformation.STUDENT_TRANSLATION,
    Transformation.TRANSLATION,
    Transformation.STUDENT_CHANNEL_PERMUTATION,
    Transformation.CHANNEL_PERMUTATION,
    Transformation.STUDENT_ROTATION,
    Transformation.ROTATION,
    Transformation.BATCH_PERMUTATION,
)

TRANSFORMATIONS: Mapping[Arguments, tuple[Transformation, ...]] = {
    Arguments.LOGITS: _LOGITS,
    Arguments.LABELED_LOGITS: _LOGITS,
    Arguments.SCORES: (
        Transformation.SCORE_SHIFT,
        Transformation.SCORE_SCALE,
        Transformation.NEGATIVE_PERMUTATION,
        Transformation.BATCH_PERMUTATION,
    ),
    Arguments.EMBEDDINGS: _EMBEDDINGS,
    Arguments.EMBEDDING_PAIRS: _EMBEDDINGS,
    Arguments.FEATURE_MAPS: (*_EMBEDDINGS, Transformation.POSITION_PERMUTATION),
    Arguments.FEATURE_MAP_PAIRS: (*_EMBEDDINGS, Transformation.POSITION_PERMUTATION),
}
"""What can be done to which arguments."""


@dataclass(frozen=True)
class Declaration:
    """The symmetries of a loss; what is not named changes its values.

    Attributes:
        loss: The loss.
        arguments: What it takes, which says what can be done to it.
        invariant: The transformations that change no value.
        equivariant: Those that reorder the values as they reorder the examples (or
            the classes, where there is one value for each).
        settings: Keyword arguments of the loss for which it is declared.
    """

    loss: Callable[..., Any]
    arguments: Arguments
    invariant: frozenset[Transformation] = frozenset()
    equivariant: frozenset[Transformation] = frozenset(
        {Transformation.BATCH_PERMUTATION}
    )
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transformations(self) -> tuple[Transformation, ...]:
        """All that can be done to the loss's arguments."""
        return TRANSFORMATIONS[self.arguments]

"""Symmetries of the losses: declared beside each loss, verified by machine."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar


class Transformation(enum.Enum):
    """A change of a loss's arguments. ``a`` is positive, ``c`` is any number."""

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
    """Arguments of a loss: the student's, then the teacher's, then labels."""

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
"""The transformations that apply to each kind of arguments."""

SHIFT_INVARIANT = frozenset(
    {
        Transformation.STUDENT_SHIFT,
        Transformation.COMMON_SHIFT,
        Transformation.CLASS_PERMUTATION,
    }
)
"""Losses of softened predictions: a softmax is invariant to shifts of its logits."""

BASIS_INVARIANT = frozenset(
    {
        Transformation.STUDENT_FEATURE_SCALE,
        Transformation.FEATURE_SCALE,
        Transformation.STUDENT_CHANNEL_PERMUTATION,
        Transformation.CHANNEL_PERMUTATION,
        Transformation.STUDENT_ROTATION,
        Transformation.ROTATION,
    }
)
"""Losses of normalized inner products: these do not depend on the basis or unit."""

COSINE_INVARIANT = BASIS_INVARIANT | {Transformation.EXAMPLE_SCALE}
"""Losses of cosines: these do not depend on the length of any vector either."""


@dataclass(frozen=True)
class Declaration:
    """The symmetries of a loss. Every transformation not named changes its values.

    Attributes:
        loss: The loss.
        arguments: The kind of its arguments, which determines the transformations that
            apply.
        invariant: The transformations that change no value.
        equivariant: The transformations that reorder the values as they reorder the
            examples (or the classes, if there is one value for each).
        settings: Keyword arguments of the loss for which the declaration holds.
        zero_at_equal: Whether student and teacher that are equal have loss zero.
    """

    loss: Callable[..., Any]
    arguments: Arguments
    invariant: frozenset[Transformation] = frozenset()
    equivariant: frozenset[Transformation] = frozenset(
        {Transformation.BATCH_PERMUTATION}
    )
    settings: Mapping[str, Any] = field(default_factory=dict)
    zero_at_equal: bool = True

    @property
    def transformations(self) -> tuple[Transformation, ...]:
        """All transformations that apply to the loss's arguments."""
        return TRANSFORMATIONS[self.arguments]


_Loss = TypeVar("_Loss", bound=Callable[..., Any])
_ATTRIBUTE = "declaration"


def declare(arguments: Arguments, **symmetries: Any) -> Callable[[_Loss], _Loss]:
    """Attach a :class:`Declaration` to a loss, which is returned as it is.

    Args:
        arguments: The kind of the loss's arguments.
        **symmetries: The other fields of the declaration.
    """

    def attach(loss: _Loss) -> _Loss:
        setattr(loss, _ATTRIBUTE, Declaration(loss, arguments, **symmetries))
        return loss

    return attach


def declarations(*families: ModuleType) -> tuple[Declaration, ...]:
    """Collect the declarations of the losses that the modules define, in order."""
    return tuple(
        getattr(value, _ATTRIBUTE)
        for family in families
        for value in vars(family).values()
        if hasattr(value, _ATTRIBUTE) and value.__module__ == family.__name__
    )

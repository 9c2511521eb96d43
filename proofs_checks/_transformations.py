"""Random arguments of the losses, and the transformations that T14 applies to them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxkd.losses import Arguments, Transformation

CLASSES = 7

Draw = np.random.Generator


class Inputs(NamedTuple):
    """Arguments of a loss. For scores, ``student`` holds those of the positives."""

    student: tuple[np.ndarray, ...]
    teacher: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...] = ()

    def map(
        self, function: Callable[..., np.ndarray], *drawn: tuple[np.ndarray, ...]
    ) -> "Inputs":
        """Apply a function to student and teacher, with the draw for each array."""
        teacher = tuple(map(function, self.teacher, *drawn))
        return self.map_student(function, *drawn)._replace(teacher=teacher)

    def map_student(
        self, function: Callable[..., np.ndarray], *drawn: tuple[np.ndarray, ...]
    ) -> "Inputs":
        """Apply a function to the student alone, with the draw for each array."""
        return self._replace(student=tuple(map(function, self.student, *drawn)))

    def drawn_for_student(
        self, draw: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """Draw once for each of the student's arrays, the same for equal widths.

        Arrays of equal width are in the same space, so they share a transformation.
        """
        by_width: dict[int, np.ndarray] = {}
        for f in self.student:
            if f.shape[-1] not in by_width:
                by_width[f.shape[-1]] = draw(f)
        return tuple(by_width[f.shape[-1]] for f in self.student)


Order = np.ndarray | None
Transformed = tuple[Inputs, Order]


def _rows(x: Inputs, rng: Draw, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, (x.student[0].shape[0], 1))


def _student_shift(x: Inputs, rng: Draw) -> Transformed:
    c = _rows(x, rng, 1.0, 3.0)
    return x.map_student(lambda z: z + c), None


def _common_shift(x: Inputs, rng: Draw) -> Transformed:
    c = _rows(x, rng, 1.0, 3.0)
    return x.map(lambda z: z + c), None


def _student_affine(x: Inputs, rng: Draw) -> Transformed:
    a, c = _rows(x, rng, 1.5, 3.0), _rows(x, rng, 1.0, 3.0)
    return x.map_student(lambda z: a * z + c), None


def _common_scale(x: Inputs, rng: Draw) -> Transformed:
    a = _rows(x, rng, 1.5, 3.0)
    return x.map(lambda z: a * z), None


def _reorder_classes(x: Inputs, rng: Draw) -> Transformed:
    order = rng.permutation(x.student[0].shape[-1])
    labels = tuple(np.argsort(order)[y].astype(y.dtype) for y in x.labels)
    return x.map(lambda z: z[:, order])._replace(labels=labels), order


def _score_shift(x: Inputs, rng: Draw) -> Transformed:
    c = _rows(x, rng, 1.0, 3.0)
    return Inputs((x.student[0] + c[:, 0],), (x.teacher[0] + c,)), None


def _score_scale(x: Inputs, rng: Draw) -> Transformed:
    a = _rows(x, rng, 1.5, 3.0)
    return Inputs((a[:, 0] * x.student[0],), (a * x.teacher[0],)), None


def _reorder_negatives(x: Inputs, rng: Draw) -> Transformed:
    return Inputs(x.student, (rng.permuted(x.teacher[0], axis=1),)), None


def _student_feature_scale(x: Inputs, rng: Draw) -> Transformed:
    a = rng.uniform(1.5, 3.0)
    return x.map_student(lambda f: a * f), None


def _feature_scale(x: Inputs, rng: Draw) -> Transformed:
    a = rng.uniform(1.5, 3.0)
    return x.map(lambda f: a * f), None


def _example_scale(x: Inputs, rng: Draw) -> Transformed:
    a = rng.uniform(0.4, 3.0, len(x.student[0]))
    return x.map_student(lambda f: np.moveaxis(np.moveaxis(f, 0, -1) * a, -1, 0)), None


def _add(f: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return f + vector


def _vectors(x: Inputs, rng: Draw) -> tuple[np.ndarray, ...]:
    return x.drawn_for_student(lambda f: rng.uniform(1.0, 2.0, f.shape[-1]))


def _student_translation(x: Inputs, rng: Draw) -> Transformed:
    return x.map_student(_add, _vectors(x, rng)), None


def _translation(x: Inputs, rng: Draw) -> Transformed:
    return x.map(_add, _vectors(x, rng)), None


def _reorder(f: np.ndarray, order: np.ndarray) -> np.ndarray:
    return f[..., order]


def _orders(x: Inputs, rng: Draw) -> tuple[np.ndarray, ...]:
    return x.drawn_for_student(lambda f: rng.permutation(f.shape[-1]))


def _student_channels(x: Inputs, rng: Draw) -> Transformed:
    # A random order of a few channels may be the identity; a rolled one differs.
    orders = tuple(np.roll(order, 1) for order in _orders(x, rng))
    return x.map_student(_reorder, orders), None


def _channels(x: Inputs, rng: Draw) -> Transformed:
    return x.map(_reorder, _orders(x, rng)), None


def _orthogonal(x: Inputs, rng: Draw) -> tuple[np.ndarray, ...]:
    return x.drawn_for_student(
        lambda f: np.linalg.qr(rng.normal(size=(f.shape[-1],) * 2))[0]
    )


def _student_rotation(x: Inputs, rng: Draw) -> Transformed:
    return x.map_student(np.matmul, _orthogonal(x, rng)), None


def _rotation(x: Inputs, rng: Draw) -> Transformed:
    return x.map(np.matmul, _orthogonal(x, rng)), None


def _positions(x: Inputs, rng: Draw) -> Transformed:
    b, h, w, _ = x.student[0].shape
    order = rng.permutation(h * w)
    return x.map(lambda f: f.reshape(b, h * w, -1)[:, order].reshape(f.shape)), None


def _reorder_examples(x: Inputs, rng: Draw) -> Transformed:
    order = rng.permutation(x.student[0].shape[0])
    labels = tuple(y[order] for y in x.labels)
    return x.map(lambda f: f[order])._replace(labels=labels), order


TRANSFORMATIONS: dict[Transformation, Callable[[Inputs, Draw], Transformed]] = {
    Transformation.STUDENT_SHIFT: _student_shift,
    Transformation.COMMON_SHIFT: _common_shift,
    Transformation.STUDENT_AFFINE: _student_affine,
    Transformation.COMMON_SCALE: _common_scale,
    Transformation.CLASS_PERMUTATION: _reorder_classes,
    Transformation.SCORE_SHIFT: _score_shift,
    Transformation.SCORE_SCALE: _score_scale,
    Transformation.NEGATIVE_PERMUTATION: _reorder_negatives,
    Transformation.STUDENT_FEATURE_SCALE: _student_feature_scale,
    Transformation.FEATURE_SCALE: _feature_scale,
    Transformation.EXAMPLE_SCALE: _example_scale,
    Transformation.STUDENT_TRANSLATION: _student_translation,
    Transformation.TRANSLATION: _translation,
    Transformation.STUDENT_CHANNEL_PERMUTATION: _student_channels,
    Transformation.CHANNEL_PERMUTATION: _channels,
    Transformation.STUDENT_ROTATION: _student_rotation,
    Transformation.ROTATION: _rotation,
    Transformation.POSITION_PERMUTATION: _positions,
    Transformation.BATCH_PERMUTATION: _reorder_examples,
}
"""Functions that return the new arguments and the order of the values, if any."""


def draw_arguments(kind: Arguments, rng: Draw) -> Inputs:
    """Draw random arguments of a kind."""

    def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(0.2, 1.0, shape), rng.normal(0.2, 1.0, shape)

    match kind:
        case Arguments.LOGITS | Arguments.LABELED_LOGITS:
            student, teacher = pair(32, CLASSES)
            labels = rng.integers(0, CLASSES, 32, dtype=np.int32)
            labeled = kind is Arguments.LABELED_LOGITS
            inputs = (2 * student,), (2 * teacher,), (labels,) if labeled else ()
        case Arguments.SCORES:
            inputs = (rng.normal(size=32),), (rng.normal(size=(32, CLASSES)),)
        case Arguments.EMBEDDINGS:
            student, teacher = pair(10, 6)
            inputs = (student,), (teacher,)
        case Arguments.EMBEDDING_PAIRS:
            (first_s, first_t), (second_s, second_t) = pair(10, 6), pair(10, 6)
            inputs = (first_s, second_s), (first_t, second_t)
        case Arguments.FEATURE_MAPS:
            student, teacher = pair(8, 3, 3, 5)
            inputs = (student,), (teacher,)
        case Arguments.FEATURE_MAP_PAIRS:
            (low_s, low_t), (high_s, high_t) = pair(6, 3, 3, 5), pair(6, 3, 3, 4)
            inputs = (low_s, high_s), (low_t, high_t)
    return Inputs(*inputs)

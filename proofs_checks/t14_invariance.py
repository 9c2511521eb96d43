r"""T14. What each loss does not see.

**Statement.** Beside every loss stands a declaration: which transformations of its
arguments leave its values as they are (*invariant*), which reorder them along
(*equivariant*), and, by silence, which change them.

**How it is checked.** In both directions. A declared symmetry must hold in every case;
one that is not declared must be seen to fail, otherwise the declaration is incomplete.

**Why it matters.** The shift invariance of distillation is T1, T9 and T10: its gradient
sums to zero, so no optimizer that respects class sums ever moves the mean logit; logits
matching sees the mean and moves it. And a method whose loss does not see rotations of
the student's embedding needs no trained projection, one that does needs one.

Source: ours.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import losses
from jaxkd.losses import Arguments, Declaration, Transformation
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
)
from proofs_checks._programs import compiler_options

_CLASSES, _TRIALS = 7, 20
_TOLERANCE = Tolerance(float64=1e-11, float32=1e-4, bfloat16=2e-1)
# Jumps where the best match of two singular vectors changes, which rounding the
# arguments to three digits does.
_MATCHING_TOLERANCE = _TOLERANCE._replace(bfloat16=None)
# What must fail has to fail by more than rounding explains.
_VISIBLE = 1e-2

Draw = np.random.Generator


class Inputs(NamedTuple):
    """A loss's arguments; of scores, the positive's are the student's."""

    student: tuple[np.ndarray, ...]
    teacher: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...] = ()

    def map(
        self, function: Callable[..., np.ndarray], *drawn: tuple[np.ndarray, ...]
    ) -> "Inputs":
        """Does the same to student and teacher, with what was drawn for each array."""
        teacher = tuple(map(function, self.teacher, *drawn))
        return self.map_student(function, *drawn)._replace(teacher=teacher)

    def map_student(
        self, function: Callable[..., np.ndarray], *drawn: tuple[np.ndarray, ...]
    ) -> "Inputs":
        """Leaves the teacher alone."""
        return self._replace(student=tuple(map(function, self.student, *drawn)))

    def drawn_for_student(
        self, draw: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """One draw for each of the student's arrays, the same for equal widths.

        Arrays of one width live in one space, so that they are transformed alike.
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
    # Not the identity, nor any order that a small case might have by chance.
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
"""Each returns the new arguments and, if it reorders something, the order."""


def _arguments(kind: Arguments, rng: Draw) -> Inputs:
    def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(0.2, 1.0, shape), rng.normal(0.2, 1.0, shape)

    match kind:
        case Arguments.LOGITS | Arguments.LABELED_LOGITS:
            student, teacher = pair(32, _CLASSES)
            labels = rng.integers(0, _CLASSES, 32, dtype=np.int32)
            labeled = kind is Arguments.LABELED_LOGITS
            inputs = (2 * student,), (2 * teacher,), (labels,) if labeled else ()
        case Arguments.SCORES:
            inputs = (rng.normal(size=32),), (rng.normal(size=(32, _CLASSES)),)
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


def deviation(
    declaration: Declaration, transformation: Transformation, settings: Settings
) -> Worst:
    """How far a transformation moves a loss from what the declaration says.

    Returns:
        The largest change of a value over the trials, relative to the largest value.
        Values are reordered along where that is declared; where nothing is declared,
        whichever way changes less counts, so that no symmetry goes unnoticed.
    """
    name = declaration.loss.__name__
    number = list(Transformation).index(transformation)
    seed = sum(map(ord, name))
    loss = _compiled(declaration.loss, tuple(declaration.settings.items()))
    worst = Worst()
    for trial in range(_TRIALS):
        rng = np.random.default_rng((settings.seed, 14, seed, number, trial))
        arguments = _arguments(declaration.arguments, rng)
        before = _values(loss, arguments, settings)
        arguments, order = TRANSFORMATIONS[transformation](arguments, rng)
        after = _values(loss, arguments, settings)
        reordered = (
            before[order] if order is not None and len(order) == len(before) else before
        )
        if transformation in declaration.equivariant:
            candidates = [reordered]
        elif transformation in declaration.invariant:
            candidates = [before]
        else:
            candidates = [before, reordered]
        size = np.abs(before).max()
        worst.add(
            min(np.abs(after - values).max() for values in candidates) / size,
            lambda _, trial=trial: {
                "loss": name,
                "transformation": transformation.name,
                "trial": trial,
            },
        )
    return worst


@functools.cache
def _compiled(
    loss: Callable[..., jax.Array], settings: tuple[tuple[str, Any], ...]
) -> Any:
    # Small arrays, many programs: compiling is what takes time.
    function = functools.partial(loss, **dict(settings))
    return jax.jit(function, compiler_options=compiler_options())


def _values(loss: Any, x: Inputs, settings: Settings) -> np.ndarray:
    arrays = map(settings.cast, (*x.student, *x.teacher))
    return np.asarray(loss(*arrays, *map(jnp.asarray, x.labels)), np.float64)


def _declared(declaration: Declaration) -> frozenset[Transformation]:
    return declaration.invariant | declaration.equivariant


def claims(settings: Settings) -> Iterator[Evidence]:
    """Every declared symmetry holds; of each loss, the one that holds least well."""
    table = invariance_table()
    for declaration in losses.INVARIANCES:
        tried = [
            deviation(declaration, transformation, settings)
            for transformation in declaration.transformations
            if transformation in _declared(declaration)
        ]
        if tried:
            worst = max(tried, key=lambda worst: worst.measured)
            worst.cases = sum(each.cases for each in tried)
            yield claim(
                f"{declaration.loss.__name__}: {len(tried)} declared symmetries hold",
                worst,
                _MATCHING_TOLERANCE
                if declaration.loss is losses.singular_value
                else _TOLERANCE,
                settings,
                unit="change / largest value",
                table=table,
            )
            table = ()  # once is enough


def controls(settings: Settings) -> Iterator[Evidence]:
    """Symmetries that are not declared fail; of each loss, the one that fails least."""
    for declaration in losses.INVARIANCES:
        tried = [
            deviation(declaration, transformation, settings)
            for transformation in declaration.transformations
            if transformation not in _declared(declaration)
        ]
        if tried:
            least = min(tried, key=lambda worst: worst.measured)
            least.cases = sum(each.cases for each in tried)
            yield control(
                f"{declaration.loss.__name__}: {len(tried)} others change it",
                least,
                _VISIBLE,
                unit="change / largest value",
            )


def invariance_table() -> tuple[dict[str, str], ...]:
    """The declarations as rows: a loss, and what it does and does not see."""

    def text(transformations: Any) -> str:
        names = (t.name.lower().replace("_", " ") for t in transformations)
        return ", ".join(names) or "-"

    def row(declaration: Declaration) -> dict[str, str]:
        declared = _declared(declaration)
        every = declaration.transformations
        return {
            "loss": declaration.loss.__name__,
            "of": declaration.arguments.value,
            "invariant": text(t for t in every if t in declaration.invariant),
            "equivariant": text(t for t in every if t in declaration.equivariant),
            "changes": text(t for t in every if t not in declared),
        }

    return tuple(map(row, losses.INVARIANCES))


CHECK = Check(
    name="T14",
    title="Invariance table",
    statement="declared symmetries hold, all others are seen to fail",
    assumptions=("generic arguments: for special ones more may hold",),
    claims=claims,
    controls=controls,
)

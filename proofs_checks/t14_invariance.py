r"""T14. What each loss does not see.

**Statement.** Beside every loss stands a declaration: which transformations of its
arguments leave its values as they are (*invariant*), which reorder them along
(*equivariant*), and, by silence, which change them.

**How it is checked.** In both directions. A declared symmetry must hold in every case;
one that is not declared must be seen to fail, otherwise the declaration is incomplete.

**Why it matters.** The shift invariance of distillation is T1, T9 and T10: its gradient
sums to zero, so no optimizer that respects class sums ever moves the mean logit; logits
matching sees the mean and moves it.

Source: ours.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxkd import losses
from jaxkd.losses import Declaration, Transformation
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
)

_BATCH, _CLASSES, _TRIALS = 64, 7, 40
_TOLERANCE = Tolerance(float64=1e-13, float32=1e-5, bfloat16=5e-2)
# What must fail has to fail by more than rounding explains.
_VISIBLE = 1e-1

Pair = tuple[np.ndarray, np.ndarray]
Draw = np.random.Generator


def _shift(rng: Draw) -> np.ndarray:
    return rng.uniform(1.0, 3.0, (_BATCH, 1))


def _scale(rng: Draw) -> np.ndarray:
    return rng.uniform(1.5, 3.0, (_BATCH, 1))


def _score_shift(x: Pair, rng: Draw) -> Pair:
    c = _shift(rng)
    return x[0] + c[:, 0], x[1] + c


def _score_scale(x: Pair, rng: Draw) -> Pair:
    a = _scale(rng)
    return a[:, 0] * x[0], a * x[1]


def _common(function: Callable[[np.ndarray], np.ndarray], x: Pair) -> Pair:
    return function(x[0]), function(x[1])


def _reorder_classes(x: Pair, rng: Draw) -> Pair:
    order = rng.permutation(_CLASSES)
    return _common(lambda a: a[:, order], x)


def _common_shift(x: Pair, rng: Draw) -> Pair:
    c = _shift(rng)
    return _common(lambda a: a + c, x)


def _common_scale(x: Pair, rng: Draw) -> Pair:
    a = _scale(rng)
    return _common(lambda y: a * y, x)


TRANSFORMATIONS: dict[Transformation, Callable[[Pair, Draw], Pair]] = {
    Transformation.STUDENT_SHIFT: lambda x, rng: (x[0] + _shift(rng), x[1]),
    Transformation.COMMON_SHIFT: _common_shift,
    Transformation.STUDENT_AFFINE: lambda x, rng: (
        _scale(rng) * x[0] + _shift(rng),
        x[1],
    ),
    Transformation.COMMON_SCALE: _common_scale,
    Transformation.CLASS_PERMUTATION: _reorder_classes,
    Transformation.SCORE_SHIFT: _score_shift,
    Transformation.SCORE_SCALE: _score_scale,
    Transformation.NEGATIVE_PERMUTATION: lambda x, rng: (
        x[0],
        rng.permuted(x[1], axis=1),
    ),
}
"""Transformations of one example's arguments; reordering examples needs the order."""


def deviation(
    declaration: Declaration, transformation: Transformation, settings: Settings
) -> tuple[Worst, bool]:
    """How far the values are from those before, and whether order was taken along.

    Returns:
        The largest change of a value, relative to the largest value; for reordered
        examples, of the values reordered alike.
    """
    name = declaration.loss.__name__
    number = list(Transformation).index(transformation)
    seed = sum(map(ord, name))
    loss = _compiled(declaration.loss, **declaration.settings)
    worst = Worst()
    for trial in range(_TRIALS):
        rng = np.random.default_rng((settings.seed, 14, seed, number, trial))
        arguments = _arguments(declaration, rng)
        before = _values(loss, arguments, settings)
        if transformation is Transformation.BATCH_PERMUTATION:
            order = rng.permutation(_BATCH)
            arguments = arguments[0][order], arguments[1][order]
            before = before[order]
        else:
            arguments = TRANSFORMATIONS[transformation](arguments, rng)
        after = _values(loss, arguments, settings)
        size = np.abs(before).max()
        worst.add(
            np.abs(after - before).max() / size,
            lambda _, trial=trial: {"loss": name, "trial": trial},
        )
    return worst, transformation in declaration.equivariant


@functools.cache
def _compiled(loss: Callable[..., jax.Array], **settings: Any) -> Any:
    return jax.jit(functools.partial(loss, **settings))


def _arguments(declaration: Declaration, rng: Draw) -> Pair:
    classes = rng.normal(0, 2, (_BATCH, _CLASSES))
    if Transformation.SCORE_SHIFT in declaration.transformations:
        return rng.normal(size=_BATCH), classes
    return rng.normal(0, 2, (_BATCH, _CLASSES)), classes


def _values(loss: Any, arguments: Pair, settings: Settings) -> np.ndarray:
    return np.asarray(loss(*map(settings.cast, arguments)), np.float64)


def claims(settings: Settings) -> Iterator[Evidence]:
    """Every declared symmetry holds."""
    table = invariance_table()
    for declaration in losses.INVARIANCES:
        declared = declaration.invariant | declaration.equivariant
        for transformation in declaration.transformations:
            if transformation not in declared:
                continue
            worst, equivariant = deviation(declaration, transformation, settings)
            word = "equivariant" if equivariant else "invariant"
            yield claim(
                f"{declaration.loss.__name__} is {word}: {transformation.value}",
                worst,
                _TOLERANCE,
                settings,
                unit="change / largest value",
                table=table,
            )
            table = ()  # once is enough


def controls(settings: Settings) -> Iterator[Evidence]:
    """Every symmetry that is not declared is seen to fail."""
    for declaration in losses.INVARIANCES:
        declared = declaration.invariant | declaration.equivariant
        for transformation in declaration.transformations:
            if transformation not in declared:
                worst, _ = deviation(declaration, transformation, settings)
                yield control(
                    f"{declaration.loss.__name__}: {transformation.value}",
                    worst,
                    _VISIBLE,
                    unit="change / largest value",
                )


def invariance_table() -> tuple[dict[str, str], ...]:
    """The declarations as rows: loss by transformation."""
    return tuple(
        {
            "loss": declaration.loss.__name__,
            "transformation": transformation.value,
            "declared": (
                "invariant"
                if transformation in declaration.invariant
                else "equivariant"
                if transformation in declaration.equivariant
                else "changes"
            ),
        }
        for declaration in losses.INVARIANCES
        for transformation in declaration.transformations
    )


CHECK = Check(
    name="T14",
    title="Invariance table",
    statement="declared symmetries hold, all others are seen to fail",
    assumptions=("generic arguments: for special ones more may hold",),
    claims=claims,
    controls=controls,
)

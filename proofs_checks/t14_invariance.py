r"""T14. The invariances of each loss.

**Statement.** Every loss has a declaration. It lists the transformations of the
arguments that do not change the loss's values (*invariant*), and those that reorder the
values in the same way (*equivariant*). All other transformations change the values.

**Method.** The check works in both directions. A declared symmetry must hold in every
case. A symmetry that is not declared must fail; otherwise the declaration is
incomplete.

**In practice.** T1, T9 and T10 rest on the shift invariance of distillation: its
gradient sums to zero, so an optimizer that conserves class sums never moves the mean
logit. Logits matching depends on the mean and moves it. A method whose loss is
invariant to rotations of the student's embedding needs no trained projection; other
methods need one.

Source: ours.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
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
    distance,
)
from proofs_checks._programs import compiler_options
from proofs_checks._transformations import TRANSFORMATIONS, Inputs, draw_arguments

_TRIALS = 20
_TOLERANCE = Tolerance(float64=1e-11, float32=1e-4, bfloat16=2e-1)
# This loss jumps where the best match of two singular vectors changes. Rounding the
# arguments to three digits can change the match.
_MATCHING_TOLERANCE = _TOLERANCE._replace(bfloat16=None)
# A symmetry fails if it deviates by more than rounding does.
_VISIBLE = 1e-2


def deviation(
    declaration: Declaration, transformation: Transformation, settings: Settings
) -> Worst:
    """Measure the deviation of a transformed loss from its declaration.

    Args:
        declaration: A loss and its declared symmetries.
        transformation: The transformation of the arguments.
        settings: Dtype and seed.

    Returns:
        The largest change of a value over the trials, relative to the largest value. If
        equivariance is declared, values are compared in the new order. If nothing is
        declared, the smaller change of both orders counts, so that no symmetry is
        missed.
    """
    name = declaration.loss.__name__
    number = list(Transformation).index(transformation)
    seed = sum(map(ord, name))
    loss = _compiled(declaration.loss, tuple(declaration.settings.items()))
    worst = Worst()
    for trial in range(_TRIALS):
        rng = np.random.default_rng((settings.seed, 14, seed, number, trial))
        arguments = draw_arguments(declaration.arguments, rng)
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
            min(distance(after, values).max() for values in candidates) / size,
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
    # There are many programs on small arrays: most of the time is compilation.
    function = functools.partial(loss, **dict(settings))
    return jax.jit(function, compiler_options=compiler_options())


def _values(loss: Any, x: Inputs, settings: Settings) -> np.ndarray:
    arrays = map(settings.cast, (*x.student, *x.teacher))
    return np.asarray(loss(*arrays, *map(jnp.asarray, x.labels)), np.float64)


def _declared(declaration: Declaration) -> frozenset[Transformation]:
    return declaration.invariant | declaration.equivariant


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield the largest deviation of each loss from its declared symmetries."""
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
                f"{declaration.loss.__name__}: {_count(tried, 'declared symmetry')}",
                worst,
                _MATCHING_TOLERANCE
                if declaration.loss is losses.singular_value
                else _TOLERANCE,
                settings,
                unit="change / largest value",
                table=table,
            )
            table = ()  # only the first claim carries the table


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield the smallest deviation of each loss under undeclared transformations."""
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
                f"{declaration.loss.__name__}: {_count(tried, 'other symmetry')}",
                least,
                _VISIBLE,
                unit="change / largest value",
            )


def _count(tried: list[Worst], singular: str) -> str:
    plural = singular.replace("symmetry", "symmetries")
    return f"{len(tried)} {singular if len(tried) == 1 else plural}"


def invariance_table() -> tuple[dict[str, str], ...]:
    """Return the declarations as rows of a table, one for each loss."""

    def text(transformations: Any) -> str:
        names = (t.name.lower().replace("_", " ") for t in transformations)
        return ", ".join(names) or "-"

    def row(declaration: Declaration) -> dict[str, str]:
        declared = _declared(declaration)
        every = declaration.transformations
        return {
            "loss": declaration.loss.__name__,
            "arguments": declaration.arguments.value,
            "invariant": text(t for t in every if t in declaration.invariant),
            "equivariant": text(t for t in every if t in declaration.equivariant),
            "changes": text(t for t in every if t not in declared),
        }

    return tuple(map(row, losses.INVARIANCES))


CHECK = Check(
    name="T14",
    title="Invariance table",
    statement="every declared symmetry holds, and every other one fails",
    assumptions=("generic arguments: special arguments may have more symmetries",),
    claims=claims,
    controls=controls,
)

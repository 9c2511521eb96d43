"""Checks of batches: symmetries, reduction, and compilation."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd._audit._context import BATCH, Context
from jaxkd._audit._findings import Finding, Outcome, outcome
from jaxkd._audit._measure import compile_once
from jaxkd._audit._subject import first_line
from jaxkd.losses import Arguments, Transformation
from jaxkd.losses._symmetries import TRANSFORMATIONS as APPLYING
from proofs_checks._transformations import TRANSFORMATIONS, Inputs, draw_arguments

_TRIALS = 3
# Losses that convert to float32 keep their symmetries to its rounding.
_HOLDS, _FAILS = 1e-4, 1e-2
_SHIFTS = frozenset({Transformation.STUDENT_SHIFT, Transformation.COMMON_SHIFT})
_EXPECTED = {
    Arguments.LOGITS: _SHIFTS | {Transformation.CLASS_PERMUTATION},
    Arguments.LABELED_LOGITS: _SHIFTS | {Transformation.CLASS_PERMUTATION},
    Arguments.EMBEDDINGS: frozenset(),
    Arguments.FEATURE_MAPS: frozenset(),
}
_REMEDIES = {
    Transformation.STUDENT_SHIFT: "normalize the logits with a softmax, or except "
    "zero-sum if the loss is to match the logits themselves",
    Transformation.COMMON_SHIFT: "normalize the logits with a softmax",
    Transformation.CLASS_PERMUTATION: "treat all classes alike: check slices, axes and "
    "weights",
    Transformation.BATCH_PERMUTATION: "treat all examples alike: check slices and axes",
}


def invariance(context: Context) -> Outcome:
    """Compare the symmetries of the loss with those declared, or expected."""
    subject, findings, holding = context.subject, [], []
    declared = subject.declaration
    values = _values(context)
    for change in APPLYING[subject.arguments]:
        error = _deviation(context, change, values)
        if error < _HOLDS:
            holding.append(change.name.lower().replace("_", " "))
        finding = None
        if declared is not None:
            finding = _of_declared(
                change, error, change in declared.invariant | declared.equivariant
            )
        elif change in _EXPECTED[subject.arguments] or (
            change is Transformation.BATCH_PERMUTATION
        ):
            excepted = "zero-sum" in context.excepted and change in _SHIFTS
            if error > _HOLDS and not excepted:
                finding = _failing(change, error)
        if finding is not None:
            findings.append(finding)
    summary = f"invariant to {', '.join(holding)}" if holding else "none holds"
    return outcome("invariance", summary, findings)


def _of_declared(
    change: Transformation, error: float, declared: bool
) -> Finding | None:
    if declared and error > _HOLDS:
        return _failing(change, error)
    if not declared and error < _FAILS:
        return Finding(
            "invariance",
            "undeclared-symmetry",
            f"the loss is invariant, which is not declared: {change.value}",
            f"a change of {error:.1e}",
            f"more than {_FAILS:g}",
            remedy="add it to the declaration",
        )
    return None


def _failing(change: Transformation, error: float) -> Finding:
    return Finding(
        "invariance",
        f"changed-by-{change.name.lower().replace('_', '-')}",
        f"the loss changes under: {change.value}",
        f"a relative change of {error:.2g}",
        "0",
        "normal inputs",
        _REMEDIES.get(change, "check the declaration"),
    )


def _values(context: Context) -> Callable[[Inputs], np.ndarray]:
    """Return the loss's values in float64 at temperature 4."""
    subject = context.subject

    def call(student: Any, teacher: Any, labels: Any) -> Any:
        return jnp.asarray(subject(student, teacher, labels, 4.0))

    compiled = call if context.how.error else compile_once(call)

    def values(x: Inputs) -> np.ndarray:
        labels = x.labels or (np.zeros(len(x.student[0]), np.int32),)
        arrays = (jnp.asarray(a) for a in (*x.student, *x.teacher, *labels))
        return np.asarray(compiled(*arrays), np.float64)

    return values


def _deviation(
    context: Context,
    change: Transformation,
    values: Callable[[Inputs], np.ndarray],
) -> float:
    """Return the largest relative change, in the old or the new order."""
    worst = 0.0
    for trial in range(_TRIALS):
        rng = np.random.default_rng((context.seed, 21, trial))
        inputs = draw_arguments(context.subject.arguments, rng)
        with jax.enable_x64(True):
            before = values(inputs)
            moved, order = TRANSFORMATIONS[change](inputs, rng)
            after = values(moved)
        candidates = [before]
        if order is not None and before.ndim and len(order) == len(before):
            candidates.append(before[order])
        if order is not None and before.ndim == 2 and len(order) == before.shape[1]:
            candidates.append(before[:, order])
        size = np.abs(before).max() + 1e-30
        worst = max(worst, min(np.abs(after - x).max() / size for x in candidates))
    return worst if np.isfinite(worst) else np.inf


def batch(context: Context) -> Outcome:
    """Check how the examples of a batch make up the loss."""
    returns, findings = context.returns, []
    if returns.sums:
        findings.append(
            Finding(
                "batch",
                "batch-sum",
                "the loss is summed over the batch: it and its gradient grow with the "
                "batch size",
                remedy="return one value per example, or average over the batch",
            )
        )
    declared = context.subject.declaration is not None
    if returns.unreduced and not declared:
        findings.append(
            Finding(
                "batch",
                "not-reduced",
                "there is more than one value per example: a mean over all of them "
                "averages over the classes too",
                returns.text,
                remedy="sum over the last axis: .sum(-1)",
            )
        )
    if context.subject.of_logits and not declared and not returns.rows:
        findings.append(
            Finding(
                "batch",
                "depends-on-the-batch",
                "the loss of an example depends on the other examples",
                remedy="reduce over the last axis alone (axis=-1), or except batch if "
                "the loss compares examples",
            )
        )
    return outcome("batch", returns.text, findings)


def compiled(context: Context) -> Outcome:
    """Compare the loss as it is called with its compiled and mapped forms."""
    subject, how, findings = context.subject, context.how, []
    if how.error:
        finding = Finding(
            "compiled",
            "not-compilable",
            f"jax.jit cannot compile the loss: {how.error}",
            remedy="use jnp instead of np, and jnp.where instead of if",
        )
        return outcome("compiled", "eager only", [finding])
    if subject.temperature is not None and not how.traced_temperature:
        findings.append(
            Finding(
                "compiled",
                "static-temperature",
                "the temperature cannot be traced: each value compiles a program",
                remedy="use jnp.where instead of if, and no float() of it",
                fault=False,
            )
        )
    rng = np.random.default_rng((context.seed, 22))
    drawn = draw_arguments(subject.arguments, rng)
    labels = drawn.labels or (np.zeros(len(drawn.student[0]), np.int32),)
    arrays = [
        jnp.asarray(x[:BATCH], x.dtype if x.dtype == np.int32 else jnp.float32)
        for x in (*drawn.student, *drawn.teacher, *labels)
    ]
    traces = []

    def call(student: Any, teacher: Any, labels: Any) -> Any:
        traces.append(None)
        return jnp.asarray(subject(student, teacher, labels, 4.0))

    eager = np.asarray(call(*arrays), np.float64)
    traces.clear()
    program = compile_once(call)
    found = {"jax.jit": program(*arrays)}
    program(*(x[::-1] for x in arrays))
    if len(traces) != 1:
        findings.append(
            Finding(
                "compiled",
                "retraced",
                "equal shapes are traced again",
                f"{len(traces)} traces",
                "1",
                remedy="do not change global state inside of the loss",
            )
        )
    try:
        found["jax.vmap"] = jax.vmap(program)(*(x[None] for x in arrays))[0]
    except Exception as error:
        findings.append(
            Finding(
                "compiled",
                "not-mappable",
                f"jax.vmap fails: {type(error).__name__}: {first_line(error)}",
                remedy="count axes from the right, such as axis=-1",
                fault=False,
            )
        )
    worst, differing = _differences(context, eager, found)
    summary = f"eager, jit and vmap agree to {worst:.0e}"
    return outcome("compiled", summary, [*findings, *differing])


def _differences(
    context: Context, eager: np.ndarray, found: Mapping[str, Any]
) -> tuple[float, list[Finding]]:
    """Compare values with those of the loss as it is called."""
    worst, findings = 0.0, []
    for name, values in found.items():
        difference = np.asarray(values, np.float64) - eager
        size = np.abs(eager).max() + 1e-3 * context.typical_value
        error = float(np.abs(difference).max() / size)
        if np.array_equal(values, eager, equal_nan=True):
            error = 0.0
        worst = max(worst, error)
        if not error < 1e-4:
            findings.append(
                Finding(
                    "compiled",
                    "compiled-differs",
                    f"{name} gives other values",
                    f"a relative difference of {error:.2g}",
                    "0",
                    remedy="keep Python values, NumPy and global state out of the loss",
                )
            )
    return worst, findings

"""Checks of every kind of loss."""

import jax.numpy as jnp
import numpy as np

from jaxkd._audit._cases import TEMPERATURES
from jaxkd._audit._context import Context
from jaxkd._audit._findings import Finding, Outcome, outcome, skipped
from jaxkd._audit._measure import evaluate

# A relative error of a hundredth is seen in training; it counts where the value is not
# small beside ordinary ones.
_ERROR, _SMALL = 1e-2, 1e-2
_UNDERFLOWING = 80.0  # differences of logits whose exponential is lost in float32
_LOW_VALUE_ERROR, _LOW_GRADIENT_ERROR = 0.05, 0.1


def teacher_gradient(context: Context) -> Outcome:
    """Check that the student learns, and that the teacher gets no gradient."""
    chosen = context.cases.of("ordinary")
    student, teacher = (
        float(np.abs(np.nan_to_num(x[chosen])).max())
        for x in (context.wide.student, context.wide.teacher)
    )
    findings = []
    if student == 0.0:
        findings.append(
            Finding(
                "teacher-gradient",
                "no-student-gradient",
                "the student gets no gradient, so nothing is learned",
                "0",
                remedy="pass the student first, and stop the gradient of the teacher "
                "instead",
            )
        )
    if teacher > 0.0:
        findings.append(
            Finding(
                "teacher-gradient",
                "teacher-not-stopped",
                "the teacher gets a gradient",
                f"{teacher:.2g}",
                "0",
                remedy="wrap the teacher's array in jax.lax.stop_gradient: otherwise a "
                "teacher in the same program learns to please the student",
            )
        )
    return outcome("teacher-gradient", f"largest component {teacher:.2g}", findings)


def zero_at_equal(context: Context) -> Outcome:
    """Check that equal inputs have loss zero and no gradient."""
    name, declaration = "zero-at-equal", context.subject.declaration
    if declaration is None and context.subject.labeled:
        return skipped(name, "labels may pull the student away from the teacher")
    chosen = context.cases.of("equal")
    values = np.abs(context.wide.value[chosen])
    rows = np.abs(context.wide.rows[chosen]).max(-1)
    value, slope = np.nan_to_num(values).max(), np.nan_to_num(rows).max()
    summary, where = f"value {value:.1e}, gradient {slope:.1e}", "equal inputs"
    positive = bool(value > 1e-5 * context.typical_value)
    if declaration is not None and not declaration.zero_at_equal:
        return _declared_offset(summary, positive)
    if positive and slope > 1e-5 * context.typical_gradient:
        return outcome(
            name,
            summary,
            [
                Finding(
                    name,
                    "not-minimal-at-equal",
                    "a student that equals its teacher is pushed away from it",
                    f"a gradient of {slope:.2g}",
                    "0",
                    where,
                    "treat both networks alike: the same temperature, softmax and "
                    "normalization",
                )
            ],
        )
    if positive:
        return outcome(
            name,
            summary,
            [
                Finding(
                    name,
                    "offset",
                    "equal inputs have a loss, but no gradient: a constant such as the "
                    "teacher's entropy is added, so the value does not show how close "
                    "the student is",
                    f"{value:.3g}",
                    "0",
                    where,
                    "subtract the teacher's entropy if you report the value",
                    fault=False,
                )
            ],
        )
    return outcome(name, summary)


def _declared_offset(summary: str, positive: bool) -> Outcome:
    """Check that a loss declared to be positive for equal inputs is."""
    if positive:
        return outcome("zero-at-equal", f"{summary}, as declared")
    finding = Finding(
        "zero-at-equal",
        "undeclared-zero",
        "equal inputs have loss zero, which is not declared",
        remedy="leave zero_at_equal out of the declaration",
    )
    return outcome("zero-at-equal", summary, [finding])


def nonnegative(context: Context) -> Outcome:
    """Check that ordinary inputs have a loss that is not negative, in float64."""
    chosen = context.cases.of("ordinary", "temperature")
    values = context.wide.value[chosen]
    if np.isnan(values).all():
        return skipped("nonnegative", "no value")
    worst = int(np.nanargmin(values))
    summary = f"least value {values[worst]:.2g}"
    if values[worst] >= -1e-5 * context.typical_value:
        return outcome("nonnegative", summary)
    return outcome(
        "nonnegative",
        summary,
        [
            Finding(
                "nonnegative",
                "negative-loss",
                "the loss is negative, so it is not smallest for the teacher itself",
                f"{values[worst]:.3g}",
                "at least 0",
                context.text(int(chosen[worst])),
                "check the sign, and that both predictions are normalized",
            )
        ],
    )


def accuracy(context: Context) -> Outcome:
    """Compare values and gradients in float32 with the reference."""
    value, slope = errors(context)
    worst = np.fmax(value, slope)
    findings = _over_temperatures(context, value, worst)
    findings += _over_scales(context, value, slope)
    findings = list({finding.mistake: finding for finding in findings}.values())
    chosen = context.cases.of("temperature", "scale", "ordinary")
    known = worst[chosen][~np.isnan(worst[chosen])]
    if not len(known):
        return skipped("accuracy", "no finite value")
    summary = f"largest error in float32 {known.max():.1e}"
    return outcome("accuracy", summary, findings)


def _over_temperatures(
    context: Context, value: np.ndarray, worst: np.ndarray
) -> list[Finding]:
    """Return what is wrong at some temperatures."""
    cases, chosen = context.cases, context.cases.of("temperature")
    seen: dict[float, float] = {}
    for case in chosen:
        t, error = float(cases.temperature[case]), float(np.nan_to_num(worst[case]))
        seen[t] = max(seen.get(t, 0.0), error)
    bad = [t for t, error in seen.items() if error > _ERROR]
    if not bad:
        return []
    case = int(chosen[np.nanargmax(value[chosen])])
    if _differs_in_float64(context, case):
        return _other_formula(context, case)
    good = max((t for t in TEMPERATURES if t < min(bad)), default=0.0)
    at = max(seen, key=lambda t: seen[t])
    return [
        Finding(
            "accuracy",
            "rounding-at-high-temperature"
            if min(bad) > 4.0
            else "inaccurate-in-float32",
            f"in float32 the loss is wrong by {_percent(seen[at])} at T = {at:,g}, and "
            f"within 1% only up to T = {good:g}",
            f"{context.narrow.value[case]:.3g}",
            f"{context.value[case]:.3g}",
            context.text(case),
            "use jaxkd.losses.soft_target_kl, whose terms do not cancel, or keep the "
            "temperature low",
        )
    ]


def _over_scales(
    context: Context, value: np.ndarray, slope: np.ndarray
) -> list[Finding]:
    """Return what is wrong at some sizes of the inputs."""
    chosen = context.cases.of("scale", "ordinary")
    if not context.returns.rows:
        # Where losses that relate examples divide by the size of a whole column, a
        # column that underflows in float32 has none.
        largest = np.abs(context.cases.student[chosen]).max(tuple(range(1, 3)))
        largest = largest.reshape(len(chosen), -1).max(-1)
        chosen = chosen[largest < _UNDERFLOWING]
    worst = np.nan_to_num(np.fmax(value, slope))
    case = int(chosen[worst[chosen].argmax()])
    if worst[case] <= _ERROR:
        return []
    if not np.isfinite(worst[case]) or worst[case] > 1e30:
        return [
            Finding(
                "accuracy",
                "not-finite",
                "the value or its gradient is not finite in float32",
                _value_and_slope(context.narrow.value[case], context.narrow.rows[case]),
                _value_and_slope(context.value[case], context.gradient[case]),
                context.text(case),
                "compute log-probabilities with jax.nn.log_softmax, and treat p = 0 "
                "apart",
            )
        ]
    if _differs_in_float64(context, case):
        return _other_formula(context, case)
    return [
        Finding(
            "accuracy",
            "inaccurate-in-float32",
            f"the {'value' if value[case] >= slope[case] else 'gradient'} in float32 "
            f"differs from {context.form} by {_percent(worst[case])}",
            _value_and_slope(context.narrow.value[case], context.narrow.rows[case]),
            _value_and_slope(context.value[case], context.gradient[case]),
            context.text(case),
            "compute in log space, and take differences before sums",
        )
    ]


def _differs_in_float64(context: Context, case: int) -> bool:
    """Return whether the loss is not its reference in float64 either."""
    right, got = context.value[case], context.wide.value[case]
    slope = np.abs(context.wide.rows[case] - context.gradient[case]).max()
    largest = max(np.abs(context.gradient[case]).max(), 1e-2 * context.typical_gradient)
    size = max(abs(right), _SMALL * context.typical_value)
    return bool(abs(got - right) > _ERROR * size or slope > _ERROR * largest)


def _other_formula(context: Context, case: int) -> list[Finding]:
    if context.guard is not None:  # which is the reason, and has a finding of its own
        return []
    return [
        Finding(
            "accuracy",
            "differs-from-its-form",
            f"the loss is {context.form} for ordinary logits, and differs from it "
            "here, in float64 too",
            _value_and_slope(context.narrow.value[case], context.narrow.rows[case]),
            _value_and_slope(context.value[case], context.gradient[case]),
            context.text(case),
            "remove guards, clips and thresholds",
        )
    ]


def _value_and_slope(value: float, rows: np.ndarray) -> str:
    return f"a loss of {value:.3g} with a gradient of {np.abs(rows).max():.3g}"


def _percent(error: float) -> str:
    return f"{100.0 * error:.3g}%" if error < 9.995 else f"{error:.2g} times"


def errors(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return relative errors of values and gradients in float32.

    They are relative to the right value, or to a hundredth of an ordinary one if that
    is more; NaN where the right one is not finite.
    """
    right, got = context.value, context.narrow.value
    gradient = context.gradient
    largest = np.abs(gradient).max(-1)
    with np.errstate(all="ignore"):
        floor = _SMALL * context.typical_value
        value = np.abs(got - right) / np.fmax(np.abs(right), floor)
        floor = _SMALL * context.typical_gradient
        slope = np.abs(context.narrow.rows - gradient).max(-1)
        slope = slope / np.fmax(largest, floor)
    inside = np.isfinite(right) & (np.abs(right) < np.finfo(np.float32).max / 10.0)
    value = np.where(inside, _worst_if_nan(value), np.nan)
    return value, np.where(
        inside & np.isfinite(gradient).all(-1), _worst_if_nan(slope), np.nan
    )


def _worst_if_nan(error: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(error), error, np.inf)


def finite(context: Context) -> Outcome:
    """Check values and two derivatives where formulas divide by zero or overflow."""
    cases, narrow = context.cases, context.narrow
    for case in cases.of("ordinary", "equal", "singular"):
        for what, x in (
            ("value", narrow.value[case]),
            ("gradient", narrow.student[case]),
            ("second derivative", narrow.curvature[case]),
        ):
            if np.isfinite(x).all():
                continue
            too_large = not np.isfinite(context.value[case])  # for any dtype
            if too_large and cases.group[case] != "ordinary":
                continue
            finding = Finding(
                "finite",
                "not-finite",
                f"the {what} is not finite in float32",
                str(np.asarray(x).ravel()[~np.isfinite(np.asarray(x).ravel())][0]),
                "a finite number",
                context.text(int(case)),
                "guard the square root, division or logarithm before it is taken "
                "(jnp.where on its argument), not after",
            )
            return outcome("finite", f"{what} not finite", [finding])
    return outcome("finite", "values and two derivatives are finite")


def dtype(context: Context) -> Outcome:
    """Check the dtype of the values, and those of bfloat16 inputs."""
    findings = []
    if context.narrow.dtype != np.float32:
        findings.append(
            Finding(
                "dtype",
                "dtype-changed",
                "float32 inputs give values of another dtype",
                str(context.narrow.dtype),
                "float32",
                remedy="keep the dtype of the inputs",
            )
        )
    chosen = context.cases.of("rounded")
    try:
        low = evaluate(
            context.subject, context.cases, jnp.bfloat16, context.how, chosen=chosen
        )
    except Exception as error:
        finding = Finding(
            "dtype",
            "no-bfloat16",
            f"bfloat16 inputs are refused: {type(error).__name__}",
            remedy="convert the inputs to float32 first",
            fault=False,
        )
        return outcome("dtype", "bfloat16 refused", [*findings, finding])
    wide, value = context.wide, context.wide.value[chosen]
    error = np.abs(low.value - value) / np.fmax(
        np.abs(value), _SMALL * context.typical_value
    )
    largest = np.abs(wide.rows[chosen]).max(-1)
    slope = np.abs(low.rows - wide.rows[chosen]).max(-1) / np.fmax(
        largest, 0.1 * context.typical_gradient
    )
    summary = f"bfloat16: value off by {error.max():.1e}, gradient by {slope.max():.1e}"
    if np.isnan(value).any():
        return outcome("dtype", "no value to compare", findings)
    if not (error.max() <= _LOW_VALUE_ERROR and slope.max() <= _LOW_GRADIENT_ERROR):
        worst = int(np.nan_to_num(error, nan=np.inf).argmax())
        findings.append(
            Finding(
                "dtype",
                "computed-in-bfloat16",
                "bfloat16 inputs are computed in bfloat16, with 8 significant bits",
                f"{low.value[worst]:.3g}",
                f"{value[worst]:.3g}",
                context.text(int(chosen[worst])),
                "convert the inputs to float32 first: logits.astype(jnp.float32)",
            )
        )
    return outcome("dtype", summary, findings)

"""Checks of losses that compare logits."""

import dataclasses

import numpy as np

from jaxkd._audit._cases import MARGINS, TEMPERATURES
from jaxkd._audit._context import Context
from jaxkd._audit._findings import Finding, Outcome, outcome, skipped
from jaxkd._audit._forms import GUARDS, RIGHT
from jaxkd._audit._identify import Identity, power_text

# Where both networks are sure of their classes, and where they begin to be.
_SURE, _UNSURE = MARGINS.index(50.0), MARGINS.index(8.0)
_HUGE = 1e30  # what finfo.min makes of a loss


def form(context: Context) -> Outcome:
    """Compare the loss with known losses and known mistakes."""
    if not context.returns.rows or context.subject.labeled:
        return skipped("form", "compared only for losses of single pairs of logits")
    identity = context.identity
    if identity is None:
        return outcome("form", "none of the known losses and mistakes")
    known, findings = identity.form, []
    if known.mistake is not None:
        finding = Finding("form", known.mistake, known.text, remedy=known.remedy)
        if known.mistake == "top-k-renormalized":
            case = _most_alike(context)
            finding = dataclasses.replace(
                finding,
                measured=f"{context.narrow.value[case]:.2g}",
                expected=f"{_full_divergence(context, case):.3g}",
                where=context.text(case),
            )
        findings.append(finding)
    findings += _guard(context, identity) + _factor(context, identity)
    guarded = ", with a guard" if context.guard is not None else ""
    return outcome("form", identity.text + guarded, findings)


def _guard(context: Context, identity: Identity) -> list[Finding]:
    if context.guard is None:
        return []
    mistake, epsilon = context.guard
    case = int(context.cases.of("confident").reshape(len(MARGINS), -1)[_SURE, 0])
    description = GUARDS[mistake].format(epsilon)
    right = abs(identity.constant) * np.sqrt(2.0)
    return [
        Finding(
            "form",
            mistake,
            f"a guard against log 0 changes the loss: {description}",
            f"a gradient of {np.linalg.norm(context.narrow.rows[case]):.2g}",
            f"{right:.3g}",
            context.text(case),
            "compute log-probabilities with jax.nn.log_softmax: these need no guard",
        )
    ]


def _factor(context: Context, identity: Identity) -> list[Finding]:
    """Compare the factor with the power of the temperature that belongs there."""
    findings = []
    known = identity.form
    if identity.class_power != 0 and known.scale == 2:
        findings.append(
            Finding(
                "form",
                "mean-over-classes",
                "the loss is averaged over the classes: its gradient is smaller by the "
                "number of classes, and changes with it",
                f"a factor of {identity.constant:.3g}",
                f"{identity.constant * context.cases.student.shape[-1]:.3g}",
                f"{context.cases.student.shape[-1]} classes",
                "sum over the classes, and average over the examples alone",
            )
        )
    remedy = (
        "multiply by temperature**2: the gradient of the softened loss shrinks as "
        "1/T², and the factor keeps its weight beside other losses"
    )
    if identity.power is not None and identity.power != known.scale:
        allowed = known.mistake is None and known.scale == 0
        if not allowed and identity.power < known.scale:
            findings.append(
                Finding(
                    "form",
                    "missing-temperature-factor",
                    f"the factor is {power_text(identity.power)} instead of T²",
                    remedy=remedy,
                )
            )
    if identity.hidden not in (None, 1.0) and known.scale == 2:
        right = identity.hidden**2
        if np.isclose(identity.constant, 1.0, rtol=1e-3):
            findings.append(
                Finding(
                    "form",
                    "missing-temperature-factor",
                    "the factor T² is missing",
                    "a factor of 1",
                    f"{right:g}",
                    f"the temperature {identity.hidden:g} inside of the loss",
                    remedy,
                )
            )
    return findings


def zero_sum(context: Context) -> Outcome:
    """Sum the student's gradient over the classes of each example (T1)."""
    chosen = context.cases.of("ordinary")
    gradient = context.wide.student[chosen]
    sums = np.abs(gradient.sum(-1)).max(-1)
    sizes = np.abs(gradient).sum(-1).max(-1)
    shares = np.nan_to_num(sums / (sizes + 1e-9 * context.typical_gradient))
    worst = int(shares.argmax())
    summary = f"|sum| / sum of |.| at most {shares[worst]:.1e}"
    if shares[worst] < 1e-5:
        return outcome("zero-sum", summary)
    return outcome(
        "zero-sum",
        summary,
        [
            Finding(
                "zero-sum",
                "gradient-moves-the-mean",
                "the student's gradient does not sum to zero over the classes: the "
                "loss depends on the mean of the logits, to which a softmax is "
                "invariant",
                f"a sum of {sums[worst]:.3g}",
                "0",
                context.text(int(chosen[worst])),
                "subtract each row's mean from the logits, or except zero-sum if the "
                "loss is to match the logits themselves",
            )
        ],
    )


def temperature_factor(context: Context) -> Outcome:
    """Measure how the gradient changes as the temperature grows (T4, T7)."""
    name = "temperature-factor"
    if context.subject.temperature is None:
        return skipped(name, "no temperature")
    chosen = context.cases.of("temperature")
    largest = np.abs(context.wide.rows[chosen]).max(-1)
    sizes = np.median(largest.reshape(len(TEMPERATURES), -1), axis=-1)
    with np.errstate(all="ignore"):
        slope = float(np.log10(sizes[-2] / sizes[-3]))
    if not np.isfinite(slope):
        return outcome(name, "no gradient at high temperatures")
    power = round(slope)
    if power == 0:
        return outcome(name, _limit(context, chosen))
    findings = [
        Finding(
            name,
            "missing-temperature-factor" if power < 0 else "excess-temperature-factor",
            f"the student's gradient {'vanishes' if power < 0 else 'grows'} as "
            f"{power_text(power)} at high temperatures",
            f"{sizes[-2]:.2g} at T = 1,000",
            f"the order of {sizes[1]:.2g}, as at T = 1",
            remedy="multiply the divergence of softened predictions by temperature**2, "
            "once; one that softens the teacher alone needs no factor",
        )
    ]
    return outcome(name, f"gradient changes as {power_text(power)}", findings)


def _limit(context: Context, chosen: np.ndarray) -> str:
    """Compare the value at high temperatures with half the variance."""
    cases = context.cases
    rows = chosen[cases.temperature[chosen] == TEMPERATURES[-2]]
    d = cases.student[rows] - cases.teacher[rows]
    ratio = context.wide.value[rows] / (0.5 * np.var(d, axis=-1).sum(-1))
    if np.isfinite(ratio).all() and np.ptp(ratio) < 2e-2 * np.abs(ratio).max():
        return f"tends to {ratio.mean():.3g} times half the variance of z - v"
    return "the gradient has a limit"


def masks(context: Context) -> Outcome:
    """Check masked classes: no NaN, and no infinity unless the formula has one."""
    cases, narrow = context.cases, context.narrow
    for case in cases.of("mask both", "mask teacher", "mask student"):
        value, rows = narrow.value[case], narrow.rows[case]
        both = cases.group[case] == "mask both"
        # A class that one network masks may cost infinitely much.
        infinite = np.isinf(value) and (both or abs(context.value[case]) < _HUGE)
        if not (infinite or np.isnan(value) or np.isnan(rows).any()):
            continue
        right = "the loss without the class" if both else "no NaN"
        finding = Finding(
            "masks",
            "masked-nan",
            "a masked class makes the loss or its gradient NaN or infinite",
            str(value) if infinite or np.isnan(value) else "a NaN gradient",
            right,
            context.text(int(case)),
            "where p = 0, replace the log-ratio by 0 before the product, not the "
            "product after it: 0 times infinity is NaN",
        )
        return outcome("masks", f"not finite: {context.text(int(case))}", [finding])
    return outcome("masks", "no NaN with -inf and finfo.min")


def confident(context: Context) -> Outcome:
    """Check the loss and its gradient where both networks are sure and disagree."""
    chosen = context.cases.of("confident").reshape(len(MARGINS), -1)
    narrow, findings = context.narrow, []
    lengths = np.linalg.norm(narrow.rows[chosen], axis=-1)
    right = np.linalg.norm(context.gradient[chosen], axis=-1)
    known = context.identity is not None and context.identity.right
    case = int(chosen[_SURE, 0])
    got, wanted = lengths[_SURE, 0], right[_SURE, 0]
    summary = f"gradient of {got:.2g}"
    if known and abs(got - wanted) > 1e-2 * max(wanted, 1e-2):
        findings.append(_vanishing(context, got, wanted, case))
    elif not known:
        # A divergence may saturate by design: then its gradient declines from the
        # start. One with a guard is right up to a margin, and collapses there.
        declines = lengths[_UNSURE, 0] < 0.1 * lengths[: _UNSURE + 1, 0].max()
        if not declines and got < 1e-2 * lengths[_UNSURE, 0]:
            findings.append(_vanishing(context, got, lengths[_UNSURE, 0], case))
    case = _most_alike(context)
    blind = abs(narrow.value[case]) < 1e-3 * context.typical_value
    if blind and context.returns.rows:
        findings.append(
            Finding(
                "confident",
                "blind-to-other-classes",
                "the loss is nearly zero although the networks disagree completely",
                f"{narrow.value[case]:.2g}",
                f"a large one (KL is {_full_divergence(context, case):.3g})",
                context.text(case),
                "compare the predictions over all classes",
            )
        )
    return outcome("confident", summary, findings)


def _vanishing(context: Context, got: float, right: float, case: int) -> Finding:
    return Finding(
        "confident",
        "vanishing-gradient",
        "the gradient vanishes where the student is sure of a wrong class",
        f"{got:.2g}",
        f"{right:.3g}",
        context.text(case),
        "remove guards and clips from the logarithm, and compute log-probabilities "
        "with jax.nn.log_softmax",
    )


def _most_alike(context: Context) -> int:
    """Return the case of a wrong class outside of the teacher's with the least loss."""
    outside = context.cases.of("outside")
    return int(outside[np.argmin(np.abs(context.narrow.value[outside]))])


def _full_divergence(context: Context, case: int) -> float:
    z, v = context.cases.student[case], context.cases.teacher[case]
    return float(RIGHT[0].value(z, v, np.ones((len(z), 1)))[0])

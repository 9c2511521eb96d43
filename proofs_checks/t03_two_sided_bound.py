r"""T3. Distillation is half the variance up to a factor bounded by the logits' range.

**Statement.** With :math:`d = z - v`, :math:`R = \max(\operatorname{osc} z,
\operatorname{osc} v)` and :math:`r = R/T`,

.. math::
    e^{-r}\, \tfrac12 \operatorname{var}(d) \le L_T \le e^{r}\, \tfrac12
    \operatorname{var}(d).

A sharper form for :math:`C` classes is

.. math::
    \frac{C}{1 + (C - 1) e^{r}}\, \tfrac12 \operatorname{var}(d) \le L_T \le
    \frac{C}{1 + (C - 1) e^{-r}}\, \tfrac12 \operatorname{var}(d), \qquad
    L_T \le \tfrac18 \operatorname{osc}(d)^2,

The factor :math:`e^{r}` is the best one that holds for every :math:`C`.

**Proof.** By T2, :math:`L_T = \frac12 \operatorname{Var}_\sigma(d)`, where
:math:`\sigma` is the softmax of a point :math:`\xi` of the segment, whose oscillation
is at most :math:`r`. Hence :math:`1/\sigma_k = \sum_j e^{\xi_j - \xi_k}` lies between
:math:`1 + (C-1) e^{-r}` and :math:`1 + (C-1) e^{r}`. Since
:math:`\operatorname{Var}_\sigma(d) = \min_c \sum_k \sigma_k (d_k - c)^2`, bounds on the
weights give bounds on the variance. The bounds with :math:`C` lie inside the bounds
without. The last bound is Popoviciu's inequality on variances.

*Best factor.* Let :math:`v = R e_1` and :math:`z = (R - \delta) e_1` with
:math:`\delta \to 0`. Then :math:`\operatorname{Var}_\sigma(d) / \operatorname{var}(d) =
C^2 e^{r} / (e^{r} + C - 1)^2`, which tends to :math:`e^{r}` as :math:`C` grows; with
:math:`-R` in place of :math:`R` it tends to :math:`e^{-r}`.

Source: the derivation is ours.
"""

from collections.abc import Iterator

import jax
import numpy as np

from proofs_checks._cases import (
    LogitCases,
    logit_blocks,
    oscillation,
    reach,
    soft_target_kl,
    value_and_gradients,
)
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
    place,
)

_TOLERANCE = Tolerance(float64=1e-13, float32=2e-6, bfloat16=2e-6)
_UNIT = "excess of the ratio's logarithm over its band"
_FAMILY_CLASSES = 1_000_000


def _log_ratio(cases: LogitCases, settings: Settings) -> tuple[np.ndarray, ...]:
    """Compute log(L / (var(d) / 2)) for the upper and for the lower bound.

    For the lower bound, a loss that is too small for the dtype counts as the smallest
    number of the dtype. Cases without variance have ratio 1.

    Returns:
        The logarithm for the upper bound, the logarithm for the lower bound, and
        whether the dtype can hold the loss.
    """
    value, _ = value_and_gradients(soft_target_kl(), *cases[1:])
    value = np.asarray(value, np.float64)
    half = 0.5 * np.square(cases.centered_difference).mean(-1)
    smallest = cases.student.shape[-1] * np.finfo(settings.compute_dtype).tiny
    constant = (half == 0) & (value == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = np.log(np.maximum(value, np.finfo(np.float64).tiny) / half)
        lower = np.log(np.maximum(value, smallest) / half)
    upper, lower = np.where(constant, 0.0, upper), np.where(constant, 0.0, lower)
    return upper, lower, value > smallest


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the band, its sharp form, the cap and the best factor."""
    band, sharp, cap = Worst(), Worst(), Worst()
    tightest, loosest = (-np.inf, {}), 0.0
    for cases in logit_blocks(settings, settings.cases):
        upper, lower, held = _log_ratio(cases, settings)
        r, classes = reach(cases), cases.student.shape[-1]
        band.add(np.maximum(upper, -lower) - r, cases.describe)
        high = np.log(classes) - np.log1p((classes - 1) * np.exp(-r))
        low = np.log(classes) - np.logaddexp(0.0, np.log(classes - 1) + r)
        sharp.add(np.maximum(upper - high, low - lower), cases.describe)

        d = cases.centered_difference
        half = 0.5 * np.square(d).mean(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            largest = np.log(oscillation(d) ** 2 / 8 / half)
        cap.add(np.where(half > 0, upper - largest, 0.0), cases.describe)

        # If r is small, rounding of the ratio exceeds the width of the band.
        telling = held & (r > 1e4 * np.finfo(settings.compute_dtype).eps)
        used = np.where(telling, np.abs(upper) / np.where(telling, r, 1.0), 0.0)
        row = int(used.argmax())
        if used[row] > tightest[0]:
            tightest = (used[row], {**cases.describe(row), "R/T": float(r[row])})
        loosest = max(loosest, float(r[telling].max()))
    yield claim(
        "exp(-R/T) <= L_T / (var(d)/2) <= exp(R/T)",
        band,
        _TOLERANCE,
        settings,
        unit=_UNIT,
        detail=f"the tightest case uses {tightest[0]:.6f} of the band "
        f"({place(tightest[1])}); R/T is up to {loosest:.2g}",
    )
    yield claim(
        "C / (1 + (C-1) exp(R/T)) <= L_T / (var(d)/2) <= C / (1 + (C-1) exp(-R/T))",
        sharp,
        _TOLERANCE,
        settings,
        unit=_UNIT,
    )
    yield claim(
        "L_T <= osc(d)^2 / 8",
        cap,
        _TOLERANCE,
        settings,
        unit="excess of the loss's logarithm over its bound",
    )
    yield _best_factor(settings)


def _best_factor(settings: Settings) -> Evidence:
    """Measure how much of the band the docstring's family uses at a million classes."""
    worst = Worst()
    for r in (0.5, 1.0, 2.0):
        for sign in (1.0, -1.0):
            teacher = np.zeros(_FAMILY_CLASSES)
            teacher[0] = sign * r
            teacher = settings.cast(teacher)
            student = teacher.copy()
            student[0] = student[0] * (1 - 2.0**-6)
            value = jax.jit(soft_target_kl())(
                student, teacher, np.ones((), settings.compute_dtype)
            )
            exact = student.astype(np.float64) - teacher.astype(np.float64)
            ratio = float(value) / (0.5 * exact.var())
            reach_ = abs(float(teacher[0]))
            worst.add(abs(abs(np.log(ratio)) / reach_ - 1), lambda _, r=r: {"R/T": r})
    count = f"{_FAMILY_CLASSES:,}"
    return claim(
        f"exp(R/T) is the best factor: nearly attained with {count} classes",
        worst,
        Tolerance(0.02, 0.02, 0.02),
        settings,
        unit="unused share of the band",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that a smaller R fails."""
    shorter, student_only = Worst(), Worst()
    for cases in logit_blocks(settings, 10_000):
        upper, lower, _ = _log_ratio(cases, settings)
        excess = np.maximum(upper, -lower)
        shorter.add(excess - 0.9 * reach(cases), cases.describe)
        student, _, temperature = cases.exact
        student_only.add(excess - oscillation(student) / temperature, cases.describe)
    yield control("R replaced by 0.9 R", shorter, 1e-3, unit=_UNIT)
    yield control("R from the student's logits alone", student_only, 1e-3, unit=_UNIT)


CHECK = Check(
    name="T3",
    title="Two-sided bound",
    statement="exp(-R/T) var(d)/2 <= L_T <= exp(R/T) var(d)/2",
    assumptions=("finite logits", "R = max(osc z, osc v)", "0 < T <= inf"),
    claims=claims,
    controls=controls,
)

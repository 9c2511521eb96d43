r"""T3. Distillation is half the variance, up to a factor that the logits' range bounds.

**Statement.** With :math:`d = z - v`, :math:`R = \max(\operatorname{osc} z,
\operatorname{osc} v)` and :math:`r = R/T`,

.. math::
    e^{-r}\, \tfrac12 \operatorname{var}(d) \le L_T \le e^{r}\, \tfrac12
    \operatorname{var}(d).

More sharply, for :math:`C` classes,

.. math::
    \frac{C}{1 + (C - 1) e^{r}}\, \tfrac12 \operatorname{var}(d) \le L_T \le
    \frac{C}{1 + (C - 1) e^{-r}}\, \tfrac12 \operatorname{var}(d), \qquad
    L_T \le \tfrac18 \operatorname{osc}(d)^2,

and :math:`e^{r}` is the best factor that holds for every :math:`C`.

**Proof.** By T2, :math:`L_T = \frac12 \operatorname{Var}_\sigma(d)` for a softmax
:math:`\sigma` of a point of the segment, whose oscillation is at most :math:`r`. Hence
:math:`1/\sigma_k = \sum_j e^{\xi_j - \xi_k}` lies between :math:`1 + (C-1) e^{-r}` and
:math:`1 + (C-1) e^{r}`. Since :math:`\operatorname{Var}_\sigma(d) = \min_c \sum_k
\sigma_k (d_k - c)^2`, bounds of the weights are bounds of the variance; those with
:math:`C` lie inside those without. The last bound is Popoviciu's on variances.

*Best factor.* Let :math:`v = R e_1` and :math:`z = (R - \delta) e_1` with
:math:`\delta \to 0`. Then :math:`\operatorname{Var}_\sigma(d) / \operatorname{var}(d) =
C^2 e^{r} / (e^{r} + C - 1)^2`, which tends to :math:`e^{r}` as :math:`C` grows; with
:math:`-R` in place of :math:`R` it tends to :math:`e^{-r}`.

Source: derivation ours.
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
)

_TOLERANCE = Tolerance(float64=1e-13, float32=2e-6, bfloat16=2e-6)
_UNIT = "log of the ratio beyond its band"
_FAMILY_CLASSES = 1_000_000


def _log_ratio(cases: LogitCases, settings: Settings) -> tuple[np.ndarray, ...]:
    """log(L / (var(d) / 2)), once for the upper and once for the lower bound.

    A loss below what the dtype can hold counts as the smallest number it can, where it
    is to be large enough. Cases without any variance have ratio 1. Last, where the
    dtype could hold the loss.
    """
    value, _ = value_and_gradients(soft_target_kl(), *cases[1:])
    value = np.asarray(value, np.float64)
    half = 0.5 * np.square(cases.centred_difference).mean(-1)
    smallest = cases.student.shape[-1] * np.finfo(settings.compute_dtype).tiny
    constant = (half == 0) & (value == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = np.log(np.maximum(value, np.finfo(np.float64).tiny) / half)
        lower = np.log(np.maximum(value, smallest) / half)
    upper, lower = np.where(constant, 0.0, upper), np.where(constant, 0.0, lower)
    return upper, lower, value > smallest


def claims(settings: Settings) -> Iterator[Evidence]:
    """The band, its sharp form, the cap, and that the factor is the best."""
    band, sharp, cap = Worst(), Worst(), Worst()
    tightest, loosest = (-np.inf, {}), 0.0
    for cases in logit_blocks(settings, settings.cases):
        upper, lower, held = _log_ratio(cases, settings)
        r, classes = reach(cases), cases.student.shape[-1]
        band.add(np.maximum(upper, -lower) - r, cases.describe)
        high = np.log(classes) - np.log1p((classes - 1) * np.exp(-r))
        low = np.log(classes) - np.logaddexp(0.0, np.log(classes - 1) + r)
        sharp.add(np.maximum(upper - high, low - lower), cases.describe)

        d = cases.centred_difference
        half = 0.5 * np.square(d).mean(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            largest = np.log(oscillation(d) ** 2 / 8 / half)
        cap.add(np.where(half > 0, upper - largest, 0.0), cases.describe)

        # Where r is small, the digits of the ratio are too few to tell.
        telling = held & (r > 1e4 * np.finfo(settings.compute_dtype).eps)
        used = np.where(telling, np.abs(upper) / np.where(telling, r, 1.0), 0.0)
        row = int(used.argmax())
        if used[row] > tightest[0]:
            tightest = (used[row], {**cases.describe(row), "R/T": float(r[row])})
        loosest = max(loosest, float(r[telling].max()))
    where = ", ".join(f"{k} {v:.4g}" for k, v in tightest[1].items())
    yield claim(
        "exp(-R/T) <= L_T / (var(d)/2) <= exp(R/T)",
        band,
        _TOLERANCE,
        settings,
        unit=_UNIT,
        detail=f"tightest: {tightest[0]:.6f} of the band used ({where}); "
        f"R/T up to {loosest:.2g}",
    )
    yield claim(
        "the same within C / (1 + (C-1) exp(-+R/T))",
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
        unit="log of the excess",
    )
    yield _best_factor(settings)


def _best_factor(settings: Settings) -> Evidence:
    """The family of the docstring, at a million classes."""
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
    return claim(
        f"exp(R/T) is the best factor: reached by one class in {_FAMILY_CLASSES:,}",
        worst,
        Tolerance(0.02, 0.02, 0.02),
        settings,
        unit="share of the band left over",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """A smaller R does not do."""
    shorter, student_only = Worst(), Worst()
    for cases in logit_blocks(settings, 10_000):
        upper, lower, _ = _log_ratio(cases, settings)
        excess = np.maximum(upper, -lower)
        shorter.add(excess - 0.9 * reach(cases), cases.describe)
        student, _, temperature = cases.exact
        student_only.add(excess - oscillation(student) / temperature, cases.describe)
    yield control("R replaced by 0.9 R", shorter, 1e-3, unit=_UNIT)
    yield control(
        "R taken of the student's logits alone", student_only, 1e-3, unit=_UNIT
    )


CHECK = Check(
    name="T3",
    title="Two-sided bound",
    statement="exp(-R/T) var(d)/2 <= L_T <= exp(R/T) var(d)/2",
    assumptions=("finite logits", "R = max(osc z, osc v)", "0 < T <= inf"),
    claims=claims,
    controls=controls,
)

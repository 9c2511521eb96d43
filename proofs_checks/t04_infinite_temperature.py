r"""T4. At infinite temperature distillation is logits matching without the mean gap.

**Statement.** :math:`L_\infty = \frac12 \operatorname{var}(d) = \mathrm{LM} -
\frac12 \bar d^{\,2}`: logits matching with the regularization :math:`-\frac12
\bar d^{\,2}`. Its gradient is :math:`(d_k - \bar d)/C`. At finite temperatures, with
:math:`r = R/T`,

.. math::
    \left| \frac{\partial L_T}{\partial z_k} - \frac{d_k - \bar d}{C} \right|
        \le \operatorname{osc}(d)\, \frac{e^{r} - 1}{C}, \qquad
    \left| L_T - L_\infty \right| \le (e^{r} - 1)\, L_\infty .

Separate bounds of the two parts :math:`(\sigma_k - u)(d_k - \operatorname{E}_\sigma d)`
and :math:`u\, (\bar d - \operatorname{E}_\sigma d)` give the constant 2, or 3/2. The
proof below gives 1, and the certificate finds cases that use almost all of it.

**Proof.** The value follows from T3. The decomposition is that of a second moment into
variance and squared mean. For the gradient let :math:`u = 1/C`, and let :math:`\sigma`
be the softmax :math:`\sigma(s)` of T2: :math:`T(q_k - p_k) = \int_0^1 \sigma_k (d_k -
\operatorname{E}_\sigma d)\, ds`. So it suffices to bound :math:`\sum_j a_j d_j =
\sigma_k (d_k - \operatorname{E}_\sigma d) - u (d_k - \bar d)` for every
:math:`\sigma` with :math:`u e^{-r} \le \sigma_j \le u e^{r}` (see the proof of T3).
Here :math:`a_j = u^2 - \sigma_k \sigma_j` for :math:`j \ne k`, and :math:`\sum_j a_j =
0`. The sum is therefore at most :math:`\operatorname{osc}(d)` times the sum of the
positive :math:`a_j`, which equals minus the sum of the negative ones.

* If :math:`a_k \ge 0`, let :math:`J` be the :math:`m` classes with :math:`a_j < 0` and
  :math:`S` their mass. Then :math:`-\sum_J a_j = \sigma_k S - m u^2 \le u (e^r S - m
  u)`, and :math:`e^r (1 - S) \ge (C - m) u = 1 - m u` gives :math:`e^r S - m u \le e^r
  - 1`.
* If :math:`a_k < 0`, let :math:`J` be the classes with :math:`a_j > 0`. Then
  :math:`\sum_J a_j = m u^2 - \sigma_k S \le u (m u - e^{-r} S)`, and :math:`1 - S \le
  (1 - m u) e^r` gives :math:`m u - e^{-r} S \le 1 - e^{-r} \le e^r - 1`.

Source: after Chen et al. 2021 (arXiv 2109.06458), abstract; the rate and the derivation
are ours.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from jaxkd import losses
from proofs_checks import _symbolic
from proofs_checks._cases import (
    logit_blocks,
    negligible,
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
    distance,
    place,
)

_CASES = 10_000
# Gradients of bfloat16 logits are rounded to bfloat16.
_GRADIENT = Tolerance(float64=1e-12, float32=2e-5, bfloat16=2e-2)
_VALUE = Tolerance(float64=1e-13, float32=5e-6, bfloat16=5e-6)
_RATE_UNIT = "distance beyond the bound / largest component"


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the limit, its gradient and their rates of convergence."""
    yield from _limit(settings)
    yield _rate(settings)

    def residuals(s):
        second = s.sympy.diff(s.kl(), s.scale, 2).subs(s.scale, 0)
        matching = s.mean([d**2 for d in s.d]) / 2
        gap = s.mean(s.d) ** 2 / 2
        gradients = (
            s.sympy.diff(second / 2, z) - (d - s.mean(s.d)) / len(s.d)
            for z, d in zip(s.z, s.d, strict=True)
        )
        return [
            second / 2 - s.variance(s.d) / 2,
            second / 2 - matching + gap,
            *gradients,
        ]

    yield _symbolic.prove("lim L_T = var(d)/2 = LM - Gap, symbolically", residuals)


def _limit(settings: Settings) -> Iterator[Evidence]:
    variance, decomposition, gradients = Worst(), Worst(), Worst()
    for cases in logit_blocks(settings, _CASES):
        cases = cases._replace(temperature=np.full_like(cases.temperature, np.inf))
        value, (gradient, _) = value_and_gradients(soft_target_kl(), *cases[1:])
        value = np.asarray(value, np.float64)
        d = cases.centered_difference
        half = 0.5 * np.square(d).mean(-1)
        size = half + negligible(settings)
        variance.add(distance(value, half) / size, cases.describe)
        matching, gap = (
            np.asarray(loss(*cases[1:3]), np.float64)
            for loss in (losses.logit_matching, losses.mean_gap)
        )
        size = matching + negligible(settings)
        decomposition.add(distance(value, matching - gap) / size, cases.describe)
        expected = d / d.shape[-1]
        error = distance(gradient, expected).max(-1)
        largest = np.abs(expected).max(-1) + negligible(settings)
        gradients.add(error / largest, cases.describe)
    unit = "relative error"
    yield claim("L_inf = var(d) / 2", variance, _VALUE, settings, unit=unit)
    text = "L_inf = LM - Gap"
    yield claim(text, decomposition, _VALUE, settings, unit="error relative to LM")
    text = "gradient (d_k - mean d) / C"
    yield claim(text, gradients, _GRADIENT, settings, unit=unit)


def _rate_deviations(cases, settings: Settings, power: int = 1):
    """Compute the excess over the bound and the share of the bound that is used."""
    _, (gradient, _) = value_and_gradients(soft_target_kl(), *cases[1:])
    gradient = np.asarray(gradient, np.float64)
    d = cases.centered_difference
    classes = d.shape[-1]
    limit = d / classes
    spread = oscillation(d)
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.expm1(reach(cases) ** power)
        bound = np.where(spread > 0, spread * growth / classes, 0.0)
    error = distance(gradient, limit).max(-1)
    size = np.maximum(np.abs(gradient), np.abs(limit)).max(-1) + negligible(settings)
    # Leave out cases where rounding is as large as the bound.
    telling = bound > 1e4 * float(jnp.finfo(settings.array_dtype).eps) * size
    used = np.where(telling, error / np.where(telling, bound, 1.0), 0.0)
    return (error - bound) / size, used


def _rate(settings: Settings) -> Evidence:
    worst, tightest = Worst(), (-np.inf, {})
    for cases in logit_blocks(settings, settings.cases):
        excess, used = _rate_deviations(cases, settings)
        worst.add(excess, cases.describe)
        row = int(used.argmax())
        if used[row] > tightest[0]:
            tightest = (used[row], cases.describe(row))
    return claim(
        "gradient within osc(d) (exp(R/T) - 1) / C of its limit",
        worst,
        _GRADIENT,
        settings,
        unit=_RATE_UNIT,
        detail=f"the tightest case uses {tightest[0]:.4f} of the bound "
        f"({place(tightest[1])})",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that different means and a faster rate fail."""
    worst = Worst()
    for cases in logit_blocks(settings, 1000):
        infinite = np.full_like(cases.temperature, np.inf)
        value, _ = value_and_gradients(soft_target_kl(), *cases[1:3], infinite)
        value = np.asarray(value, np.float64)
        matching = np.asarray(losses.logit_matching(*cases[1:3]), np.float64)
        size = matching + negligible(settings)
        worst.add(distance(matching, value) / size, cases.describe)
    yield control(
        "L_inf = LM with different means of student and teacher",
        worst,
        1e-2,
        unit="error relative to LM",
    )
    worst = Worst()
    for cases in logit_blocks(settings, 10_000):
        excess, _ = _rate_deviations(cases, settings, power=2)
        worst.add(excess, cases.describe)
    bound = _GRADIENT.of(settings)
    text = "a rate of second order, exp((R/T)^2) - 1"
    yield control(text, worst, bound, unit=_RATE_UNIT)


CHECK = Check(
    name="T4",
    title="Infinite temperature",
    statement="L_inf = var(d)/2 = LM - mean(d)^2/2, reached at rate exp(R/T) - 1",
    assumptions=("finite logits", "for LM itself: equal means of the logits"),
    claims=claims,
    controls=controls,
)

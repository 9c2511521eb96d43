r"""T11. Distillation is the sum of a target part and a non-target part.

**Statement.** For a class :math:`y`, let :math:`\mathrm{TCKD}` be the divergence
between the two predictions of "y or not y", and :math:`\mathrm{NCKD}` the divergence
between the predictions among the other classes. Then

.. math::
    L_T = \mathrm{TCKD} + (1 - p_T(v)_y)\, \mathrm{NCKD}.

**Proof.** The chain rule of relative entropy: :math:`p_k = (1 - p_y)\, \hat p_k` for
:math:`k \ne y`, likewise for :math:`q`, and the logarithm of a product is a sum.

**In practice.** The more certain the teacher is, the less the non-target part counts.
Decoupled distillation gives each part its own weight.

References:
    Zhao et al., `Decoupled Knowledge Distillation <https://arxiv.org/abs/2203.08679>`_,
    2022, Eq. 7.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from proofs_checks import _plain, _symbolic
from proofs_checks._cases import (
    logit_blocks,
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
)

_CASES = 4000
_SIZES = (10, 100)
_TOLERANCE = Tolerance(float64=1e-11, float32=1e-5, bfloat16=1e-5)


@jax.jit
def _parts(student, teacher, temperature):
    """Compute T^2 TCKD, T^2 NCKD and p_y, where y is the first class."""

    def row(z, v, t):
        log_p, log_q = jax.nn.log_softmax(v / t), jax.nn.log_softmax(z / t)

        def split(log):
            rest = jax.nn.logsumexp(log[1:])
            return jnp.stack([log[0], rest]), log[1:] - rest

        (two_p, rest_p), (two_q, rest_q) = split(log_p), split(log_q)
        scale = t * t
        return (
            scale * _plain.kl(two_p, two_q),
            scale * _plain.kl(rest_p, rest_q),
            jnp.exp(log_p[0]),
        )

    return jax.vmap(row)(student, teacher, temperature)


def _errors(settings: Settings, weigh) -> Worst:
    worst = Worst()
    for cases in logit_blocks(settings, _CASES, sizes=_SIZES):
        # At high temperatures the definitions of the parts cancel.
        spread = np.maximum(
            np.abs(cases.exact[0]).max(-1), np.abs(cases.exact[1]).max(-1)
        )
        ratio = np.random.default_rng(cases.first).uniform(0.05, 2.0, len(spread))
        temperature = (spread * ratio).astype(settings.compute_dtype)
        cases = cases._replace(temperature=temperature)
        value, _ = value_and_gradients(soft_target_kl(), *cases[1:])
        target, rest, mass = (np.asarray(x) for x in _parts(*cases.exact))
        whole = target + weigh(mass) * rest
        size = cases.exact[2] ** 2
        error = distance(value, whole) / size
        worst.add(error / (1.0 + whole / size), cases.describe)
    return worst


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the sum of the parts, measured and symbolic."""
    worst = _errors(settings, lambda mass: 1.0 - mass)
    yield claim(
        "L_T = TCKD + (1 - p_y) NCKD",
        worst,
        _TOLERANCE,
        settings,
        unit="error / (T^2 + L_T)",
    )

    def residuals(s, weight=lambda p: 1 - p):
        p, q = s.softmax(s.v), s.softmax(s.z)
        log = s.sympy.log
        target = p[0] * log(p[0] / q[0]) + (1 - p[0]) * log((1 - p[0]) / (1 - q[0]))
        rest = sum(
            a / (1 - p[0]) * log((a / (1 - p[0])) / (b / (1 - q[0])))
            for a, b in zip(p[1:], q[1:], strict=True)
        )
        whole = sum(a * log(a / b) for a, b in zip(p, q, strict=True))
        return [whole - target - weight(p[0]) * rest]

    yield _symbolic.prove("KL = TCKD + (1 - p_y) NCKD, symbolically", residuals)


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that the sum with equal weights is a different loss."""
    worst = _errors(settings, np.ones_like)
    text = "the weight 1 - p_y replaced by 1"
    yield control(text, worst, 1e-2, unit="error / (T^2 + L_T)")


CHECK = Check(
    name="T11",
    title="Decoupling",
    statement="L_T = TCKD + (1 - p_T(v)_y) NCKD",
    assumptions=("finite logits", "at least two classes"),
    claims=claims,
    controls=controls,
)

r"""T2. Distillation is a variance at a point between teacher and student.

**Statement.** With :math:`d = z - v`,

.. math::
    L_T = \int_0^1 (1 - s) \operatorname{Var}_{\sigma(s)}(d)\, ds
        = \tfrac12 \operatorname{Var}_{\sigma(s^*)}(d), \qquad
    \sigma(s) = \mathrm{softmax}\!\left(\frac{v + s d}{T}\right),

for some :math:`s^* \in [0, 1]`.

**Proof.** Let :math:`A` be log-sum-exp and :math:`g(s) = T^2 A((v + s d)/T)`. Then
:math:`g'(s) = T\, \sigma(s)^\top d`, :math:`g''(s) =
\operatorname{Var}_{\sigma(s)}(d)`, and :math:`L_T = T^2 [A(z/T) - A(v/T) - p^\top d /
T] = g(1) - g(0) - g'(0)`, the remainder of Taylor's formula of first order. Its
integral form is the first equation; the weight :math:`1 - s` is positive with integral
½, and the mean value theorem gives the second.

Source: the derivation is ours.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from proofs_checks._cases import (
    logit_blocks,
    negligible,
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
)

_CASES = 10_000
_SIZES = (10, 100)
# Up to this R/T, Gauss-Legendre quadrature is exact to the last digits of float64.
_NODES = 40
_REACH = 8.0
_TOLERANCE = Tolerance(float64=1e-11, float32=1e-5, bfloat16=1e-5)


@jax.jit
def _variances(student, teacher, temperature, nodes):
    """Compute the variance of d under the softmax at each node: ``[rows, nodes]``."""
    d = student - teacher

    def at(s):
        weights = jax.nn.softmax((teacher + s * d) / temperature[:, None])
        mean = jnp.sum(weights * d, axis=-1, keepdims=True)
        return jnp.sum(weights * jnp.square(d - mean), axis=-1)

    return jax.lax.map(at, nodes).T


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the integral and for the point where the variance matches."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, weights = (nodes + 1) / 2, weights / 2
    integral, bracket = Worst(), Worst()
    for cases in logit_blocks(settings, _CASES, sizes=_SIZES):
        value, _ = value_and_gradients(soft_target_kl(), *cases[1:])
        value = np.asarray(value, np.float64)
        grid = np.linspace(0, 1, 9)
        variances = np.asarray(_variances(*cases.exact, np.concatenate([nodes, grid])))
        quadrature = variances[:, :_NODES] @ (weights * (1 - nodes))
        size = np.maximum(quadrature, negligible(settings))
        deviation = distance(value, quadrature) / size
        within = reach(cases) <= _REACH
        integral.add(np.where(within, deviation, 0.0), cases.describe)
        # The range of the variances contains the loss, and the variance is continuous.
        low, high = 0.5 * variances.min(-1), 0.5 * variances.max(-1)
        outside = np.maximum(low - value, value - high) / np.maximum(
            high, negligible(settings)
        )
        bracket.add(np.where(within, outside, 0.0), cases.describe)
    yield claim(
        f"the loss is the integral, R/T <= {_REACH:g}",
        integral,
        _TOLERANCE,
        settings,
        unit="relative error",
    )
    yield claim(
        "half the variance equals the loss at a point of the segment",
        bracket,
        _TOLERANCE,
        settings,
        unit="distance of the loss from the range of the variance, relative",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that a constant weight and uniform class weights fail."""
    flat, uniform = Worst(), Worst()
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    for cases in logit_blocks(settings, 1500, sizes=(10,)):
        value, _ = value_and_gradients(soft_target_kl(), *cases[1:])
        value = np.asarray(value, np.float64)
        variances = np.asarray(_variances(*cases.exact, (nodes + 1) / 2))
        size = np.maximum(value, negligible(settings))
        within = reach(cases) <= _REACH
        unweighted = variances @ (weights / 4)
        flat.add(
            np.where(within, distance(unweighted, value) / size, 0), cases.describe
        )
        student, teacher, _ = cases.exact
        plain = 0.5 * (student - teacher).var(-1)
        uniform.add(np.where(within, distance(plain, value) / size, 0), cases.describe)
    yield control(
        "the weight 1 - s replaced by its mean", flat, 1e-2, unit="relative error"
    )
    yield control(
        "softmax on the segment replaced by uniform weights",
        uniform,
        1e-2,
        unit="relative error",
    )


CHECK = Check(
    name="T2",
    title="Mean-value form",
    statement="L_T = int_0^1 (1-s) Var_s(d) ds = Var_s*(d) / 2, 0 <= s* <= 1",
    assumptions=("finite logits", "0 < T <= inf"),
    claims=claims,
    controls=controls,
)

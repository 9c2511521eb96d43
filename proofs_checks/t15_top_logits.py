r"""T15. Distillation from the largest logits, bounded by the mass of the others.

**Statement.** Let :math:`K` be some classes, usually the teacher's largest, and let all
others count as one class. Of the others, let :math:`m` and :math:`s` be the teacher's
and the student's total probability, :math:`\tilde p` and :math:`\tilde q` the
predictions among them, :math:`n` their number, and :math:`w` the range of
:math:`d = z - v` over them. The loss of the merged classes is

.. math::
    L_K = T^2 \left[\sum_{k \in K} p_k \log \frac{p_k}{q_k} + m \log \frac{m}{s}\right],
    \qquad L_T = L_K + m\, T^2\, \mathrm{KL}(\tilde p \| \tilde q).

Hence

.. math::
    0 \le L_T - L_K \le m \min\left(T w,\ \tfrac18 w^2\right).

The gradients of both losses agree in every class of :math:`K`. In the others they
differ by :math:`T m (\tilde p_k - \tilde q_k)`, in total

.. math::
    \sum_k \left| \frac{\partial L_T}{\partial z_k}
        - \frac{\partial L_K}{\partial z_k} \right|
    \le 2 T m \tanh \frac{w}{4T} \le 2 T m .

If the mass of the others is only known to be :math:`\hat m`, the total is at most
:math:`2 T \max(m, \hat m)`.

**Proof.** The chain rule of relative entropy gives the sum, as in T11. T3 bounds its
last term by :math:`m w^2/8`. Also :math:`T \log (\tilde p_k / \tilde q_k)` equals
:math:`-d_k` plus a constant that makes the mean of :math:`\tilde p_k / \tilde q_k`
under :math:`\tilde q` equal to 1. So it is at most :math:`w`, and :math:`T^2` times
its mean under :math:`\tilde p` is at most :math:`T w`.

For the gradients, :math:`\partial L_K / \partial z_k = T (q_k - p_k)` in :math:`K`, and
:math:`T (q_k - m \tilde q_k)` in the others, because :math:`\partial \log s / \partial
z_k` is :math:`(\tilde q_k - q_k)/T` there. The total is :math:`2 T m` times the total
variation of :math:`\tilde p` and :math:`\tilde q`. If :math:`A` has the
probabilities :math:`a` and :math:`b` under them, the odds of :math:`A` differ by a
factor of at most :math:`e^{w/T}`, and :math:`|a - b| \le \tanh(w/4T)` follows, with
equality where :math:`b = 1 - a`.

With another mass :math:`\hat m`, the teacher's predictions are :math:`\hat p_k =
p_k (1 - \hat m)/(1 - m)` in :math:`K`, and the total is at most
:math:`T (|m - \hat m| + m + \hat m)`.

**In practice.** :math:`2 T m` needs no logits outside of :math:`K`: it can be computed
from a recording. With a renormalized top k there is no bound at all, because mass that
the student moves out of :math:`K` costs nothing.

Source: ours. The loss is Hinton et al. (2015) on merged classes.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import losses
from proofs_checks import _symbolic
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
from proofs_checks._merged_classes import KEPT, blocks

_CASES = 10_000
# Rounding the merged logits by some epsilon times the spread of the logits changes a
# loss L by up to this times sqrt(2 L), or by its square.
_VALUE = Tolerance(float64=1e-13, float32=1e-5, bfloat16=1e-5)
_GRADIENT = Tolerance(float64=1e-13, float32=1e-5, bfloat16=2e-2)
_VALUE_UNIT = "error / (L_T + spread sqrt(L_T))"
_GRADIENT_UNIT = "error / (largest component + spread)"
_VOCABULARY = 32_000


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the sum, the bounds of value and gradient, and symbolic."""
    chain, value, kept, total = Worst(), Worst(), Worst(), Worst()
    tightest: dict[str, float] = dict.fromkeys(("value", "gradient"), 0.0)
    for block in blocks(settings, _CASES):
        rows, describe = block.rows, block.cases.describe
        left_out = rows.full - rows.sparse
        error = distance(left_out, block.mass * rows.others)
        chain.add(error / block.value_size, describe)
        excess = np.maximum(left_out - block.value_bound, -left_out)
        value.add(excess / block.value_size, describe)
        order = np.argsort(-block.cases.exact[1], axis=-1)[:, :KEPT]
        gradients = (
            np.take_along_axis(x, order, -1)
            for x in (rows.full_gradient, rows.sparse_gradient)
        )
        kept.add(distance(*gradients).max(-1) / block.gradient_size, describe)
        excess = block.total - block.gradient_bound
        total.add(excess / block.gradient_size, describe)
        used = {
            "value": _used(left_out, block.value_bound, block.value_size),
            "gradient": _used(block.total, block.gradient_bound, block.gradient_size),
        }
        tightest = {name: max(x, used[name]) for name, x in tightest.items()}
    text = "L_T = L_K + m T^2 KL among the others"
    yield claim(text, chain, _VALUE, settings, unit=_VALUE_UNIT)
    yield claim(
        "0 <= L_T - L_K <= m min(T w, w^2 / 8)",
        value,
        _VALUE,
        settings,
        unit="excess / (L_T + spread sqrt(L_T))",
        detail=f"the tightest case uses {tightest['value']:.4f} of the bound",
    )
    text = "equal gradients in the top k"
    yield claim(text, kept, _GRADIENT, settings, unit=_GRADIENT_UNIT)
    yield claim(
        "sum |difference of gradients| <= 2 T m tanh(w / 4T)",
        total,
        _GRADIENT,
        settings,
        unit="excess / (largest component + spread)",
        detail=f"the tightest case uses {tightest['gradient']:.4f} of the bound",
    )
    yield _estimated(settings)
    yield _symbolic.prove("KL = KL_K + m KL among the others, symbolically", _residuals)
    yield _vocabulary(settings)


def _used(measured: np.ndarray, bound: np.ndarray, size: np.ndarray) -> float:
    """Return the largest share of the bound, where it exceeds rounding."""
    telling = bound > 1e-3 * size
    return float(np.where(telling, measured / np.where(telling, bound, 1), 0).max())


def _estimated(settings: Settings) -> Evidence:
    worst = Worst()
    for block in blocks(settings, _CASES, lifted=True):
        temperature = block.cases.exact[2]
        bound = 2 * temperature * np.maximum(block.mass, block.estimate)
        excess = np.where(np.isinf(bound), 0.0, block.total - bound)
        worst.add(excess / block.gradient_size, block.cases.describe)
    return claim(
        "sum |difference of gradients| <= 2 T max(m, m'), with another mass m'",
        worst,
        _GRADIENT,
        settings,
        unit="excess / (largest component + spread)",
    )


def _residuals(s, weight=lambda m: m):
    """Merge all classes but the first C - 2, and subtract both sides."""
    p, q, kept = s.softmax(s.v), s.softmax(s.z), len(s.z) - 2
    log, m, mass = s.sympy.log, sum(p[kept:]), sum(q[kept:])
    merged = sum(a * log(a / b) for a, b in zip(p[:kept], q[:kept], strict=True))
    merged += m * log(m / mass)
    among = sum(
        a / m * log((a / m) / (b / mass))
        for a, b in zip(p[kept:], q[kept:], strict=True)
    )
    whole = sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    return [whole - merged - weight(m) * among]


def _vocabulary(settings: Settings) -> Evidence:
    """Compare a loss over 32,000 classes with its bounds, for k from 1 to 16,384."""
    rng = np.random.default_rng(settings.seed)
    # Softened probabilities that fall with the square of the rank.
    teacher = -4.0 * np.log(np.arange(1, _VOCABULARY + 1))
    student = teacher + rng.normal(0, 1, _VOCABULARY)
    temperature = 2.0
    student, teacher = (jnp.asarray(settings.cast(x)) for x in (student, teacher))

    def full(z):
        return losses.soft_target_kl(z, teacher, temperature=temperature)

    value, gradient = jax.jit(jax.value_and_grad(full))(student)
    exact = np.asarray(teacher, np.float64)
    difference = np.asarray(student, np.float64) - exact
    powers = np.exp(exact / temperature)
    counts, worst = 4 ** np.arange(8), Worst()
    curves: dict[str, list[float]] = {name: [] for name in _CURVES}
    for k in counts:
        indices = jnp.arange(k)

        def sparse(z, indices=indices):
            return losses.sparse_soft_target_kl(
                z,
                teacher[indices],
                indices,
                remainder=losses.remainder_logit(
                    teacher, indices, temperature=temperature
                ),
                temperature=temperature,
            )

        merged, merged_gradient = jax.jit(jax.value_and_grad(sparse))(student)
        mass = powers[k:].sum() / powers.sum()
        width = float(np.ptp(difference[k:]))
        points = (
            float(value - merged),
            mass * min(temperature * width, width**2 / 8),
            float(distance(gradient, merged_gradient).sum()),
            2 * temperature * mass * np.tanh(width / (4 * temperature)),
            2 * temperature * mass,
        )
        for name, point in zip(_CURVES, points, strict=True):
            curves[name].append(point)
        excess = max(points[0] - points[1], points[2] - points[3])
        worst.add(excess / float(value), lambda _, k=k: {"k": int(k)})
    series = {name: np.array(curve) for name, curve in curves.items()}
    return claim(
        f"both bounds for {_VOCABULARY:,} classes and k from 1 to 16,384",
        worst,
        Tolerance(float64=1e-12, float32=1e-5, bfloat16=2e-2),
        settings,
        unit="excess / L_T",
        series={"k": counts.astype(float), **series},
    )


_CURVES = (
    "value left out",
    "bound of the value",
    "gradient left out",
    "bound of the gradient",
    "2 T m, from the mass alone",
)


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that renormalizing and a smaller bound fail."""
    unseen, ignored, squared = Worst(), Worst(), Worst()
    for block in blocks(settings, 2000):
        rows, describe = block.rows, block.cases.describe
        excess = rows.full - rows.renormalized - block.value_bound
        unseen.add(excess / block.value_size, describe)
        excess = rows.full - rows.sparse - block.mass * block.value_bound
        squared.add(excess / block.value_size, describe)
        excess = block.total - block.mass * block.gradient_bound
        ignored.add(excess / block.gradient_size, describe)
    text = "predictions renormalized over the top k, which leave out the mass"
    yield control(text, unseen, 1e-2, unit="excess / (L_T + spread sqrt(L_T))")
    text = "the value within m^2 min(T w, w^2 / 8)"
    yield control(text, squared, 1e-3, unit="excess / (L_T + spread sqrt(L_T))")
    text = "the gradient within 2 T m^2 tanh(w / 4T)"
    yield control(text, ignored, 1e-3, unit="excess / (largest component + spread)")
    text = "KL = KL_K + (1 - m) KL among the others, symbolically"
    yield _symbolic.prove(
        text, lambda s: _residuals(s, weight=lambda m: 1 - m), must_fail=True
    )


CHECK = Check(
    name="T15",
    title="Distillation from the largest logits",
    statement="0 <= L_T - L_K <= m min(T w, w^2/8); equal gradients in the top k",
    assumptions=("finite logits", "the mass m of the other classes is known"),
    claims=claims,
    controls=controls,
)

r"""T8. The Hessian of distillation.

**Statement.** With :math:`q = \mathrm{softmax}(z/T)`,

.. math::
    \nabla_z^2 L_T = \operatorname{diag}(q) - q q^\top,

positive semidefinite with kernel :math:`\operatorname{span}(\mathbf 1)`; at :math:`T =
\infty` it is :math:`\frac1C (I - \frac1C \mathbf 1 \mathbf 1^\top)`. Its eigenvalues
other than 0 lie between :math:`\min_k q_k` and :math:`\frac12`.

**Proof.** :math:`\nabla L_T = T (q - p)`, and :math:`T\, \partial q / \partial z` is
the stated matrix, the covariance of a one-hot draw from :math:`q`: :math:`x^\top H x =
\operatorname{Var}_q(x) \ge \min_k q_k \min_c \sum_k (x_k - c)^2`, which is
:math:`\min_k q_k \|x\|^2` for :math:`x \perp \mathbf 1`. By Popoviciu's inequality
:math:`\operatorname{Var}_q(x) \le \frac14 \operatorname{osc}(x)^2 \le \frac12 \|x\|^2`.

**In practice.** The gradient is ½-Lipschitz in the logits at every temperature, and
1/C-Lipschitz at :math:`T = \infty`. Distillation at high temperature is flatter by a
factor of up to C/2. It allows, and needs, larger steps.

Source: the derivation is ours.
"""

from collections.abc import Iterator

import jax
import numpy as np

from proofs_checks import _plain, _symbolic
from proofs_checks._cases import soft_target_kl
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

_ROWS = 300
_SIZES = (2, 10)
_TOLERANCE = Tolerance(float64=1e-13, float32=1e-5, bfloat16=2e-2)


def _draw(settings: Settings, classes: int):
    rng = np.random.default_rng((settings.seed, 8, classes))
    student, teacher = settings.cast(3 * rng.normal(size=(2, _ROWS, classes)))
    temperature = 10.0 ** rng.uniform(np.log10(0.5), 4, _ROWS)
    temperature[rng.random(_ROWS) < 0.1] = np.inf
    return student, teacher, temperature.astype(settings.compute_dtype)


def _hessians(loss, student, teacher, temperature) -> np.ndarray:
    hessian = jax.jit(jax.vmap(jax.hessian(loss)))
    return np.asarray(hessian(student, teacher, temperature), np.float64)


def _predictions(student, temperature) -> np.ndarray:
    z = student.astype(np.float64) / temperature.astype(np.float64)[:, None]
    weights = np.exp(z - z.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _covariances(student, temperature) -> np.ndarray:
    q = _predictions(student, temperature)
    return q[:, :, None] * (np.eye(q.shape[-1]) - q[:, None, :])


def _plain_kl(student, teacher, temperature):
    return _plain.soft_target_kl(student, teacher, temperature=temperature)


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the matrix, its kernel and the range of its eigenvalues."""
    formula, definition, kernel, low, high = (Worst() for _ in range(5))
    for classes in _SIZES:
        student, teacher, temperature = _draw(settings, classes)
        hessian = _hessians(soft_target_kl(), student, teacher, temperature)
        covariance = _covariances(student, temperature)

        def describe(row, classes=classes, temperature=temperature):
            return {
                "classes": classes,
                "row": row,
                "temperature": float(temperature[row]),
            }

        formula.add(distance(hessian, covariance).max((1, 2)), describe)
        moderate = np.clip(temperature, 0.5, 5.0)  # the definition cancels above
        plain = _hessians(
            _plain_kl,
            student.astype(settings.compute_dtype),
            teacher.astype(settings.compute_dtype),
            moderate,
        )
        error = distance(plain, _covariances(student, moderate))
        definition.add(error.max((1, 2)), describe)
        kernel.add(np.abs(hessian.sum(-1)).max(-1), describe)
        eigenvalues = np.linalg.eigvalsh((hessian + hessian.swapaxes(1, 2)) / 2)
        smallest = _predictions(student, temperature).min(-1)
        low.add(np.maximum(smallest - eigenvalues[:, 1], -eigenvalues[:, 0]), describe)
        high.add(eigenvalues[:, -1] - 0.5, describe)
    unit = "largest error of an entry"
    text = "the Hessian is diag(q) - q q^T"
    yield claim(text, formula, _TOLERANCE, settings, unit=unit)
    text = "the Hessian of T^2 KL by its definition, T in [0.5, 5]"
    yield claim(text, definition, Tolerance(1e-13, 1e-5, 1e-5), settings, unit=unit)
    text = "constants are in the kernel"
    yield claim(text, kernel, _TOLERANCE, settings, unit="|H 1|")
    text = "positive semidefinite, second eigenvalue at least min q"
    unit = "distance of an eigenvalue below its bound"
    yield claim(text, low, _TOLERANCE, settings, unit=unit)
    text = "eigenvalues are at most 1/2"
    unit = "distance of an eigenvalue above 1/2"
    yield claim(text, high, _TOLERANCE, settings, unit=unit)

    def residuals(s):
        hessian = s.sympy.hessian(s.kl() / s.scale**2, s.z)
        q = s.softmax(s.z)
        return [
            hessian[i, j] - ((q[i] if i == j else 0) - q[i] * q[j])
            for i in range(len(q))
            for j in range(i + 1)
        ]

    yield _symbolic.prove("Hessian diag(q) - q q^T, symbolically", residuals)


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that a masked class adds a direction to the kernel."""
    worst = Worst()
    student, teacher, temperature = _draw(settings, 10)
    student[:, 0] = teacher[:, 0] = -np.inf
    hessian = _hessians(soft_target_kl(), student, teacher, temperature)
    eigenvalues = np.linalg.eigvalsh(hessian)
    uniform = 1.0 / 9
    worst.add(uniform * 1e-3 - eigenvalues[:, 1], lambda row: {"row": row})
    yield control(
        "the kernel is span(1) with one class masked by -inf",
        worst,
        1e-5,
        unit="distance of the second eigenvalue below its bound",
    )


CHECK = Check(
    name="T8",
    title="Hessian",
    statement="grad^2 L_T = diag(q) - q q^T, semidefinite, kernel span(1)",
    assumptions=("finite student logits",),
    claims=claims,
    controls=controls,
)

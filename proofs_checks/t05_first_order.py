r"""T5. The expansion of distillation in powers of 1/T.

**Statement.** With joint cumulants :math:`\kappa` over equally weighted classes,

.. math::
    L_T = \tfrac12 \kappa(d, d)
        + \tfrac1T \left[\tfrac12 \kappa(v, d, d) + \tfrac16 \kappa(d, d, d)\right]
        + \tfrac1{T^2} \left[\tfrac14 \kappa(v, v, d, d) + \tfrac16 \kappa(v, d, d, d)
        + \tfrac1{24} \kappa(d, d, d, d)\right] + O(T^{-3}).

Up to the third order, cumulants are central moments. From the fourth order on they are
not, and central moments would give wrong coefficients.

**Proof.** By T2 with :math:`\varepsilon = 1/T`, :math:`L_T = \int_0^1 (1-s)
\operatorname{Var}_{\mathrm{softmax}(\varepsilon (v + s d))}(d)\, ds`. The variance is
the second derivative of log-sum-exp, so its :math:`n`-th derivative in
:math:`\varepsilon` at 0 is the cumulant :math:`\kappa(w, \dots, w, d, d)` with
:math:`n` copies of :math:`w = v + s d`. Expand by linearity and integrate, using
:math:`\int (1-s)\, ds = \frac12`, :math:`\int (1-s) s\, ds = \frac16` and
:math:`\int (1-s) s^2\, ds = \frac1{12}`.

**Method.** Taylor-mode differentiation (``jax.experimental.jet``) of
:math:`\varepsilon \mapsto \mathrm{KL}` at exactly :math:`\varepsilon = 0`. Nothing is
extrapolated from high temperatures.

Source: the derivation is ours.
"""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import jet
from jaxtyping import Array, ArrayLike, Float

from proofs_checks import _plain
from proofs_checks._cases import soft_target_kl, value_and_gradients
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

_ROWS = 500
_SIZES = (2, 10, 100)
_ORDER = 4
_TOLERANCE = Tolerance(float64=1e-12, float32=1e-5, bfloat16=1e-5)

Divergence = Callable[..., Float[Array, ""]]
_TERMS = ("1", "1/T", "1/T^2")


def taylor_coefficients(
    divergence: Divergence,
    student: Float[Array, " classes"],
    teacher: Float[Array, " classes"],
    *,
    order: int = _ORDER,
) -> Float[Array, "order1"]:
    """Compute Taylor coefficients of eps -> D(softmax(eps v), softmax(eps z)) at 0.

    Args:
        divergence: Divergence D of two vectors of log-probabilities.
        student: Student logits z.
        teacher: Teacher logits v.
        order: Highest order.

    Returns:
        The coefficients of orders 0 to ``order``. The coefficients of D at orders 2, 3
        and 4 are those of T^2 D at orders 0, 1 and 2 in 1/T.
    """

    def curve(scale):
        return divergence(
            _plain.log_softmax(scale * teacher), _plain.log_softmax(scale * student)
        )

    one, zero = jnp.ones((), student.dtype), jnp.zeros((), student.dtype)
    first, derivatives = jet.jet(curve, (zero,), ([one] + [zero] * (order - 1),))
    scaled = (d / math.factorial(n) for n, d in enumerate(derivatives, start=1))
    return jnp.stack([first, *scaled])


@jax.jit
def _by_taylor_mode(student, teacher):
    return jax.vmap(lambda z, v: taylor_coefficients(_plain.kl, z, v))(student, teacher)


def by_cumulants(student: ArrayLike, teacher: ArrayLike) -> Float[Array, "3"]:
    """Compute the three coefficients of the statement."""
    v = jnp.asarray(teacher)
    d, kappa = jnp.asarray(student) - v, _plain.cumulant
    return jnp.stack(
        [
            kappa(d, d) / 2,
            kappa(v, d, d) / 2 + kappa(d, d, d) / 6,
            kappa(v, v, d, d) / 4 + kappa(v, d, d, d) / 6 + kappa(d, d, d, d) / 24,
        ]
    )


def draw(settings: Settings, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw standard normal logits and compute the natural size of each coefficient."""
    rng = np.random.default_rng((settings.seed, 5, classes))
    student, teacher = settings.cast(rng.normal(size=(2, _ROWS, classes)))
    largest = np.abs(np.stack([student, teacher])).astype(np.float64).max((0, 2))
    return student, teacher, largest[:, None] ** np.arange(2, 5)


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that Taylor mode, cumulants and the library's loss agree."""
    vanish, terms, residual = Worst(), [Worst(), Worst(), Worst()], Worst()
    for classes in _SIZES:
        student, teacher, size = draw(settings, classes)
        wide = student.astype(settings.compute_dtype)
        wide_teacher = teacher.astype(settings.compute_dtype)
        taylor = np.asarray(_by_taylor_mode(wide, wide_teacher), np.float64)
        exact = np.asarray(
            jax.vmap(by_cumulants)(
                student.astype(np.float64), teacher.astype(np.float64)
            )
        )

        def describe(row, classes=classes):
            return {"classes": classes, "row": row}

        vanish.add(np.abs(taylor[:, :2]).max(-1) / size[:, 0], describe)
        for term, worst in enumerate(terms):
            error = distance(taylor[:, term + 2], exact[:, term])
            worst.add(error / size[:, term], describe)
        # At T = 1000 the library's loss minus the three terms is of order 1/T^3.
        temperature = np.full(_ROWS, 1000.0, settings.compute_dtype)
        value, _ = value_and_gradients(soft_target_kl(), student, teacher, temperature)
        expansion = exact @ 1000.0 ** -np.arange(3.0)
        residual.add(distance(value, expansion) / size[:, 0], describe)
    text = "the constant and the linear term of KL are zero"
    unit = "coefficient / max|logit|^2"
    yield claim(text, vanish, _TOLERANCE, settings, unit=unit)
    for name, worst in zip(_TERMS, terms, strict=True):
        text = f"coefficient of {name}: Taylor mode = cumulants"
        unit = "error / max|logit|^(2 + order)"
        yield claim(text, worst, _TOLERANCE, settings, unit=unit)
    yield claim(
        "the library's loss at T = 1000 equals the three terms",
        residual,
        Tolerance(1e-7, 2e-6, 2e-6),
        settings,
        unit="error / max|logit|^2",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that central moments and the reversed KL fail."""
    moments, reverse = Worst(), Worst()

    def fourth_moments(z, v):
        d = z - v
        v, d = v - jnp.mean(v), d - jnp.mean(d)
        return jnp.mean(v * v * d * d / 4 + v * d**3 / 6 + d**4 / 24)

    for classes in _SIZES[1:]:
        student, teacher, size = draw(settings, classes)
        z, v = student.astype(np.float64), teacher.astype(np.float64)
        exact = np.asarray(jax.vmap(by_cumulants)(z, v))

        def describe(row, classes=classes):
            return {"classes": classes, "row": row}

        wrong = np.asarray(jax.vmap(fourth_moments)(z, v))
        moments.add(distance(wrong, exact[:, 2]) / size[:, 2], describe)
        swapped = np.asarray(jax.vmap(by_cumulants)(v, z))
        reverse.add(distance(swapped[:, 1], exact[:, 1]) / size[:, 1], describe)
    unit = "error / max|logit|^(2 + order)"
    text = "coefficient of 1/T^2 from central moments"
    yield control(text, moments, 1e-3, unit=unit)
    text = "coefficient of 1/T of the reversed KL"
    yield control(text, reverse, 1e-3, unit=unit)


CHECK = Check(
    name="T5",
    title="Expansion in 1/T",
    statement="L_T = k(d,d)/2 + (1/T) [k(v,d,d)/2 + k(d,d,d)/6] + O(1/T^2)",
    assumptions=("finite logits",),
    claims=claims,
    controls=controls,
)

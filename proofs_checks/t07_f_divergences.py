r"""T7. At infinite temperature all smooth f-divergences are the same loss.

**Statement.** For :math:`D_f(p \| q) = \sum_k q_k f(p_k / q_k)` with :math:`f(1) = 0`
and :math:`f` twice differentiable at 1,

.. math::
    T^2 D_f(p_T(v) \| p_T(z)) \to \tfrac12 f''(1) \operatorname{var}(d).

Forward KL, reverse KL, 4 · Jensen-Shannon, 2 · squared Hellinger (as :math:`\sum_k
(\sqrt{p_k} - \sqrt{q_k})^2`) and :math:`\chi^2/2` have :math:`f''(1) = 1`, so they have
the same limit.

**Proof.** :math:`p_k / q_k = 1 + \varepsilon (\bar d - d_k) + O(\varepsilon^2)` with
:math:`\varepsilon = 1/T`, and :math:`q_k \to 1/C`. Expand :math:`f` at 1: its linear
term contributes :math:`f'(1) \sum_k (p_k - q_k) = 0`, its quadratic term
:math:`\frac12 f''(1) \varepsilon^2 \operatorname{var}(d)`.

**Limits.** The :math:`f` of total variation has a kink at 1: :math:`T^2 \mathrm{TV}`
grows without bound, like :math:`T`.

**Method.** Taylor mode at :math:`1/T = 0` gives the limit. The distance from the limit
at finite temperatures falls like :math:`1/T`.

Source: the derivation is ours.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from proofs_checks import _plain
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
from proofs_checks.t05_first_order import Divergence, draw, taylor_coefficients

SCALED: dict[str, tuple[float, Divergence]] = {
    "forward KL": (1.0, _plain.kl),
    "reverse KL": (1.0, _plain.reverse_kl),
    "4 Jensen-Shannon": (4.0, _plain.jensen_shannon),
    "2 squared Hellinger": (2.0, _plain.squared_hellinger),
    "chi-squared / 2": (0.5, _plain.chi_squared),
}
"""The divergences, each with the factor that makes f''(1) equal to one."""

_SIZES = (2, 30)
_TEMPERATURES = (100.0, 1000.0)
_TOLERANCE = Tolerance(float64=1e-12, float32=1e-5, bfloat16=1e-5)
_RATE = Tolerance(float64=2.0, float32=2.0, bfloat16=2.0)


@jax.jit
def _taylor(student, teacher):
    """Compute coefficients of orders 0 to 3 in 1/T: ``[divergences, rows, 4]``."""

    def row(divergence):
        return jax.vmap(lambda z, v: taylor_coefficients(divergence, z, v, order=3))

    scaled = (f * row(d)(student, teacher) for f, d in SCALED.values())
    return jnp.stack(list(scaled))


@jax.jit
def at_temperature(student, teacher, temperature):
    """Compute scaled T^2 D from the definitions, and total variation in the last row.

    In float64 the definitions are accurate up to about T = 1e4.

    Args:
        student: Student logits ``[rows, classes]``.
        teacher: Teacher logits ``[rows, classes]``.
        temperature: Temperature T.

    Returns:
        The divergences ``[divergences + 1, rows]``.
    """
    log_p = jax.nn.log_softmax(teacher / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    rows = [f * jax.vmap(d)(log_p, log_q) for f, d in SCALED.values()]
    rows.append(jax.vmap(_plain.total_variation)(log_p, log_q))
    return temperature**2 * jnp.stack(rows)


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for each limit and for its rate of convergence."""
    limit, approach = ({name: Worst() for name in SCALED} for _ in range(2))
    largest = dict.fromkeys(SCALED, 0.0)
    for classes in _SIZES:
        student, teacher, size = draw(settings, classes)
        compute = settings.compute_dtype
        taylor = np.asarray(
            _taylor(student.astype(compute), teacher.astype(compute)), np.float64
        )
        z, v = student.astype(np.float64), teacher.astype(np.float64)
        half = 0.5 * (z - v).var(-1)

        def describe(row, classes=classes):
            return {"classes": classes, "row": row}

        for name, coefficients in zip(SCALED, taylor, strict=True):
            error = distance(coefficients[:, 2], half)
            limit[name].add(error / size[:, 0], describe)
            coefficient = np.abs(coefficients[:, 3] / size[:, 1]).max()
            largest[name] = max(largest[name], float(coefficient))
        for temperature in _TEMPERATURES:
            values = np.asarray(at_temperature(z, v, temperature))
            for name, value in zip(SCALED, values[:-1], strict=True):
                scaled = temperature * distance(value, half) / size[:, 1]
                approach[name].add(scaled, describe)
    table = tuple(
        {
            "divergence": name,
            "error of the limit / max|logit|^2": limit[name].measured,
            "T times the distance from the limit / max|logit|^3": approach[
                name
            ].measured,
            "coefficient of 1/T / max|logit|^3": largest[name],
        }
        for name in SCALED
    )
    for name in SCALED:
        yield claim(
            f"{name}: the limit is var(d) / 2, by Taylor mode",
            limit[name],
            _TOLERANCE,
            settings,
            unit="error / max|logit|^2",
            table=table if name == "forward KL" else (),
        )
        # The definitions are evaluated in float64 for logits of every dtype.
        yield claim(
            f"{name}: the distance from the limit falls like 1/T, T = 100 and 1000",
            approach[name],
            _RATE,
            settings,
            unit="T |T^2 D - var(d)/2| / max|logit|^3",
        )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that a kink at 1 and a wrong factor fail."""
    kink, factor = Worst(), Worst()
    for classes in _SIZES:
        student, teacher, size = draw(settings, classes)
        z, v = student.astype(np.float64), teacher.astype(np.float64)
        half = 0.5 * (z - v).var(-1)
        values = np.asarray(at_temperature(z, v, 1000.0))
        shannon = values[list(SCALED).index("4 Jensen-Shannon")]

        def describe(row, classes=classes):
            return {"classes": classes, "row": row}

        kink.add(1000 * distance(values[-1], half) / size[:, 1], describe)
        factor.add(1000 * distance(shannon / 2, half) / size[:, 1], describe)
    unit = "T |T^2 D - var(d)/2| / max|logit|^3, T = 1000"
    bound = _RATE.of(settings)
    yield control("total variation: f has a kink at 1", kink, bound, unit=unit)
    yield control("2 Jensen-Shannon: f''(1) is 1/2", factor, bound, unit=unit)


CHECK = Check(
    name="T7",
    title="All f-divergences agree",
    statement="T^2 D_f -> f''(1) var(d)/2 for every f twice differentiable at 1",
    assumptions=("finite logits", "f(1) = 0", "f twice differentiable at 1"),
    claims=claims,
    controls=controls,
)

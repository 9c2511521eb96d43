r"""T12. The InfoNCE loss gives a lower bound of mutual information.

**Statement.** With one positive :math:`y \sim p(y \mid x)` among :math:`K` independent
negatives :math:`y_k \sim p(y)`, for every critic

.. math::
    \log(K + 1) - \mathrm{E}\, \ell_\mathrm{NCE} \le I(X; Y), \qquad
    \log(K + 1) - \ell_\mathrm{NCE} \le \log(K + 1).

With the optimal critic :math:`\log p(y \mid x)/p(y)` the first bound is nearly attained
while :math:`I \ll \log K`. For larger :math:`I` the second bound limits the estimate.

**Proof.** The loss is the cross-entropy of guessing which of :math:`K + 1` exchangeable
draws is the positive. The guess carries at most the information that :math:`x` has
about the draws, which is :math:`I(X; Y)` (van den Oord et al. 2018, A.1; Poole et al.
2019). The second bound holds because the loss is not negative.

**Method.** Jointly Gaussian pairs with correlation :math:`\rho` in :math:`n` dimensions
have :math:`I = -\frac n2 \log(1 - \rho^2)`. Expectations are estimated by means over
draws, which must keep the bound up to five standard errors.

**Limits.** If the positive is left out of the denominator, the estimate is
:math:`I - \mathrm{E} \log \frac1K \sum_k e^{s_k}`. By Jensen's inequality it lies
*above* :math:`I`.

References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, Sec. 2.3; Poole et al., `On Variational
    Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_, 2019.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import losses
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
)

_DRAWS = 2000
_ERRORS = 5.0
_INFORMATION = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_NEGATIVES = (3, 63, 511)
_DIMENSIONS = 4


class Estimate(NamedTuple):
    """Monte Carlo estimate of the bound.

    Attributes:
        information: True mutual information, in nats.
        negatives: Number of negatives K.
        mean: log(K + 1) - mean loss, in nats; log(K) - mean loss for the control.
        error: Standard error of the mean.
    """

    information: float
    negatives: int
    mean: float
    error: float


def _critic(x, y, rho):
    """Compute the optimal critic, log p(y | x) / p(y)."""
    variance = 1 - rho**2
    inside = (y - rho * x) ** 2 / variance - y**2
    return -0.5 * jnp.sum(inside + jnp.log(variance), axis=-1)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _losses(key, settings: Settings, negatives: int):
    """Compute losses ``[information, draws]``, with and without the positive.

    The second array leaves the positive out of the denominator.
    """
    x_key, y_key, other_key = jax.random.split(key, 3)
    dtype = settings.compute_dtype
    shape = (_DRAWS, _DIMENSIONS)
    x = jax.random.normal(x_key, shape, dtype)
    noise = jax.random.normal(y_key, shape, dtype)
    others = jax.random.normal(other_key, (_DRAWS, negatives, _DIMENSIONS), dtype)

    def at(information):
        rho = jnp.sqrt(-jnp.expm1(-2 * information / _DIMENSIONS))
        y = rho * x + jnp.sqrt(1 - rho**2) * noise
        positive = _critic(x, y, rho).astype(settings.array_dtype)
        scores = _critic(x[:, None], others, rho).astype(settings.array_dtype)
        kept = losses.info_nce(positive, scores, temperature=1.0)
        left_out = jax.nn.logsumexp(scores.astype(dtype), axis=-1)
        left_out = left_out - positive.astype(dtype)
        return kept, left_out

    return jax.lax.map(at, jnp.asarray(_INFORMATION, dtype))


@functools.cache
def estimates(settings: Settings) -> tuple[list[Estimate], list[Estimate]]:
    """Compute estimates for each mutual information and number of negatives.

    Returns:
        The estimates, and the estimates with the positive left out.
    """
    whole, left_out = [], []
    for negatives in _NEGATIVES:
        key = jax.random.fold_in(jax.random.key(settings.seed), negatives)
        for found, options, loss in zip(
            (whole, left_out),
            (negatives + 1, negatives),
            _losses(key, settings, negatives),
            strict=True,
        ):
            loss = np.asarray(loss, np.float64)
            means = np.log(options) - loss.mean(-1)
            errors = loss.std(-1) / np.sqrt(_DRAWS)
            found.extend(
                Estimate(information, negatives, float(mean), float(error))
                for information, mean, error in zip(
                    _INFORMATION, means, errors, strict=True
                )
            )
    return whole, left_out


def _collect(found, deviation) -> Worst:
    worst = Worst()
    for estimate in found:
        worst.add(deviation(estimate), lambda _, e=estimate: e._asdict())
    return worst


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for both bounds, and evidence that they are attained."""
    found, _ = estimates(settings)
    table = tuple(
        {
            "I (nats)": e.information,
            "K": e.negatives,
            "log(K+1)": float(np.log(e.negatives + 1)),
            "estimate": e.mean,
            "standard error": e.error,
        }
        for e in found
    )
    yield claim(
        "log(K+1) - E loss <= I(X;Y)",
        _collect(found, lambda e: e.mean - e.information - _ERRORS * e.error),
        # Rounded scores are a different critic, for which the bound holds too.
        Tolerance(0.0, 0.0, 0.0),
        settings,
        unit=f"nats above I + {_ERRORS:g} standard errors",
        table=table,
    )
    yield claim(
        "log(K+1) - E loss <= log(K+1)",
        _collect(found, lambda e: e.mean - np.log(e.negatives + 1)),
        Tolerance(0.0, 1e-6, 1e-6),
        settings,
        unit="nats above log(K+1)",
    )
    tight = [e for e in found if e.negatives == 511 and e.information <= 2]
    yield claim(
        "nearly attained for I <= 2 nats and K = 511",
        _collect(tight, lambda e: abs(e.mean - e.information) - _ERRORS * e.error),
        Tolerance(0.05, 0.05, 0.05),
        settings,
        unit=f"nats from I, minus {_ERRORS:g} standard errors",
    )
    full = [e for e in found if e.information == 16 and e.negatives <= 63]
    yield claim(
        "saturates at log(K+1) for I = 16 nats and K <= 63",
        _collect(full, lambda e: np.log(e.negatives + 1) - e.mean),
        Tolerance(0.05, 0.05, 0.05),
        settings,
        unit="nats below log(K+1)",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that the bound fails without the positive in the denominator."""
    _, found = estimates(settings)
    yield control(
        "the positive is left out of the denominator",
        _collect(found, lambda e: e.mean - e.information - _ERRORS * e.error),
        0.0,
        unit=f"nats above I + {_ERRORS:g} standard errors",
    )


CHECK = Check(
    name="T12",
    title="InfoNCE bounds information",
    statement="log(K+1) - E L_NCE <= min(I(X;Y), log(K+1))",
    assumptions=("negatives independent of x", "the positive is in the denominator"),
    claims=claims,
    controls=controls,
)

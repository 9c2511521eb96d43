"""The definitions as one would write them down, independent of the library.

They cancel at high temperatures; in float64 and at moderate ones they are good
references, and Taylor-mode differentiation of them at :math:`1/T = 0` is exact.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Logits = Float[Array, " classes"]
Scalar = Float[Array, ""]


def log_softmax(x: Logits) -> Logits:
    """Without subtracting the largest logit, which Taylor mode cannot pass."""
    return x - jnp.log(jnp.sum(jnp.exp(x)))


def kl(log_p: Logits, log_q: Logits) -> Scalar:
    """Sum of p log(p / q)."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def reverse_kl(log_p: Logits, log_q: Logits) -> Scalar:
    """Sum of q log(q / p)."""
    return kl(log_q, log_p)


def jensen_shannon(log_p: Logits, log_q: Logits) -> Scalar:
    """Mean divergence of p and q from their mixture."""
    log_m = jnp.log(0.5 * (jnp.exp(log_p) + jnp.exp(log_q)))
    return 0.5 * (kl(log_p, log_m) + kl(log_q, log_m))


def squared_hellinger(log_p: Logits, log_q: Logits) -> Scalar:
    """Sum of (sqrt p - sqrt q)^2."""
    return jnp.sum(jnp.square(jnp.exp(0.5 * log_p) - jnp.exp(0.5 * log_q)))


def chi_squared(log_p: Logits, log_q: Logits) -> Scalar:
    """Sum of (p - q)^2 / q."""
    return jnp.sum(jnp.exp(log_q) * jnp.square(jnp.expm1(log_p - log_q)))


def total_variation(log_p: Logits, log_q: Logits) -> Scalar:
    """Half the sum of |p - q|: an f-divergence whose f has a kink at 1."""
    return 0.5 * jnp.sum(jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)))


def cumulant(*variables: Logits) -> Scalar:
    """Joint cumulant of up to four variables, every class weighing the same."""
    centred = [x - jnp.mean(x) for x in variables]

    def moment(*positions):
        product = jnp.ones_like(centred[0])
        for position in positions:
            product = product * centred[position]
        return jnp.mean(product)

    if len(variables) < 4:
        return moment(*range(len(variables)))
    return moment(0, 1, 2, 3) - (
        moment(0, 1) * moment(2, 3)
        + moment(0, 2) * moment(1, 3)
        + moment(0, 3) * moment(1, 2)
    )


def soft_target_kl(student: Logits, teacher: Logits, *, temperature: Scalar) -> Scalar:
    """T^2 KL(p || q) by JAX's own log-softmax: what most training code has."""
    log_p = jax.nn.log_softmax(teacher / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * kl(log_p, log_q)

"""Direct implementations of the definitions, independent of the library.

At high temperatures their terms cancel. In float64 and at moderate temperatures they
are good references, and their Taylor-mode derivatives at :math:`1/T = 0` are exact.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Logits = Float[Array, " classes"]
Scalar = Float[Array, ""]


def log_softmax(x: Logits) -> Logits:
    """Compute log-softmax without subtracting the largest logit.

    Taylor mode has no rule for the maximum.
    """
    return x - jnp.log(jnp.sum(jnp.exp(x)))


def kl(log_p: Logits, log_q: Logits) -> Scalar:
    """Compute the sum of p log(p / q)."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def reverse_kl(log_p: Logits, log_q: Logits) -> Scalar:
    """Compute the sum of q log(q / p)."""
    return kl(log_q, log_p)


def jensen_shannon(log_p: Logits, log_q: Logits) -> Scalar:
    """Compute the mean divergence of p and q from their mixture."""
    log_m = jnp.log(0.5 * (jnp.exp(log_p) + jnp.exp(log_q)))
    return 0.5 * (kl(log_p, log_m) + kl(log_q, log_m))


def squared_hellinger(log_p: Logits, log_q: Logits) -> Scalar:
    """Compute the sum of (sqrt p - sqrt q)^2."""
    return jnp.sum(jnp.square(jnp.exp(0.5 * log_p) - jnp.exp(0.5 * log_q)))


def chi_squared(log_p: Logits, log_q: Logits) -> Scalar:
    """Compute the sum of (p - q)^2 / q."""
    return jnp.sum(jnp.exp(log_q) * jnp.square(jnp.expm1(log_p - log_q)))


def total_variation(log_p: Logits, log_q: Logits) -> Scalar:
    """Compute half the sum of |p - q|, an f-divergence whose f has a kink at 1."""
    return 0.5 * jnp.sum(jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)))


def cumulant(*variables: Logits) -> Scalar:
    """Compute the joint cumulant of up to four variables over equally likely classes.

    Raises:
        AssertionError: If there are more than four variables or their shapes differ.
    """
    chex.assert_scalar_in(len(variables), 1, 4)
    chex.assert_equal_shape(variables)
    centered = [x - jnp.mean(x) for x in variables]

    def moment(*positions):
        product = jnp.ones_like(centered[0])
        for position in positions:
            product = product * centered[position]
        return jnp.mean(product)

    if len(variables) < 4:
        return moment(*range(len(variables)))
    return moment(0, 1, 2, 3) - (
        moment(0, 1) * moment(2, 3)
        + moment(0, 2) * moment(1, 3)
        + moment(0, 3) * moment(1, 2)
    )


def soft_target_kl(student: Logits, teacher: Logits, *, temperature: Scalar) -> Scalar:
    """Compute T^2 KL(p || q) with JAX's log-softmax, as most training code does."""
    log_p = jax.nn.log_softmax(teacher / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * kl(log_p, log_q)

"""Losses as other frameworks compute them, written from their formulas."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

_KERAS_EPSILON = 1e-7
_TOP = 5


def keras_kl(student: Array, teacher: Array, temperature: float = 1.0) -> Array:
    """Compute T² KL of predictions clipped to [1e-7, 1], as Keras clips them.

    ``keras.losses.KLDivergence`` takes probabilities; Keras' example of distillation
    passes it the softmax of the logits over T, and multiplies by T².
    """
    teacher = jax.lax.stop_gradient(teacher)
    p, q = (
        jnp.clip(jax.nn.softmax(x / temperature), _KERAS_EPSILON, 1.0)
        for x in (teacher, student)
    )
    return temperature**2 * jnp.sum(p * jnp.log(p / q), -1)


def top_classes_kl(student: Array, teacher: Array, temperature: float = 1.0) -> Array:
    """Compute T² KL over the teacher's top classes, both renormalized there.

    Losses for a teacher whose top logits alone are stored often compare the two
    predictions on these classes.
    """
    top, classes = jax.lax.top_k(jax.lax.stop_gradient(teacher), _TOP)
    kept = jnp.take_along_axis(student, classes, -1)
    log_p, log_q = (jax.nn.log_softmax(x / temperature) for x in (top, kept))
    p = jnp.exp(log_p)
    return temperature**2 * jnp.sum(p * jnp.where(p > 0.0, log_p - log_q, 0.0), -1)


def plain_kl(student: Array, teacher: Array, temperature: float = 1.0) -> Array:
    """Compute T² sum p (log p - log q), the formula as it is written."""
    teacher = jax.lax.stop_gradient(teacher)
    log_p, log_q = (jax.nn.log_softmax(x / temperature) for x in (teacher, student))
    p = jnp.exp(log_p)
    return temperature**2 * jnp.sum(p * jnp.where(p > 0.0, log_p - log_q, 0.0), -1)


PEERS = {
    keras_kl: "clipped-probabilities",
    top_classes_kl: "top-k-renormalized",
    plain_kl: "rounding-at-high-temperature",
}
"""Each loss and the name that the audit must give to its fault."""

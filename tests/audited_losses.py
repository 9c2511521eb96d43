"""Losses that are right, written plainly, and losses that are hard to call."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import losses


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def log_predictions(student, teacher, t):
    teacher = jax.lax.stop_gradient(teacher)
    return [jax.nn.log_softmax(_wide(x) / t) for x in (teacher, student)]


def hellinger(student, teacher, temperature=1.0):
    log_p, log_q = log_predictions(student, teacher, temperature)
    roots = jnp.exp(0.5 * log_p) - jnp.exp(0.5 * log_q)
    return temperature**2 * jnp.square(roots).sum(-1)


def squared_difference(student, teacher, temperature=1.0):
    log_p, log_q = log_predictions(student, teacher, temperature)
    return temperature**2 * jnp.square(jnp.exp(log_p) - jnp.exp(log_q)).sum(-1)


def cross_entropy(student, teacher, temperature=1.0):
    log_p, log_q = log_predictions(student, teacher, temperature)
    log_q = jnp.where(jnp.isneginf(log_p), 0.0, log_q)
    return -(temperature**2) * (jnp.exp(log_p) * log_q).sum(-1)


def half_the_mean(student, teacher, tau=1.0):
    return 0.5 * losses.soft_target_kl(student, teacher, temperature=tau).mean()


def both_directions(student, teacher, temperature=1.0):
    """Novel: none of the known forms."""
    forward = losses.soft_target_kl(student, teacher, temperature=temperature)
    return forward + losses.reverse_kl(student, teacher, temperature=temperature)


def other_skew(student, teacher, temperature=1.0):
    """Saturates by design, and is none of the known forms."""
    return losses.skewed_kl(student, teacher, skew=0.3, temperature=temperature)


def reverse(student, teacher, temperature=1.0):
    return losses.reverse_kl(student, teacher, temperature=temperature)


def matching(student, teacher):
    d = _wide(student) - jax.lax.stop_gradient(_wide(teacher))
    return 0.5 * jnp.square(d).mean(-1)


def softened_teacher(student, teacher, temperature=1.0):
    return losses.transformed_teacher_matching(
        student, teacher, temperature=temperature
    )


def with_labels(student, teacher, labels, temperature=4.0, alpha=0.5):
    log_q = jax.nn.log_softmax(_wide(student))
    hard = -jnp.take_along_axis(log_q, labels[:, None], -1)[:, 0]
    soft = losses.soft_target_kl(student, teacher, temperature=temperature)
    return alpha * hard + (1.0 - alpha) * soft


def hidden_temperature(student, teacher):
    """No parameter for the temperature, and no factor."""
    log_p, log_q = log_predictions(student, teacher, 4.0)
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)


def branching(student, teacher, temperature=1.0):
    """The temperature decides in Python, so it cannot be traced."""
    if temperature <= 0:
        raise ValueError("temperature must be positive")
    return losses.soft_target_kl(student, teacher, temperature=temperature)


def of_numpy(student, teacher):
    """NumPy cannot be traced, compiled or differentiated."""
    return jnp.asarray(np.square(np.asarray(student) - np.asarray(teacher)).mean(-1))


def value_dependent(student, teacher):
    """Differentiable, but not compilable."""
    d = _wide(student) - jax.lax.stop_gradient(_wide(teacher))
    scale = 1.0 if float(jnp.abs(jax.lax.stop_gradient(d)).max()) >= 0.0 else 2.0
    return scale * 0.5 * jnp.square(d).mean(-1)


def unreduced(student, teacher, temperature=1.0):
    log_p, log_q = log_predictions(student, teacher, temperature)
    log_ratio = jnp.where(jnp.isneginf(log_p), 0.0, log_p - log_q)
    return temperature**2 * jnp.exp(log_p) * log_ratio


def over_the_batch(student, teacher, temperature=1.0):
    """The softmax is over the first axis."""
    teacher = jax.lax.stop_gradient(teacher)
    log_p, log_q = (
        jax.nn.log_softmax(_wide(x) / temperature, 0) for x in (teacher, student)
    )
    log_ratio = jnp.where(jnp.isneginf(log_p), 0.0, log_p - log_q)
    return temperature**2 * (jnp.exp(log_p) * log_ratio).sum(-1)


def wrong_sign(student, teacher, temperature=1.0):
    return -losses.soft_target_kl(student, teacher, temperature=temperature)


def student_stopped(student, teacher, temperature=1.0):
    student = jax.lax.stop_gradient(student)
    return losses.soft_target_kl(student, teacher, temperature=temperature)


def root(student, teacher):
    """A distance of embeddings: its gradient is NaN at zero."""
    d = _wide(student) - jax.lax.stop_gradient(_wide(teacher))
    return jnp.linalg.norm(d, axis=-1)


def first_class_dropped(student, teacher, temperature=1.0):
    return losses.soft_target_kl(
        student[..., 1:], teacher[..., 1:], temperature=temperature
    )


def converted(student, teacher, temperature=1.0):
    """The plain formula, in float32 whatever the inputs."""
    student, teacher = (x.astype(jnp.float32) for x in (student, teacher))
    log_p, log_q = log_predictions(student, teacher, temperature)
    log_ratio = jnp.where(jnp.isneginf(log_p), 0.0, log_p - log_q)
    return temperature**2 * (jnp.exp(log_p) * log_ratio).sum(-1)

"""Ten common mistakes in a distillation loss, and the loss without them.

Each function is the plain formula with one mistake, which its docstring states.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

_EPSILON = 1e-8


def _log_predictions(student: Array, teacher: Array, t: float) -> tuple[Array, Array]:
    teacher = jax.lax.stop_gradient(teacher)
    return jax.nn.log_softmax(teacher / t), jax.nn.log_softmax(student / t)


def _divergence(log_p: Array, log_q: Array) -> Array:
    """Compute p (log p - log q) for each class, with 0 log 0 = 0."""
    p = jnp.exp(log_p)
    return p * jnp.where(p > 0.0, log_p - log_q, 0.0)


def missing_temperature_factor(student, teacher, temperature=4.0):
    """Compute KL without the factor T²."""
    log_p, log_q = _log_predictions(student, teacher, temperature)
    return _divergence(log_p, log_q).sum(-1)


def mean_over_classes(student, teacher, temperature=4.0):
    """Compute the mean over classes and examples, as ``reduction="mean"`` does."""
    log_p, log_q = _log_predictions(student, teacher, temperature)
    return temperature**2 * _divergence(log_p, log_q).mean()


def swapped_arguments(student, teacher, temperature=4.0):
    """Compute KL from the student to the teacher."""
    log_p, log_q = _log_predictions(student, teacher, temperature)
    return temperature**2 * _divergence(log_q, log_p).sum(-1)


def log_target(student, teacher, temperature=4.0):
    """Pass the teacher's log-probabilities where probabilities are expected."""
    target, log_q = _log_predictions(student, teacher, temperature)
    return temperature**2 * jnp.sum(target * (jnp.log(target) - log_q), -1)


def target_exponentiated_twice(student, teacher, temperature=4.0):
    """Pass the teacher's probabilities where log-probabilities are expected."""
    log_p, log_q = _log_predictions(student, teacher, temperature)
    log_target = jnp.exp(log_p)
    terms = jnp.exp(log_target) * (log_target - log_q)
    return temperature**2 * terms.sum(-1)


def softmax_twice(student, teacher, temperature=4.0):
    """Pass predictions where logits are expected."""
    probabilities = jax.nn.softmax(student), jax.nn.softmax(teacher)
    log_p, log_q = _log_predictions(*probabilities, temperature)
    return temperature**2 * _divergence(log_p, log_q).sum(-1)


def temperature_on_one_side(student, teacher, temperature=4.0):
    """Soften the teacher, and forget the student."""
    log_p, _ = _log_predictions(student, teacher, temperature)
    log_q = jax.nn.log_softmax(student)
    return temperature**2 * _divergence(log_p, log_q).sum(-1)


def nan_on_masks(student, teacher, temperature=4.0):
    """Multiply p by the log-ratio, which is NaN for masked classes."""
    log_p, log_q = _log_predictions(student, teacher, temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def epsilon_in_log(student, teacher, temperature=4.0):
    """Add a small number inside of the logarithm."""
    teacher = jax.lax.stop_gradient(teacher)
    p, q = (jax.nn.softmax(x / temperature) for x in (teacher, student))
    terms = p * (jnp.log(p + _EPSILON) - jnp.log(q + _EPSILON))
    return temperature**2 * terms.sum(-1)


def batch_sum(student, teacher, temperature=4.0):
    """Sum over the batch."""
    log_p, log_q = _log_predictions(student, teacher, temperature)
    return temperature**2 * _divergence(log_p, log_q).sum()


def teacher_not_stopped(student, teacher, temperature=4.0):
    """Let the gradient flow into the teacher."""
    log_p, log_q = (jax.nn.log_softmax(x / temperature) for x in (teacher, student))
    return temperature**2 * _divergence(log_p, log_q).sum(-1)


MISTAKES = {
    missing_temperature_factor: "missing-temperature-factor",
    mean_over_classes: "mean-over-classes",
    swapped_arguments: "swapped-arguments",
    log_target: "log-target",
    target_exponentiated_twice: "log-target",
    softmax_twice: "softmax-twice",
    temperature_on_one_side: "temperature-on-one-side",
    nan_on_masks: "masked-nan",
    epsilon_in_log: "epsilon-in-log",
    batch_sum: "batch-sum",
    teacher_not_stopped: "teacher-not-stopped",
}
"""Each loss and the name that the audit must give to its mistake."""

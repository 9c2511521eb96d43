"""Losses with one mistake each, for the properties to notice.

Plain definitions, right but for what their docstrings say. ``right`` has no mistake
other than its rounding errors, and has all the properties in the moderate domain, where
those are small: what the others are rejected for there is their mistake.
"""

import functools

import jax
import jax.numpy as jnp
from jax.core import Tracer


def at_least_float32(logits):
    return logits.astype(jnp.float32) if logits.dtype == jnp.bfloat16 else logits


def constant_if(stop, logits):
    return jax.lax.stop_gradient(logits) if stop else logits


def from_logits(formula):
    """A loss from a formula of student and teacher logits and temperature."""

    @functools.wraps(formula)
    def loss(student, teacher, *, temperature=4.0, stop_teacher_gradient=True):
        teacher = constant_if(stop_teacher_gradient, at_least_float32(teacher))
        return formula(at_least_float32(student), teacher, temperature)

    return loss


def from_predictions(formula):
    """A loss from a formula of log p, log q and temperature."""

    @functools.wraps(formula)
    def loss(student, teacher, temperature):
        log_q, log_p = (jax.nn.log_softmax(x / temperature) for x in (student, teacher))
        return formula(log_p, log_q, temperature)

    return from_logits(loss)


def expected_log_ratio(log_p, log_q):
    """p (log p - log q), with 0 log 0 = 0."""
    p = jnp.exp(log_p)
    return p * jnp.where(p > 0.0, log_p - log_q, 0.0)


def divergence(log_p, log_q):
    return jnp.sum(expected_log_ratio(log_p, log_q), axis=-1)


@from_predictions
def plain(log_p, log_q, temperature):
    """Cancels: in float32 nothing is left of it at high temperatures."""
    return temperature**2 * divergence(log_p, log_q)


def with_limit(*, degrees_of_freedom=0, cost_of_other_classes=jnp.inf):
    """The plain form with the variance as its limit at infinite temperature."""

    @from_logits
    def loss(student, teacher, temperature):
        infinite = jnp.isinf(temperature)
        finite = jnp.where(infinite, 1.0, temperature)
        value = plain(student, teacher, temperature=finite, stop_teacher_gradient=False)

        in_student, in_teacher = ~jnp.isneginf(student), ~jnp.isneginf(teacher)
        shared = in_student & in_teacher
        d = jnp.where(shared, student, 0.0) - jnp.where(shared, teacher, 0.0)
        limit = 0.5 * jnp.var(d, axis=-1, where=shared, ddof=degrees_of_freedom)
        differ = jnp.any(in_student != in_teacher, axis=-1)
        limit = limit + jnp.where(differ, cost_of_other_classes, 0.0)
        return jnp.where(infinite, limit, value)

    return loss


right = with_limit()
"""No mistake."""

sample_variance = with_limit(degrees_of_freedom=1)
"""At infinite temperature the variance divides by C - 1."""

other_classes_ignored_in_the_limit = with_limit(cost_of_other_classes=0.0)
"""At infinite temperature classes that one of the two masks take no part."""


@from_predictions
def wrong_sign(log_p, log_q, temperature):
    """log q - log p."""
    return -(temperature**2) * divergence(log_p, log_q)


@from_predictions
def temperature_not_squared(log_p, log_q, temperature):
    """T KL, whose gradient fades as 1/T."""
    return temperature * divergence(log_p, log_q)


@from_predictions
def no_factor(log_p, log_q, temperature):
    """KL, whose gradient fades as 1/T^2."""
    return divergence(log_p, log_q)


@from_logits
def student_alone_softened(student, teacher, temperature):
    """softmax(v) in the place of softmax(v/T)."""
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * divergence(jax.nn.log_softmax(teacher), log_q)


@from_logits
def teacher_alone_softened(student, teacher, temperature):
    """softmax(z) in the place of softmax(z/T)."""
    log_p = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * divergence(log_p, jax.nn.log_softmax(student))


@from_predictions
def reversed_divergence(log_p, log_q, temperature):
    """KL(q || p)."""
    return temperature**2 * divergence(log_q, log_p)


@from_predictions
def jensen_shannon(log_p, log_q, temperature):
    """The mean divergence from the mean of the predictions."""
    log_mean = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
    both = divergence(log_p, log_mean) + divergence(log_q, log_mean)
    return 0.5 * temperature**2 * both


@from_predictions
def squared_probabilities(log_p, log_q, temperature):
    """The squared difference of the predictions."""
    return temperature**2 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) ** 2, axis=-1)


@from_predictions
def cross_entropy(log_p, log_q, temperature):
    """The teacher's entropy is not subtracted."""
    return -(temperature**2) * jnp.sum(jnp.exp(log_p) * log_q, axis=-1)


@from_predictions
def mean_over_classes(log_p, log_q, temperature):
    """The mean, as some frameworks reduce it."""
    return temperature**2 * jnp.mean(expected_log_ratio(log_p, log_q), axis=-1)


@from_predictions
def last_class_dropped(log_p, log_q, temperature):
    """A slice that is one too short."""
    return temperature**2 * divergence(log_p[..., :-1], log_q[..., :-1])


@from_logits
def softmax_over_the_batch(student, teacher, temperature):
    """The first axis in the place of the last."""
    log_q, log_p = (
        jax.nn.log_softmax(x / temperature, axis=0) for x in (student, teacher)
    )
    return temperature**2 * divergence(log_p, log_q)


@from_predictions
def batch_mean(log_p, log_q, temperature):
    """Reduced, and broadcast back."""
    values = temperature**2 * divergence(log_p, log_q)
    return jnp.full_like(values, jnp.mean(values))


def teacher_not_stopped(
    student, teacher, *, temperature=4.0, stop_teacher_gradient=True
):
    """The switch is ignored: the teacher always learns."""
    return plain(student, teacher, temperature=temperature, stop_teacher_gradient=False)


def teacher_always_stopped(
    student, teacher, *, temperature=4.0, stop_teacher_gradient=True
):
    """The switch is ignored: the teacher never learns."""
    return plain(student, teacher, temperature=temperature)


@from_logits
def student_stopped(student, teacher, temperature):
    """The wrong one of the two is a constant."""
    return plain(
        jax.lax.stop_gradient(student),
        teacher,
        temperature=temperature,
        stop_teacher_gradient=False,
    )


@from_logits
def mean_not_removed(student, teacher, temperature):
    """Logit matching, the limit that holds for equal means alone."""
    return 0.5 * jnp.mean(jnp.square(student - teacher), axis=-1)


@from_logits
def not_normalized(student, teacher, temperature):
    """Logits in the log-ratio, where log-probabilities belong."""
    p = jax.nn.softmax(teacher / temperature)
    return temperature * jnp.sum(p * (teacher - student), axis=-1)


@from_predictions
def epsilon_in_the_logarithm(log_p, log_q, temperature):
    """log(p + 1e-3), a guard that is part of the result."""
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    log_ratio = jnp.log(p + 1e-3) - jnp.log(q + 1e-3)
    return temperature**2 * jnp.sum(p * log_ratio, axis=-1)


@from_predictions
def floored(log_p, log_q, temperature):
    """A largest value with a positive number, against rounding errors."""
    return jnp.maximum(temperature**2 * divergence(log_p, log_q), 1e-3)


@from_predictions
def capped(log_p, log_q, temperature):
    """A smallest value with a constant, against outliers."""
    return jnp.minimum(temperature**2 * divergence(log_p, log_q), 1.0)


@from_predictions
def absolute_terms(log_p, log_q, temperature):
    """Every term made positive."""
    terms = jnp.abs(expected_log_ratio(log_p, log_q))
    return temperature**2 * jnp.sum(terms, axis=-1)


@from_predictions
def in_bits(log_p, log_q, temperature):
    """Logarithms to base 2."""
    return temperature**2 * divergence(log_p, log_q) / jnp.log(2.0)


@from_logits
def computed_in_bfloat16(student, teacher, temperature):
    """In low precision, although the result is not."""
    low = [x.astype(jnp.bfloat16) for x in (student, teacher)]
    log_q, log_p = (jax.nn.log_softmax(x / temperature.astype(x.dtype)) for x in low)
    return temperature**2 * divergence(log_p, log_q).astype(student.dtype)


def low_precision_kept(
    student, teacher, *, temperature=4.0, stop_teacher_gradient=True
):
    """bfloat16 is not widened."""
    teacher = constant_if(stop_teacher_gradient, teacher)
    temperature = jnp.asarray(temperature).astype(student.dtype)
    log_q, log_p = (jax.nn.log_softmax(x / temperature) for x in (student, teacher))
    return temperature**2 * divergence(log_p, log_q)


def concrete_temperature_rounded(
    student, teacher, *, temperature=4.0, stop_teacher_gradient=True
):
    """A temperature that is not traced is made an integer."""
    if not isinstance(temperature, Tracer):
        temperature = jnp.asarray(float(int(temperature) + 1), student.dtype)
    return plain(
        student,
        teacher,
        temperature=temperature,
        stop_teacher_gradient=stop_teacher_gradient,
    )


@from_predictions
def zero_times_infinity(log_p, log_q, temperature):
    """Masked classes are NaN: 0 (-inf - -inf)."""
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


@from_predictions
def masked_log_ratios_zeroed(log_p, log_q, temperature):
    """A class that the student alone masks costs nothing."""
    log_ratio = jnp.where(jnp.isinf(log_p) | jnp.isinf(log_q), 0.0, log_p - log_q)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * log_ratio, axis=-1)


@from_logits
def classes_masked_by_either_ignored(student, teacher, temperature):
    """A class that the teacher alone masks does not count in q."""
    student = jnp.where(jnp.isneginf(teacher), -jnp.inf, student)
    return plain(student, teacher, temperature=temperature, stop_teacher_gradient=False)


def from_difference(formula):
    """A loss without temperature from a formula of z - v."""

    @functools.wraps(formula)
    def loss(student, teacher, *, stop_teacher_gradient=True):
        teacher = constant_if(stop_teacher_gradient, at_least_float32(teacher))
        return formula(at_least_float32(student) - teacher)

    return loss


@from_difference
def sum_of_squares(d):
    """Logit matching without the division by C."""
    return 0.5 * jnp.sum(jnp.square(d), axis=-1)


@from_difference
def not_halved(d):
    """Logit matching without the factor 1/2."""
    return jnp.mean(jnp.square(d), axis=-1)


@from_difference
def centered(d):
    """Logit matching without the gap of the means."""
    return 0.5 * jnp.var(d, axis=-1)


def matching_of_unit_vectors(student, teacher, *, stop_teacher_gradient=True):
    """Logit matching of logits divided by the largest."""
    teacher = constant_if(stop_teacher_gradient, at_least_float32(teacher))
    student = at_least_float32(student)
    z, v = (
        x / (1.0 + jnp.max(jnp.abs(x), axis=-1, keepdims=True))
        for x in (student, teacher)
    )
    return 0.5 * jnp.mean(jnp.square(z - v), axis=-1)


def weighted_by_the_teacher(student, teacher, *, stop_teacher_gradient=True):
    """Logit matching where the teacher's probabilities are the weights."""
    teacher = constant_if(stop_teacher_gradient, at_least_float32(teacher))
    squares = jnp.square(at_least_float32(student) - teacher)
    return 0.5 * jnp.sum(jax.nn.softmax(teacher) * squares, axis=-1)


@from_difference
def absolute_gap(d):
    """The gap of the means without the square."""
    return jnp.abs(jnp.mean(d, axis=-1))


@from_difference
def sum_gap(d):
    """The gap of the sums."""
    return 0.5 * jnp.square(jnp.sum(d, axis=-1))

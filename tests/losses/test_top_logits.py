"""The soft-target loss of the teacher's largest logits, against its definition."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxkd import losses

pytestmark = pytest.mark.usefixtures("quickly_compiled")
# Compiled once for all temperatures.
LOSS = jax.jit(losses.sparse_soft_target_kl)
FULL = jax.jit(losses.soft_target_kl)


def logits(seed=0, rows=6, classes=12, scale=3.0):
    """Return random logits of student and teacher."""
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(2, rows, classes))).astype(np.float32)


def merged(row, indices, temperature):
    """Return the probabilities of the listed classes and of all others together."""
    powers = [mpmath.exp(mpmath.mpf(float(x)) / temperature) for x in row]
    total = mpmath.fsum(powers)
    kept = [powers[i] / total for i in indices]
    others = (x for i, x in enumerate(powers) if i not in set(indices.tolist()))
    return [*kept, mpmath.fsum(others) / total]


def reference(student, teacher, indices, temperature):
    """Compute the loss of each row from the merged probabilities, with 50 digits."""
    values = []
    with mpmath.workdps(50):
        t = mpmath.mpf(temperature)
        for z, v, row in zip(student, teacher, indices, strict=True):
            pairs = zip(merged(v, row, t), merged(z, row, t), strict=True)
            terms = [p * mpmath.log(p / q) for p, q in pairs]
            values.append(float(t * t * mpmath.fsum(terms)))
    return np.array(values)


def sparse(student, teacher, k, temperature, loss=LOSS):
    """Compute the loss from the teacher's top k logits."""
    top = losses.top_logits(teacher, k)
    return loss(
        student,
        top.values,
        top.indices,
        remainder=top.remainder(temperature),
        temperature=temperature,
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("k", [1, 5, 11])
def test_the_loss_is_the_divergence_of_merged_classes(k, temperature):
    student, teacher = logits()
    indices = np.argsort(-teacher, axis=-1)[:, :k]
    expected = reference(student, teacher, indices, temperature)
    # The remainder is rounded to float32, which matters where the loss is small.
    found = sparse(student, teacher, k, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.05, 1e4, 1e8])
def test_the_loss_is_exact_at_extreme_temperatures(temperature):
    student, teacher = logits(scale=1.0)
    indices = np.argsort(-teacher, axis=-1)[:, :3]
    found = LOSS(
        student,
        np.take_along_axis(teacher, indices, -1),
        indices,
        remainder=losses.remainder_logit(teacher, indices, temperature=temperature),
        temperature=temperature,
    )
    expected = reference(student, teacher, indices, temperature)
    np.testing.assert_allclose(found, expected, rtol=5e-6)


def test_at_infinite_temperature_the_others_differ_by_their_means():
    student, teacher = logits().astype(np.float64)
    k, classes = 4, student.shape[-1]
    order = np.argsort(-teacher, axis=-1)
    difference = np.take_along_axis(student - teacher, order, -1)
    others = difference[:, k:].mean(-1, keepdims=True).repeat(classes - k, -1)
    expected = 0.5 * np.concatenate([difference[:, :k], others], -1).var(-1)
    found = sparse(*logits(), k, np.inf)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_all_but_one_class_give_the_full_loss():
    student, teacher = logits(rows=64)
    full = FULL(student, teacher, temperature=2.0)
    found = sparse(student, teacher, student.shape[-1] - 1, 2.0)
    np.testing.assert_allclose(found, full, rtol=1e-5)


def test_mass_outside_the_top_k_costs_as_much_as_in_the_full_loss():
    """A renormalized top k does not see it: there, this loss is zero."""
    teacher = np.array([[9.0, 8.0, -9.0, -9.0]], np.float32)
    student = np.array([[9.0, 8.0, 40.0, -9.0]], np.float32)
    full = FULL(student, teacher, temperature=1.0)
    found = sparse(student, teacher, 2, 1.0)
    np.testing.assert_allclose(found, full, rtol=1e-6)
    assert found > 30


def test_the_gradient_is_that_of_the_full_loss_in_the_top_k():
    student, teacher = logits(rows=32)
    gradient, full = (
        jax.grad(lambda z, loss=loss: loss(z).sum())(jnp.asarray(student))
        for loss in (
            functools.partial(sparse, teacher=teacher, k=4, temperature=4.0),
            functools.partial(FULL, teacher_logits=teacher, temperature=4.0),
        )
    )
    top = np.argsort(-teacher, axis=-1)[:, :4]
    kept = (np.take_along_axis(np.asarray(x), top, -1) for x in (gradient, full))
    np.testing.assert_allclose(*kept, atol=1e-6)
    np.testing.assert_allclose(gradient.sum(-1), 0.0, atol=1e-5)
    assert np.abs(gradient - full).max() > 1e-2


def test_others_without_mass_cost_what_the_student_gives_them():
    student, teacher = logits()
    top = losses.top_logits(teacher, 3)
    found = LOSS(student, top.values, top.indices, remainder=np.full(6, -np.inf, "f"))
    masked = np.full_like(teacher, -np.inf)
    np.put_along_axis(masked, np.asarray(top.indices), np.asarray(top.values), -1)
    np.testing.assert_allclose(found, FULL(student, masked), rtol=1e-6)


def test_no_gradient_reaches_the_teacher_unless_wanted():
    student, teacher = logits()
    top = losses.top_logits(teacher, 3)

    def total(values, remainder, stop):
        return losses.sparse_soft_target_kl(
            student,
            values,
            top.indices,
            remainder=remainder,
            stop_teacher_gradient=stop,
        ).sum()

    found = [
        jax.grad(total, argnums=(0, 1))(top.values, top.remainder(4.0), stop)
        for stop in (True, False)
    ]
    for stopped, free in zip(*found, strict=True):
        assert not stopped.any()
        assert free.any()


def test_the_teachers_gradient_is_that_of_merged_logits():
    student, teacher = logits(rows=3, classes=8)
    top = losses.top_logits(teacher, 3)
    arguments = top.values, top.remainder(4.0)

    def total(values, remainder):
        return losses.sparse_soft_target_kl(
            jnp.asarray(student, values.dtype),
            values,
            top.indices,
            remainder=remainder,
            stop_teacher_gradient=False,
        ).sum()

    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in arguments]
        check_grads(total, wide, order=2, modes=["rev"], rtol=1e-5)


def test_a_traced_class_that_is_listed_twice_or_does_not_exist_gives_nan():
    student, teacher = logits(rows=3, classes=5)
    values = teacher[:, :2]
    indices = np.array([[0, 0], [1, 5], [2, 3]])
    found = LOSS(student, values, indices, remainder=teacher[:, 4])
    np.testing.assert_array_equal(np.isnan(found), [True, True, False])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_indices": np.array([[0, 0]])}, "has the class 0 twice in a row"),
        ({"top_indices": np.array([[0, 4]])}, r"must lie in \[0, 3\].*got 0 to 4"),
        ({"top_indices": np.array([[0, 1, 2]])}, "must have the same shape"),
        ({"remainder": np.zeros((1, 1), "f")}, "one number for each row"),
        ({"temperature": 0.0}, "temperature"),
        (
            {"top_values": np.zeros((1, 4), "f"), "top_indices": np.arange(4)[None]},
            "must list 1 to 3 of 4 classes, got 4",
        ),
        (
            {"student_logits": np.zeros((2, 4), "f")},
            r"shapes \(2, 4\) and \(1, 2\)",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(unchecked, change, message):
    del unchecked
    arguments = {
        "student_logits": np.zeros((1, 4), "f"),
        "top_values": np.zeros((1, 2), "f"),
        "top_indices": np.array([[0, 1]]),
        "remainder": np.zeros(1, "f"),
    } | change
    with pytest.raises(ValueError, match=message):
        losses.sparse_soft_target_kl(**arguments)


@pytest.mark.parametrize("k", [0, 4])
def test_a_number_of_logits_that_is_not_a_part_is_refused(k):
    with pytest.raises(ValueError, match="k must be"):
        losses.top_logits(np.zeros((1, 4), "f"), k)


def test_the_remainder_of_many_classes_without_mass_is_exact():
    """The mean of their exponentials is near 0, which rounds off near -1."""
    _, teacher = logits(rows=2, classes=100_000, scale=20.0)
    found = losses.remainder_logit(teacher, np.zeros((2, 1), int), temperature=1.0)
    others = teacher[:, 1:].astype(np.float64)
    exact = np.log(np.exp(others - 80).mean(-1)) + 80
    np.testing.assert_allclose(found, exact, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.5, 3.0, 20.0])
def test_between_its_temperatures_the_remainder_is_interpolated(temperature):
    _, teacher = logits(scale=2.0)
    top = losses.top_logits(teacher, 3)
    others = np.sort(teacher.astype(np.float64), -1)[:, :-3]
    exact = temperature * np.log(np.exp(others / temperature).mean(-1))
    known = np.array([1.0, 2.0, 4.0, 8.0, np.inf])
    next_one = np.searchsorted(known, temperature)
    high, low = np.asarray(top.remainders)[:, next_one - 1 : next_one + 1].T
    found = top.remainder(temperature)
    assert (found < high).all()
    assert (found > low).all()
    assert (np.abs(found - exact) < 0.2 * (high - low)).all()


def test_bfloat16_is_computed_in_float32():
    student, teacher = logits()
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (student, teacher)]
    found = sparse(*narrow, 3, 4.0)
    assert found.dtype == jnp.float32
    wide = sparse(*(x.astype(jnp.float32) for x in narrow), 3, 4.0)
    np.testing.assert_allclose(found, wide, rtol=2e-2)

"""Soft targets of masked classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import soft_targets as reference
from soft_target_support import TEMPERATURES, evaluate, mask


@pytest.fixture
def logits():
    return tuple(np.random.default_rng(0).normal(0, 3, (2, 4, 7)).astype(np.float32))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_class_masked_in_both_takes_no_part(logits, temperature):
    masked = [mask(x) for x in logits]
    values, gradients = evaluate(*masked, jnp.float32(temperature))
    kept = [np.delete(x, (2, 6), axis=-1) for x in logits]
    expected = reference.soft_target_kl(*kept, temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    for got, wanted in zip(
        gradients, reference.soft_target_kl_gradients(*kept, temperature), strict=False
    ):
        assert not np.any(got[:, [2, 6]])
        got = np.delete(got, (2, 6), axis=-1)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert np.isfinite(gradients[2])


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_class_masked_by_the_teacher_alone_still_counts_in_the_student(
    logits, temperature
):
    student, teacher = logits[0], mask(logits[1])
    values, gradients = evaluate(student, teacher, jnp.float32(temperature))
    expected = reference.soft_target_kl(student, teacher, temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    expected = reference.soft_target_kl_gradients(student, teacher, temperature)
    np.testing.assert_allclose(gradients[0], expected[0], rtol=1e-5, atol=1e-6)


def test_class_masked_by_the_teacher_alone_is_infinite_at_infinite_temperature(logits):
    student, teacher = logits[0], logits[1].copy()
    teacher[0, 3] = -np.inf
    values, _ = evaluate(student, teacher, jnp.float32(np.inf))
    np.testing.assert_array_equal(np.isinf(values), [True, False, False, False])


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_class_masked_by_the_student_alone_costs_infinitely_much(logits, temperature):
    student, teacher = logits[0].copy(), logits[1]
    student[0, 3] = -np.inf
    values, gradients = evaluate(student, teacher, jnp.float32(temperature))
    np.testing.assert_array_equal(values == np.inf, [True, False, False, False])
    assert all(np.isfinite(g).all() for g in gradients[:2])


@pytest.mark.parametrize("temperature", [0.5, 4.0, 100.0])
@pytest.mark.parametrize("value", [-1e9, float(np.finfo(np.float32).min)])
def test_masking_with_a_large_negative_number_works_like_infinity(
    logits, temperature, value
):
    temperature = jnp.float32(temperature)
    results = evaluate(*(mask(x, value=value) for x in logits), temperature)
    expected = evaluate(*(mask(x) for x in logits), temperature)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        results,
        expected,
    )


SMALLEST = float(np.finfo(np.float32).min)
SMALLEST_BFLOAT16 = float(jnp.finfo(jnp.bfloat16).min)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 4.0, 1e8])
@pytest.mark.parametrize("value", [SMALLEST, SMALLEST_BFLOAT16])
@pytest.mark.parametrize("infinite", ["student", "teacher"])
def test_a_mask_of_infinity_agrees_with_one_of_the_smallest_number(
    logits, temperature, value, infinite
):
    temperature = jnp.float32(temperature)
    student, teacher = (
        mask(x, value=-np.inf if name == infinite else value)
        for x, name in zip(logits, ["student", "teacher"], strict=True)
    )
    values, gradients = evaluate(student, teacher, temperature)
    expected_values, expected = evaluate(*map(mask, logits), temperature)
    np.testing.assert_allclose(values, expected_values, rtol=1e-6)
    np.testing.assert_allclose(gradients[0], expected[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("value", [SMALLEST, SMALLEST_BFLOAT16])
def test_class_that_the_student_sets_to_the_smallest_number_costs_infinitely_much(
    logits, temperature, value
):
    student, teacher = logits[0].copy(), logits[1]
    student[0, 3] = value
    values, gradients = evaluate(student, teacher, jnp.float32(temperature))
    np.testing.assert_array_equal(values == np.inf, [True, False, False, False])
    assert np.isfinite(gradients[0]).all()


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_class_that_the_teacher_sets_to_the_smallest_number_counts_in_the_student(
    logits, temperature
):
    temperature = jnp.float32(temperature)
    student, teacher = logits[0], logits[1]
    values, gradients = evaluate(student, mask(teacher, value=SMALLEST), temperature)
    expected_values, expected = evaluate(student, mask(teacher), temperature)
    np.testing.assert_allclose(values, expected_values, rtol=1e-6)
    np.testing.assert_allclose(gradients[0], expected[0], rtol=1e-5, atol=1e-7)

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import holistic as reference

from jaxkd import memory
from jaxkd._errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def step():
    rng = np.random.default_rng(0)
    bank = memory.init_bank(jax.random.key(0), 10, 4)
    embeddings = reference.normalize(rng.normal(size=(2, 3, 4))).astype(np.float32)
    return bank, np.array([7, 0, 4], np.int32), *embeddings


def test_rows_start_uniform_with_length_about_one():
    bank = memory.init_bank(jax.random.key(0), 500, 128)
    limit = 1 / np.sqrt(128 / 3)
    for table in bank:
        assert table.shape == (500, 128)
        assert table.dtype == jnp.float32
        assert np.abs(table).max() <= limit
        np.testing.assert_allclose(np.std(table), limit / np.sqrt(3), rtol=0.01)
        np.testing.assert_allclose(np.linalg.norm(table, axis=1).mean(), 1, rtol=0.01)


def test_both_banks_start_independent():
    student, teacher = memory.init_bank(jax.random.key(0), 500, 128)
    correlation = np.corrcoef(student.ravel(), teacher.ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(student.size)


def test_read_gives_the_rows_of_both_networks(step):
    bank, rows, *_ = step
    old = memory.read(bank, rows)
    np.testing.assert_array_equal(old.student, np.asarray(bank.student)[rows])
    np.testing.assert_array_equal(old.teacher, np.asarray(bank.teacher)[rows])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_update_matches_its_definition(step, momentum, transform):
    bank, rows, student, teacher = step
    update = transform(functools.partial(memory.update, momentum=momentum))
    outputs = {"student": (np.float64(student),), "teacher": (np.float64(teacher),)}
    expected = reference.update([np.float64(x) for x in bank], rows, outputs, momentum)
    for new, table in zip(update(bank, rows, student, teacher), expected, strict=True):
        np.testing.assert_allclose(new, table, rtol=2e-6, atol=1e-7)


def test_updated_rows_have_length_one_and_other_rows_are_unchanged(step):
    bank, rows, student, teacher = step
    others = np.setdiff1d(np.arange(10), rows)
    new = memory.update(bank, rows, student, teacher)
    for before, after in zip(bank, new, strict=True):
        np.testing.assert_allclose(np.linalg.norm(after[rows], axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(after[others], before[others])


def test_rows_beyond_the_bank_are_not_written(step):
    bank, rows, student, teacher = step
    outside = np.where(rows == 0, 10, rows)
    new = memory.update(bank, outside, student, teacher)
    np.testing.assert_array_equal(new.student[0], bank.student[0])
    assert np.isfinite(new.student).all()
    assert np.any(new.student[7] != bank.student[7])


def test_an_embedding_opposite_to_its_row_leaves_zero_not_nan():
    row = jnp.array([[0.6, 0.8]])
    bank = memory.update(memory.Bank(row, row), jnp.array([0]), -row, row, momentum=0.5)
    np.testing.assert_array_equal(bank.student, 0.0)
    np.testing.assert_allclose(bank.teacher, row, rtol=1e-6)


def test_no_gradient_flows_through_new_rows(step):
    bank, rows, student, teacher = step

    def total(student):
        return memory.update(bank, rows, student, teacher).student.sum()

    np.testing.assert_array_equal(jax.grad(total)(student), 0.0)


def test_a_bfloat16_bank_is_computed_in_float32(step):
    bank, rows, student, teacher = step
    half = memory.Bank(*(x.astype(jnp.bfloat16) for x in bank))
    wide = memory.Bank(*(x.astype(jnp.float32) for x in half))
    assert memory.read(half, rows).student.dtype == jnp.float32
    new = memory.update(half, rows, student, teacher)
    expected = memory.update(wide, rows, student, teacher)
    assert new.student.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        new.student.astype(jnp.float32),
        expected.student.astype(jnp.bfloat16).astype(jnp.float32),
    )


def test_banks_of_several_trials_are_updated_together(step):
    bank, rows, student, teacher = step
    other = memory.init_bank(jax.random.key(1), 10, 4)
    both = jax.tree.map(lambda *x: jnp.stack(x), bank, other)
    update = jax.vmap(memory.update, in_axes=(0, None, None, None))
    new = update(both, rows, student, teacher)
    for i, single in enumerate((bank, other)):
        expected = memory.update(single, rows, student, teacher)
        np.testing.assert_allclose(new.student[i], expected.student, rtol=1e-6)


def test_errors_name_the_argument(step):
    bank, rows, student, teacher = step
    with pytest.raises(InvalidInputError, match="rows must be at least 1, got 0"):
        memory.init_bank(jax.random.key(0), 0, 4)
    with pytest.raises(InvalidInputError, match=r"momentum must lie in \[0, 1\]"):
        memory.update(bank, rows, student, teacher, momentum=1.5)
    with pytest.raises(TypeError, match="student must be floating point"):
        inspect.unwrap(memory.update)(bank, rows, np.ones((3, 4), int), teacher)

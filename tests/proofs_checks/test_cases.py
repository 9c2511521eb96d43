import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from proofs_checks import Settings, logit_case
from proofs_checks._cases import (
    ROWS,
    SIZES,
    logit_blocks,
    soft_target_kl,
    value_and_gradients,
)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_case_can_be_drawn_again_by_its_number(dtype):
    settings = Settings(dtype=dtype, seed=3)
    blocks = list(logit_blocks(settings, 2 * ROWS))
    block, row = blocks[1], 17
    number = block.describe(row)["case"]
    again = logit_case(number, seed=3, dtype=dtype)
    expected = tuple(x[row] for x in block[1:])
    chex.assert_trees_all_equal(again, expected, strict=True)


def test_the_drawn_cases_span_what_the_statements_claim():
    blocks = list(logit_blocks(Settings(), 20 * ROWS))
    assert {block.student.shape[-1] for block in blocks} == set(SIZES)
    assert min(SIZES) == 2
    assert max(SIZES) == 1000
    temperatures = np.concatenate([block.temperature for block in blocks])
    finite = temperatures[np.isfinite(temperatures)]
    assert 0.05 <= finite.min() < 0.06
    assert 8e7 < finite.max() <= 1e8
    assert len(finite) < len(temperatures)
    spread = np.concatenate([block.teacher.std(-1) for block in blocks])
    assert spread.min() < 1e-2
    assert spread.max() > 1e3


def test_another_seed_draws_other_cases():
    first, second = (next(logit_blocks(Settings(seed=s), ROWS)) for s in (0, 1))
    assert not np.isin(
        first.temperature[np.isfinite(first.temperature)], second.temperature
    ).any()


def test_logits_that_overflow_the_dtype_are_refused():
    class Narrow(Settings):
        def cast(self, x):
            return np.where(np.abs(x) > 1e3, np.inf, x)

    with pytest.raises(AssertionError, match=r"non-finite value: .*'teacher'"):
        list(logit_blocks(Narrow(), 20 * ROWS))


def test_blocks_of_one_size_share_one_compilation(monkeypatch):
    def loss(student, teacher, *, temperature, stop_teacher_gradient):
        return temperature * jnp.sum(jnp.square(student - teacher))

    traced = chex.assert_max_traces(loss, n=2)
    monkeypatch.setattr(losses, "soft_target_kl", traced)
    blocks = list(logit_blocks(Settings(dtype="float32"), 4 * ROWS, sizes=(2, 10)))
    assert [block.student.shape[-1] for block in blocks] == [2, 10, 2, 10]
    for block in blocks:
        value_and_gradients(soft_target_kl(), *block[1:])


def test_sizes_leave_the_other_blocks_out():
    blocks = list(logit_blocks(Settings(), 3 * ROWS, sizes=(10,)))
    assert [block.student.shape[-1] for block in blocks] == [10, 10, 10]

import jax.numpy as jnp
import numpy as np

from jaxkd import memory


def test_statistics_are_means_of_lengths_and_cosines():
    bank_s, bank_t, student, teacher = np.random.default_rng(0).normal(size=(4, 6, 5))
    found = memory.bank_statistics(
        memory.Bank(*map(jnp.float32, (bank_s, bank_t))),
        np.float32(student),
        np.float32(teacher),
    )

    def cosine(a, b):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.mean(np.sum(a * b, axis=1) / lengths)

    expected = {
        "bank_norm": np.mean(np.linalg.norm([bank_s, bank_t], axis=-1)),
        "student_bank_cosine": cosine(student, bank_s),
        "teacher_bank_cosine": cosine(teacher, bank_t),
        "embedding_cosine": cosine(student, teacher),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_a_bank_of_another_dtype_is_compared_in_that_of_the_embeddings():
    rows = jnp.ones((2, 3), jnp.bfloat16)
    found = memory.bank_statistics(
        memory.Bank(rows, rows),
        np.ones((2, 3), np.float32),
        np.ones((2, 3), np.float32),
    )
    assert {value.dtype for value in found.values()} == {jnp.dtype("float32")}

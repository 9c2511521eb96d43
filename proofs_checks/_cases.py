"""Random logits, drawn in blocks so that any single case can be drawn again."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from jaxkd import losses
from proofs_checks._evidence import Settings

ROWS = 500
"""Number of cases in a block. All cases of a block have the same number of classes."""

SIZES = (2, 10, 100, 1000)
"""Numbers of classes. Blocks cycle through them, with one compilation for each."""

_KINDS = 5


class LogitCases(NamedTuple):
    """Block of cases.

    Attributes:
        first: Number of the first case in the block.
        student: Student logits ``[rows, classes]``, in the dtype of the settings.
        teacher: Teacher logits ``[rows, classes]``, in the dtype of the settings.
        temperature: Temperature of each row, in ``[0.05, 1e8]`` or infinite.
    """

    first: int
    student: np.ndarray
    teacher: np.ndarray
    temperature: np.ndarray

    @property
    def exact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Student, teacher and temperature converted to float64, without rounding."""
        student, teacher, temperature = self[1:]
        return (
            student.astype(np.float64),
            teacher.astype(np.float64),
            temperature.astype(np.float64),
        )

    @property
    def centered_difference(self) -> np.ndarray:
        """``d - mean(d)`` in float64, computed in the widest float of the host.

        If two classes have nearly equal ``d``, the subtraction cancels. In float64 a
        variance would lose eight digits.
        """
        d = self.student.astype(np.longdouble) - self.teacher.astype(np.longdouble)
        return (d - d.mean(-1, keepdims=True)).astype(np.float64)

    def describe(self, row: int) -> dict[str, Any]:
        """Return the location of a case, for :func:`logit_case`."""
        return {
            "case": self.first + row,
            "classes": self.student.shape[-1],
            "temperature": float(self.temperature[row]),
        }


def logit_blocks(
    settings: Settings, cases: int, *, sizes: tuple[int, ...] = SIZES
) -> Iterator[LogitCases]:
    """Yield blocks of logits.

    Args:
        settings: Dtype and seed.
        cases: Total number of cases, rounded up to whole blocks.
        sizes: Numbers of classes to include. Blocks of other sizes are skipped.
    """
    for block in range(math.ceil(cases / ROWS * len(SIZES) / len(sizes))):
        if SIZES[block % len(SIZES)] in sizes:
            yield _draw(settings, block)


def logit_case(
    case: int, *, seed: int = 0, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray, np.generic]:
    """Draw one case of a certificate again.

    Args:
        case: Number of the case, as printed in the certificate.
        seed: Seed of the certificate.
        dtype: Dtype of the certificate.

    Returns:
        Student logits, teacher logits and temperature.
    """
    block, row = divmod(case, ROWS)
    cases = _draw(Settings(dtype=dtype, seed=seed), block)
    return cases.student[row], cases.teacher[row], cases.temperature[row]


def _draw(settings: Settings, block: int) -> LogitCases:
    """Draw a block that cycles through five kinds of logits, at scales 1e-3 to 1e3.

    The kinds are: independent normals; a student close to its teacher; one class apart
    from all others (where the bound of T3 is tightest); opposite signs; heavy tails.
    """
    rng = np.random.default_rng((settings.seed, block))
    classes = SIZES[block % len(SIZES)]
    scale = 10.0 ** rng.uniform(-3, 3, (2, ROWS, 1))
    student, teacher = scale * rng.normal(size=(2, ROWS, classes))
    kind = np.arange(ROWS)[:, None] % _KINDS

    near = teacher + scale[1] * 10.0 ** rng.uniform(-6, 0, (ROWS, 1)) * rng.normal(
        size=(ROWS, classes)
    )
    spike = rng.choice([-1.0, 1.0], (ROWS, 1)) * np.eye(classes)[0]
    apart = scale[1] * spike * (1 + 0.01 * rng.normal(size=(ROWS, 1)))
    tails = [
        x * np.square(x / s) for x, s in zip((student, teacher), scale, strict=True)
    ]
    student = np.choose(kind, [student, near, apart, -teacher, tails[0]])
    teacher = np.choose(kind, [teacher, teacher, scale[1] * spike, teacher, tails[1]])
    temperature = 10.0 ** rng.uniform(np.log10(0.05), 8, ROWS)
    temperature[rng.random(ROWS) < 1 / 32] = np.inf
    student, teacher = settings.cast(student), settings.cast(teacher)
    # Every statement assumes finite logits; a narrow dtype could overflow.
    chex.assert_shape((student, teacher), (ROWS, classes))
    chex.assert_tree_all_finite({"student": student, "teacher": teacher})
    return LogitCases(
        block * ROWS, student, teacher, temperature.astype(settings.compute_dtype)
    )


Loss = Callable[..., jax.Array]
"""A function ``(student, teacher, temperature) -> value`` of one row of logits."""


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(
    loss: Loss, student: Any, teacher: Any, temperature: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Compute a loss and its gradients for each row.

    Args:
        loss: Loss of one row.
        student: Student logits ``[rows, classes]``.
        teacher: Teacher logits ``[rows, classes]``.
        temperature: Temperature of each row.

    Returns:
        The values, and the gradients with respect to student and teacher.
    """
    function = jax.value_and_grad(loss, argnums=(0, 1))
    return jax.vmap(function)(student, teacher, temperature)


def soft_target_kl() -> Loss:
    """Return the library's loss of one row, differentiable in both logits.

    The library's function is looked up in each call, so that a test can replace it with
    a broken one. The same function always returns the same object, which compiles once.
    """
    return _row_loss(losses.soft_target_kl)


@functools.cache
def _row_loss(loss: Callable[..., jax.Array]) -> Loss:
    def row(student, teacher, temperature):
        return loss(
            student, teacher, temperature=temperature, stop_teacher_gradient=False
        )

    return row


def negligible(settings: Settings) -> float:
    """Return the size below which a result comes from numbers that are inexact.

    The dtype cannot hold such small numbers with all their digits.
    """
    info = np.finfo(settings.compute_dtype)
    return float(info.tiny / info.eps)


def oscillation(x: np.ndarray) -> np.ndarray:
    """Return the largest minus the smallest value over the classes."""
    return x.max(-1) - x.min(-1)


def reach(cases: LogitCases) -> np.ndarray:
    """Return R/T, the larger oscillation of the two logits over the temperature."""
    student, teacher, temperature = cases.exact
    return np.maximum(oscillation(student), oscillation(teacher)) / temperature

"""Random logits, drawn block by block so that any case can be drawn again."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import losses
from proofs_checks._evidence import Settings

ROWS = 500
"""Cases per block; all of them have the same number of classes."""

SIZES = (2, 10, 100, 1000)
"""Numbers of classes; blocks take turns, and each is one compilation."""

_KINDS = 5


class LogitCases(NamedTuple):
    """A block of cases.

    Attributes:
        first: Number of its first case.
        student: Logits ``[rows, classes]`` in the dtype of the settings.
        teacher: Likewise.
        temperature: One per row, in ``[0.05, 1e8]`` or infinite.
    """

    first: int
    student: np.ndarray
    teacher: np.ndarray
    temperature: np.ndarray

    @property
    def exact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Student, teacher and temperature in float64: the same numbers."""
        student, teacher, temperature = self[1:]
        return (
            student.astype(np.float64),
            teacher.astype(np.float64),
            temperature.astype(np.float64),
        )

    @property
    def centred_difference(self) -> np.ndarray:
        """d - mean(d) in float64, by way of the host's widest floats.

        Two classes with nearly equal d cancel: eight digits of a variance would go.
        """
        d = self.student.astype(np.longdouble) - self.teacher.astype(np.longdouble)
        return (d - d.mean(-1, keepdims=True)).astype(np.float64)

    def describe(self, row: int) -> dict[str, Any]:
        """Enough to draw the case again with :func:`logit_case`."""
        return {
            "case": self.first + row,
            "classes": self.student.shape[-1],
            "temperature": float(self.temperature[row]),
        }


def logit_blocks(
    settings: Settings, cases: int, *, sizes: tuple[int, ...] = SIZES
) -> Iterator[LogitCases]:
    """Blocks with ``cases`` cases in all, rounded up; ``sizes`` leaves others out."""
    for block in range(math.ceil(cases / ROWS * len(SIZES) / len(sizes))):
        if SIZES[block % len(SIZES)] in sizes:
            yield _draw(settings, block)


def logit_case(
    case: int, *, seed: int = 0, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray, np.generic]:
    """One case of a certificate, to look at it again.

    Args:
        case: Its number, as the certificate names it.
        seed: The certificate's seed.
        dtype: The certificate's dtype.

    Returns:
        Student logits, teacher logits and temperature.
    """
    block, row = divmod(case, ROWS)
    cases = _draw(Settings(dtype=dtype, seed=seed), block)
    return cases.student[row], cases.teacher[row], cases.temperature[row]


def _draw(settings: Settings, block: int) -> LogitCases:
    """Five kinds of logits in turn, at scales from 1e-3 to 1e3.

    Independent normals; a student close to its teacher; one class apart from all
    others (where the bound of T3 is tightest); opposite signs; heavy tails.
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
    return LogitCases(
        block * ROWS,
        settings.cast(student),
        settings.cast(teacher),
        temperature.astype(settings.compute_dtype),
    )


Loss = Callable[..., jax.Array]
"""``(student, teacher, temperature) -> value``, for one row of logits."""


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(
    loss: Loss, student: Any, teacher: Any, temperature: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """A loss and its gradients by student and teacher, each row at its temperature."""
    function = jax.value_and_grad(loss, argnums=(0, 1))
    return jax.vmap(function)(student, teacher, temperature)


def soft_target_kl() -> Loss:
    """The library's loss of one row, differentiable by both logits.

    Looked up anew each time and compiled once, so that a test may put a broken loss in
    its place.
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
    """Below it, a result is made of numbers too small for the dtype to hold exactly."""
    info = np.finfo(settings.compute_dtype)
    return float(info.tiny / info.eps)


def oscillation(x: np.ndarray) -> np.ndarray:
    """Largest minus smallest, over the classes."""
    return x.max(-1) - x.min(-1)


def reach(cases: LogitCases) -> np.ndarray:
    """R/T: the larger oscillation of the two logits, over the temperature."""
    student, teacher, temperature = cases.exact
    return np.maximum(oscillation(student), oscillation(teacher)) / temperature

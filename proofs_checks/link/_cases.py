"""Inputs of the distillation loss, with the library's outputs and their errors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxkd import losses

TEMPERATURES = (1.0, 4.0, 100.0, math.inf)

SIZES = (2, 3, 5, 10, 30, 100)
"""Numbers of classes of the cases with random logits."""

GRADIENT_CLASSES = 10
"""Largest number of classes for which there is a theorem about the gradient."""

_SEED = 2026
_SPREAD = 3.0
_DIGITS = 80
_LEAST = -40


@dataclass(frozen=True)
class Case:
    """Output of the library, and how far it is from the exact number.

    Attributes:
        name: Name of the theorem in Coq.
        temperature: Temperature.
        student: Student logits.
        teacher: Teacher logits.
        value: Loss that ``losses.soft_target_kl`` computed in float64.
        eps: Smallest power of ten that bounds the error of the value.
        gradient: Gradient that ``jax.grad`` computed. None if there are more than
            ``GRADIENT_CLASSES`` classes, or if the temperature is infinite.
        gradient_eps: Smallest power of ten that bounds the error of each component.
    """

    name: str
    temperature: float
    student: tuple[float, ...]
    teacher: tuple[float, ...]
    value: float
    eps: float
    gradient: tuple[float, ...] | None
    gradient_eps: float | None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.student)


def cases() -> list[Case]:
    """Compute the loss and its gradient at the listed inputs, in float64.

    The random logits are normal with standard deviation 3. The other inputs are hard
    in one way each:

    * ``near``: the student is within about 1e-6 of the teacher.
    * ``confident``: one class of the teacher leads by 20.
    * ``agreeing``: student and teacher are confident in the same class.
    * ``opposed``: student and teacher are confident in different classes.
    * ``shifted``: the student's logits are near 1000.
    """
    return [
        measure(f"{name}_T{temperature:g}", student, teacher, temperature)
        for name, student, teacher in _logits()
        for temperature in TEMPERATURES
    ]


def _logits() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, student and teacher."""
    generator = np.random.default_rng(_SEED)

    def draw(classes: int) -> np.ndarray:
        return _SPREAD * generator.standard_normal(classes)

    for classes in SIZES:
        yield f"random_{classes}", draw(classes), draw(classes)
    teacher = draw(10)
    yield "near_10", teacher + 1e-6 * generator.standard_normal(10), teacher
    student, teacher = draw(10), draw(10)
    yield "confident_10", student, _lead(teacher, 0)
    student, teacher = draw(5), draw(5)
    yield "agreeing_5", _lead(student, 0), _lead(teacher, 0)
    yield "opposed_5", _lead(student, 1), _lead(teacher, 0)
    yield "shifted_5", student + 1000.0, teacher


def _lead(logits: np.ndarray, k: int) -> np.ndarray:
    """Put one class 20 above the others."""
    logits = logits.copy()
    logits[k] = logits.max() + 20.0
    return logits


def measure(
    name: str, student: ArrayLike, teacher: ArrayLike, temperature: float
) -> Case:
    """Compute the loss and its gradient at one input, and bound their errors.

    Args:
        name: Name of the case, an identifier in Coq.
        student: Student logits, a vector.
        teacher: Teacher logits, a vector.
        temperature: Temperature, a positive integer or infinity.
    """
    student, teacher = np.asarray(student, float), np.asarray(teacher, float)

    def loss(x: jax.Array) -> jax.Array:
        return losses.soft_target_kl(x, jnp.asarray(teacher), temperature=temperature)

    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(student))
    outputs = float(value), tuple(gradient.tolist())
    eps, gradient_eps = _bounds(student, teacher, temperature, *outputs)
    with_gradient = len(student) <= GRADIENT_CLASSES and temperature < math.inf
    return Case(
        name=name,
        temperature=temperature,
        student=tuple(student.tolist()),
        teacher=tuple(teacher.tolist()),
        value=outputs[0],
        eps=eps,
        gradient=outputs[1] if with_gradient else None,
        gradient_eps=gradient_eps if with_gradient else None,
    )


def _bounds(
    student: np.ndarray,
    teacher: np.ndarray,
    temperature: float,
    value: float,
    gradient: tuple[float, ...],
) -> tuple[float, float]:
    """Return powers of ten that bound the errors of the value and of the gradient."""
    import mpmath  # installed with SymPy; it loads slowly

    with mpmath.workdps(_DIGITS):
        z, v = (list(map(mpmath.mpf, x.tolist())) for x in (student, teacher))
        value_exact, gradient_exact = _exact(mpmath, z, v, temperature)
        return (
            _power_of_ten(mpmath, abs(value_exact - value)),
            _power_of_ten(
                mpmath,
                max(abs(a - b) for a, b in zip(gradient_exact, gradient, strict=True)),
            ),
        )


def _exact(
    mpmath: Any, z: list[Any], v: list[Any], temperature: float
) -> tuple[Any, list[Any]]:
    """Return the loss and its gradient."""
    if temperature == math.inf:
        d = [a - b for a, b in zip(z, v, strict=True)]
        mean = mpmath.fsum(d) / len(d)
        centered = [x - mean for x in d]
        return mpmath.fdot(centered, centered) / (2 * len(d)), [
            x / len(d) for x in centered
        ]
    p, log_p = _softmax(mpmath, v, temperature)
    q, log_q = _softmax(mpmath, z, temperature)
    kl = mpmath.fdot(p, [a - b for a, b in zip(log_p, log_q, strict=True)])
    gradient = [temperature * (b - a) for a, b in zip(p, q, strict=True)]
    return temperature**2 * kl, gradient


def _softmax(
    mpmath: Any, logits: list[Any], temperature: float
) -> tuple[list[Any], list[Any]]:
    """Return the probabilities and their logarithms."""
    scaled = [x / temperature for x in logits]
    log_total = mpmath.log(mpmath.fsum(map(mpmath.exp, scaled)))
    log_softmax = [x - log_total for x in scaled]
    return [mpmath.exp(x) for x in log_softmax], log_softmax


def _power_of_ten(mpmath: Any, error: Any) -> float:
    """Return the smallest power of ten that is not below the error, at least 1e-40."""
    exponent = math.ceil(mpmath.log10(error)) if error else _LEAST
    return float(f"1e{max(exponent, _LEAST)}")

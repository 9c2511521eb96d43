"""Inputs of the distillation loss, with the library's outputs and their errors."""

import math
from collections.abc import Iterator, Sequence
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
        keep: Whether each class is one of the teacher's top k, or None for the loss of
            all classes.
        value: Loss that ``losses.soft_target_kl`` or, from the top k,
            ``losses.sparse_soft_target_kl`` computed in float64.
        eps: Smallest power of ten that bounds the error of the value.
        gradient: Gradient that ``jax.grad`` computed. None if there are more than
            ``GRADIENT_CLASSES`` classes, from the top k and at infinite temperature.
        gradient_eps: Smallest power of ten that bounds the error of each component.
    """

    name: str
    temperature: float
    student: tuple[float, ...]
    teacher: tuple[float, ...]
    keep: tuple[bool, ...] | None
    value: float
    eps: float
    gradient: tuple[float, ...] | None
    gradient_eps: float | None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.student)


def cases() -> list[Case]:
    """Compute the losses, and the gradient of the first, at the listed inputs.

    The random logits are normal with standard deviation 3. The other inputs are hard
    in one way each:

    * ``near``: the student is within about 1e-6 of the teacher.
    * ``confident``: one class of the teacher leads by 20.
    * ``agreeing``: student and teacher are confident in the same class.
    * ``opposed``: student and teacher are confident in different classes.
    * ``shifted``: the student's logits are near 1000.

    Those with at least 10 classes are also cases of the loss from the top k, which is a
    fifth of the classes, at the finite temperatures.
    """
    found = []
    for name, student, teacher in _logits():
        top = len(teacher) // 5
        for temperature in TEMPERATURES:
            at = f"{name}_T{temperature:g}"
            found.append(measure(at, student, teacher, temperature))
            if top >= 2 and temperature < math.inf:
                found.append(
                    measure_top(f"top_{at}", student, teacher, temperature, top)
                )
    return found


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
    z, v = np.asarray(student, float), np.asarray(teacher, float)

    def loss(x: jax.Array) -> jax.Array:
        return losses.soft_target_kl(x, jnp.asarray(v), temperature=temperature)

    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(z))
    with_gradient = len(z) <= GRADIENT_CLASSES and temperature < math.inf
    exact, exact_gradient = _exact(z, v, temperature)
    return Case(
        name=name,
        temperature=temperature,
        student=tuple(z.tolist()),
        teacher=tuple(v.tolist()),
        keep=None,
        value=float(value),
        eps=_bound([exact], [float(value)]),
        gradient=tuple(gradient.tolist()) if with_gradient else None,
        gradient_eps=(
            _bound(exact_gradient, gradient.tolist()) if with_gradient else None
        ),
    )


def measure_top(
    name: str, student: ArrayLike, teacher: ArrayLike, temperature: float, k: int
) -> Case:
    """Compute the loss from the teacher's top k at one input, and bound its error.

    Args:
        name: Name of the case, an identifier in Coq.
        student: Student logits, a vector.
        teacher: Teacher logits, a vector.
        temperature: Temperature, a positive integer.
        k: Number of classes to keep.
    """
    z, v = np.asarray(student, float), np.asarray(teacher, float)
    with jax.enable_x64(True):
        top = losses.top_logits(jnp.asarray(v), k)
        value = losses.sparse_soft_target_kl(
            jnp.asarray(z),
            top.values,
            top.indices,
            remainder=losses.remainder_logit(
                jnp.asarray(v), top.indices, temperature=temperature
            ),
            temperature=temperature,
        )
    keep = np.isin(np.arange(len(v)), top.indices)
    return Case(
        name=name,
        temperature=temperature,
        student=tuple(z.tolist()),
        teacher=tuple(v.tolist()),
        keep=tuple(keep.tolist()),
        value=float(value),
        eps=_bound([_exact_top(z, v, keep, temperature)], [float(value)]),
        gradient=None,
        gradient_eps=None,
    )


def _bound(exact: Sequence[Any], computed: Sequence[float]) -> float:
    """Return the smallest power of ten that bounds the errors, at least 1e-40."""
    import mpmath  # loads slowly

    with mpmath.workdps(_DIGITS):
        error = max(abs(a - b) for a, b in zip(exact, computed, strict=True))
        exponent = math.ceil(mpmath.log10(error)) if error else _LEAST
    return float(f"1e{max(exponent, _LEAST)}")


def _exact(
    student: np.ndarray, teacher: np.ndarray, temperature: float
) -> tuple[Any, list[Any]]:
    """Return the loss and its gradient, with 80 digits."""
    import mpmath

    with mpmath.workdps(_DIGITS):
        if temperature == math.inf:
            logits = zip(student.tolist(), teacher.tolist(), strict=True)
            d = [mpmath.mpf(z) - mpmath.mpf(v) for z, v in logits]
            mean = mpmath.fsum(d) / len(d)
            variance = mpmath.fsum((x - mean) ** 2 for x in d) / len(d)
            return variance / 2, [(x - mean) / len(d) for x in d]
        p, q = (_softmax(mpmath, x, temperature) for x in (teacher, student))
        terms = [a * mpmath.log(a / b) for a, b in zip(p, q, strict=True)]
        gradient = [temperature * (b - a) for a, b in zip(p, q, strict=True)]
        return temperature**2 * mpmath.fsum(terms), gradient


def _exact_top(
    student: np.ndarray, teacher: np.ndarray, keep: np.ndarray, temperature: float
) -> Any:
    """Return the loss from the kept classes, with 80 digits."""
    import mpmath

    with mpmath.workdps(_DIGITS):
        p, q = (_softmax(mpmath, x, temperature) for x in (teacher, student))
        pairs = [
            *((a, b) for a, b, kept in zip(p, q, keep, strict=True) if kept),
            tuple(
                mpmath.fsum(a for a, kept in zip(x, keep, strict=True) if not kept)
                for x in (p, q)
            ),
        ]
        return temperature**2 * mpmath.fsum(a * mpmath.log(a / b) for a, b in pairs)


def _softmax(mpmath: Any, logits: np.ndarray, temperature: float) -> list[Any]:
    weights = [mpmath.exp(mpmath.mpf(x) / temperature) for x in logits.tolist()]
    total = mpmath.fsum(weights)
    return [x / total for x in weights]

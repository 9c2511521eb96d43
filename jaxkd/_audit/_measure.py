"""Values and derivatives of the loss for all cases."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd._audit._cases import Cases
from jaxkd._audit._subject import Subject, first_line, total
from proofs_checks._programs import compiler_options


@dataclasses.dataclass(frozen=True)
class Results:
    """Results in one dtype, one entry for each case.

    Attributes:
        value: Sum of the loss's values, ``[n]``.
        student: The student's gradient, of the shape of the inputs.
        teacher: The teacher's gradient.
        curvature: The student's Hessian times a fixed vector.
        dtype: Dtype of the loss's values.
    """

    value: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    curvature: np.ndarray
    dtype: Any

    @property
    def rows(self) -> np.ndarray:
        """The student's gradient as one vector for each case."""
        return self.student.reshape(len(self.student), -1)


@dataclasses.dataclass(frozen=True)
class Compilation:
    """How far the loss can be compiled.

    Attributes:
        traced_temperature: Whether the temperature may be traced.
        error: The error of compiling the loss, or an empty string.
    """

    traced_temperature: bool
    error: str = ""


def compilation(subject: Subject, shape: tuple[int, ...]) -> Compilation:
    """Find out whether the loss, and its temperature, can be traced."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    y = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    t = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        jax.eval_shape(total(subject), x, x, y, t)
        return Compilation(True)
    except Exception:
        concrete = lambda s, v, y: total(subject)(s, v, y, 4.0)
    try:
        jax.eval_shape(concrete, x, x, y)
    except Exception as error:
        return Compilation(False, f"{type(error).__name__}: {first_line(error)}")
    return Compilation(False)


def evaluate(
    subject: Subject, cases: Cases, dtype: Any, how: Compilation, *, chosen: Any = None
) -> Results:
    """Evaluate the loss and its derivatives.

    Args:
        subject: The loss.
        cases: The inputs.
        dtype: Dtype of the inputs.
        how: How far the loss can be compiled.
        chosen: Positions of the cases; by default all.
    """
    chosen = np.arange(len(cases.group)) if chosen is None else chosen
    with jax.enable_x64(dtype == np.float64):
        arrays = _arrays(cases, dtype, chosen)
        temperatures = cases.temperature[chosen]
        if how.traced_temperature and not how.error and dtype != jnp.bfloat16:
            wide = jnp.float64 if dtype == np.float64 else jnp.float32
            program = compile_once(jax.vmap(_probe(subject)))
            found = program(*arrays, jnp.asarray(temperatures, wide))
        else:
            found = _by_temperature(subject, arrays, temperatures, how)
    value, *derivatives = (np.asarray(x).astype(np.float64) for x in found)
    return Results(value, *derivatives, dtype=np.asarray(found[0]).dtype)


def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without expensive optimizations: the program runs once."""
    return jax.jit(function, compiler_options=compiler_options())


def _arrays(cases: Cases, dtype: Any, chosen: np.ndarray) -> tuple[jax.Array, ...]:
    student, teacher = (
        jnp.asarray(x[chosen].astype(jnp.dtype(dtype)))
        for x in (cases.student, cases.teacher)
    )
    return student, teacher, jnp.asarray(cases.labels[chosen])


def _probe(subject: Subject) -> Callable[..., Any]:
    """Return a function of one case: its value and derivatives."""
    loss = total(subject)

    def probe(student: Any, teacher: Any, labels: Any, t: Any) -> tuple[Any, ...]:
        def both(student: Any) -> Any:
            of_both = lambda s, v: loss(s, v, labels, t)
            value, pull_back = jax.vjp(of_both, student, teacher)
            return value, *pull_back(jnp.ones_like(value))

        # Any direction that no symmetry singles out.
        count = jnp.arange(1, student.size + 1).reshape(student.shape)
        direction = jnp.cos(count.astype(student.dtype))
        results, tangents = jax.jvp(both, (student,), (direction,))
        return *results, tangents[1]

    return probe


def _by_temperature(
    subject: Subject,
    arrays: tuple[jax.Array, ...],
    temperatures: np.ndarray,
    how: Compilation,
) -> list[np.ndarray]:
    """Evaluate with Python numbers as temperatures, and one by one if need be."""
    results: list[Any] = [None] * len(temperatures)
    for t in map(float, np.unique(temperatures)):
        rows = np.flatnonzero(temperatures == t)
        probe = functools.partial(_probe(subject), t=t)
        selected = [x[rows] for x in arrays]
        if how.error:
            found = [probe(*(x[i] for x in selected)) for i in range(len(rows))]
        else:
            mapped = compile_once(jax.vmap(probe))(*selected)
            found = [tuple(x[i] for x in mapped) for i in range(len(rows))]
        for row, result in zip(rows, found, strict=True):
            results[row] = result
    return [
        np.stack([np.asarray(x) for x in part]) for part in zip(*results, strict=True)
    ]

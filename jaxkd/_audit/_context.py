"""Everything that the checks of one audit share: inputs, results, and references."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd._audit import _cases
from jaxkd._audit._cases import Cases
from jaxkd._audit._identify import Identity, identify, with_guard
from jaxkd._audit._measure import (
    Compilation,
    Results,
    compilation,
    compile_once,
    evaluate,
)
from jaxkd._audit._subject import Subject, first_line, first_values, total
from jaxkd._errors import InvalidInputError

BATCH = 6
_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Returns:
    """What a loss returns for a batch.

    Attributes:
        text: Description for people.
        rows: Whether each example is treated alone.
        sums: Whether it is one number that grows with the number of examples.
        unreduced: Whether it has several values for each example.
    """

    text: str
    rows: bool
    sums: bool
    unreduced: bool


@dataclasses.dataclass(frozen=True)
class Context:
    """What the checks of an audit work with.

    Attributes:
        subject: The loss.
        cases: The inputs.
        wide: Results in float64.
        narrow: Results in float32.
        how: How far the loss can be compiled.
        returns: What the loss returns.
        identity: The known form that it computes, or None.
        excepted: Names of the properties that are not expected.
        seed: Seed.
    """

    subject: Subject
    cases: Cases
    wide: Results
    narrow: Results
    how: Compilation
    returns: Returns
    identity: Identity | None
    excepted: frozenset[str]
    seed: int

    @functools.cached_property
    def value(self) -> np.ndarray:
        """The right value of each case: of the known form, or in float64."""
        return self._reference[0]

    @functools.cached_property
    def gradient(self) -> np.ndarray:
        """The right student's gradient of each case, as one row."""
        return self._reference[1]

    @functools.cached_property
    def _reference(self) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = self.wide.value, self.wide.rows
        if self.identity is not None and self.identity.right and self.returns.rows:
            exact, slope = self.identity.reference(self.cases)
            # The audited and the exact form are both infinite or NaN at some masks.
            value = np.where(np.isfinite(exact), exact, value)
            if slope is not None:
                gradient = np.where(np.isfinite(slope), slope, gradient)
        return value, gradient

    @property
    def form(self) -> str:
        """What the values are compared with, for people."""
        if self.identity is not None and self.identity.right:
            return self.identity.text
        return "the same loss in float64"

    @functools.cached_property
    def guard(self) -> tuple[str, float] | None:
        """Name and size of a guard in the logarithm, if there is one."""
        if self.identity is None or self.identity.guard is not None:
            return None if self.identity is None else self.identity.guard
        found = with_guard(self.identity, self.cases, self.narrow)
        return None if found is None else found.guard

    @functools.cached_property
    def typical_value(self) -> float:
        """The size of the values at ordinary inputs."""
        return _median(np.abs(self.wide.value[self.cases.of("ordinary")]))

    @functools.cached_property
    def typical_gradient(self) -> float:
        """The size of the gradient's largest component at ordinary inputs."""
        rows = self.wide.rows[self.cases.of("ordinary")]
        return _median(np.abs(rows).max(-1))

    def text(self, case: int) -> str:
        """Describe a case."""
        return self.cases.text[case]


def _median(x: np.ndarray) -> float:
    finite = x[np.isfinite(x)]
    return max(float(np.median(finite)) if len(finite) else 1.0, 1e-30)


def build(
    subject: Subject, *, classes: int, excepted: frozenset[str], seed: int
) -> Context:
    """Evaluate the loss for all inputs, and recognize it.

    Raises:
        InvalidInputError: If the loss cannot be called.
    """
    sample = _cases.draw(subject, batch=BATCH, classes=classes, seed=seed)
    x, v, y = sample.student[0], sample.teacher[0], sample.labels[0]
    returns = _returns(subject, x, v, y)
    batch = 1 if returns.rows else BATCH
    cases = _cases.draw(subject, batch=batch, classes=classes, seed=seed)
    how = compilation(subject, cases.student.shape[1:])
    try:
        wide = evaluate(subject, cases, np.float64, how)
        narrow = evaluate(subject, cases, np.float32, how)
    except Exception as error:
        raise InvalidInputError(
            f"JAX cannot differentiate {subject.name}: {type(error).__name__}: "
            f"{first_line(error)}. Use jnp instead of np and float()",
            argument="loss",
        ) from error
    identity = None
    if subject.of_logits and returns.rows and not subject.labeled:
        identity = identify(
            *(cases, wide, narrow),
            has_temperature=subject.temperature is not None,
            more_classes=lambda: _more_classes(subject, classes, seed, how),
        )
    return Context(
        *(subject, cases, wide, narrow, how, returns, identity, excepted, seed)
    )


def _more_classes(
    subject: Subject, classes: int, seed: int, how: Compilation
) -> tuple[Cases, np.ndarray]:
    """Evaluate ordinary inputs with twice as many classes."""
    every = _cases.draw(subject, batch=1, classes=2 * classes, seed=seed)
    chosen = every.of("ordinary")[:8]
    cases = dataclasses.replace(
        every,
        **{
            field.name: getattr(every, field.name)[chosen]
            for field in dataclasses.fields(every)
            if field.name != "text"
        },
    )
    loss = total(subject)
    one = lambda s, v, y: loss(s, v, y, 1.0)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in (cases.student, cases.teacher, cases.labels)]
        if how.error:
            values = [one(*each) for each in zip(*arrays, strict=True)]
        else:
            values = compile_once(jax.vmap(one))(*arrays)
    return cases, np.asarray(values, np.float64)


def _returns(subject: Subject, x: Any, v: Any, y: Any) -> Returns:
    """Compare the values of a batch with those of its examples alone."""
    with jax.enable_x64(True):
        call = _caller(subject)
        whole = np.asarray(call(x, v, y), np.float64)
        try:
            alone = [
                np.asarray(call(*(a[i : i + 1] for a in (x, v, y))), np.float64)
                for i in range(len(x))
            ]
        except InvalidInputError:  # it compares the examples of a batch
            alone = [np.full(1, np.nan)] * len(x)
    shape = whole.shape
    size = np.abs(np.nan_to_num(whole)).max() + 1e-12
    near = lambda a, b: np.allclose(a, b, _TOLERANCE, _TOLERANCE * size, equal_nan=True)
    sums = np.array([a.sum() for a in alone])
    if shape == ():
        if near(whole, sums.mean()):
            return Returns("one number, the mean over the batch", True, False, False)
        if near(whole, sums.sum()):
            return Returns("one number, the sum over the batch", True, True, False)
        return Returns("one number for the batch", False, False, False)
    if shape == (len(x),):
        if near(whole, sums):
            return Returns("one value per example", True, False, False)
        return Returns(
            "one value per example, which depends on the others", False, False, False
        )
    text = f"an array of shape {shape} for {len(x)} examples"
    rows = shape[:1] == (len(x),) and near(whole.reshape(len(x), -1).sum(-1), sums)
    return Returns(text, rows, False, shape[:1] == (len(x),))


def _caller(subject: Subject) -> Callable[..., Any]:
    """Return the loss at temperature 4, compiled if it can be."""

    def call(x: Any, v: Any, y: Any) -> Any:
        x, v = jnp.asarray(x, jnp.float64), jnp.asarray(v, jnp.float64)
        return subject(x, v, jnp.asarray(y, jnp.int32), 4.0)

    def first(x: Any, v: Any, y: Any) -> Any:
        arrays = (jnp.asarray(x), jnp.asarray(v), jnp.asarray(y, jnp.int32))
        return first_values(subject, *arrays)

    compiled = compile_once(call)

    def attempt(x: Any, v: Any, y: Any) -> Any:
        try:
            return compiled(x, v, y)
        except Exception:  # it cannot be traced, or cannot be called
            return first(x, v, y)

    return attempt

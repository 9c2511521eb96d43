"""What a check is, and what it leaves behind."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


class Settings(NamedTuple):
    """What a certificate is made for.

    Attributes:
        dtype: Of the logits, images and networks: ``"float64"`` for the identities,
            ``"float32"`` or ``"bfloat16"`` for what floating point keeps of them.
        seed: Source of every random case.
        cases: Random cases of the statements that are checked on many; the others
            take fixed numbers of their own.
    """

    dtype: str = "float64"
    seed: int = 0
    cases: int = 100_000

    @property
    def array_dtype(self) -> np.dtype:
        """The dtype as NumPy knows it."""
        return jnp.dtype(self.dtype)

    @property
    def compute_dtype(self) -> np.dtype:
        """The dtype that losses compute in: at least float32."""
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    def cast(self, x: Any) -> np.ndarray:
        """An array in the dtype."""
        return np.asarray(x).astype(self.array_dtype)


class Tolerance(NamedTuple):
    """How far floating point may move a statement; None where it does not keep it."""

    float64: float
    float32: float | None
    bfloat16: float | None

    def of(self, settings: Settings) -> float | None:
        """The tolerance in a dtype."""
        return getattr(self, settings.dtype)


class Verdict(enum.Enum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "FAILS"
    LOST = "lost to rounding"
    REFUTED = "fails, as it must"
    NOT_REFUTED = "HOLDS, BUT MUST FAIL"
    SKIPPED = "skipped"

    @property
    def failure(self) -> bool:
        """Whether the certificate has to exit with an error."""
        return self in (Verdict.FAILS, Verdict.NOT_REFUTED)


@dataclass(frozen=True)
class Evidence:
    """The outcome of one claim of a statement.

    Attributes:
        claim: What was checked, in a line.
        verdict: Whether it held; for a control, whether it failed as it must.
        cases: How many cases were tried.
        measured: The worst deviation found.
        bound: What it must not exceed (a control: what it must exceed). None if the
            dtype is known not to keep the claim.
        unit: What the deviation is.
        detail: What else is worth knowing, such as the tightest case.
        worst: Where the worst deviation was, enough to compute it again.
        table: Rows for a table of their own in the report.
        series: Curves for the plots, by name.
    """

    claim: str
    verdict: Verdict
    cases: int = 0
    measured: float = 0.0
    bound: float | None = 0.0
    unit: str = ""
    detail: str = ""
    worst: Mapping[str, Any] = field(default_factory=dict)
    table: tuple[Mapping[str, Any], ...] = ()
    series: Mapping[str, np.ndarray] = field(default_factory=dict)


class Worst:
    """Keeps the largest deviation over many cases, and where it was."""

    def __init__(self) -> None:
        self.cases = 0
        self.measured = -np.inf
        self.where: dict[str, Any] = {}

    def add(
        self, deviations: Any, describe: Callable[[int], Mapping[str, Any]]
    ) -> None:
        """Takes one deviation per case; NaN counts as infinite.

        Args:
            deviations: One number per case.
            describe: Called with the position of a new worst case.
        """
        values = np.atleast_1d(np.asarray(deviations, np.float64))
        values = np.where(np.isnan(values), np.inf, values)
        first = self.cases == 0
        self.cases += len(values)
        position = int(values.argmax())
        if first or values[position] > self.measured:
            self.measured = float(values[position])
            self.where = dict(describe(position))


def claim(
    text: str,
    worst: Worst,
    tolerance: Tolerance,
    settings: Settings,
    *,
    unit: str,
    **more: Any,
) -> Evidence:
    """Evidence that the worst deviation is within the tolerance of the dtype."""
    bound = tolerance.of(settings)
    if bound is None:
        verdict = Verdict.LOST
    else:
        verdict = Verdict.HOLDS if worst.measured <= bound else Verdict.FAILS
    return _evidence(text, verdict, worst, bound, unit, more)


def control(
    text: str, worst: Worst, bound: float | None, *, unit: str, **more: Any
) -> Evidence:
    """Evidence that a claim fails, beyond ``bound``, once an assumption is dropped."""
    refuted = bound is not None and worst.measured > bound
    verdict = Verdict.REFUTED if refuted else Verdict.NOT_REFUTED
    return _evidence(text, verdict, worst, bound, unit, more)


def _evidence(text, verdict, worst: Worst, bound, unit, more) -> Evidence:
    return Evidence(
        claim=text,
        verdict=verdict,
        cases=worst.cases,
        measured=worst.measured,
        bound=bound,
        unit=unit,
        worst=worst.where,
        **more,
    )


@dataclass(frozen=True)
class Check:
    """A statement as a program.

    Attributes:
        name: Such as ``"T3"``.
        title: Its name in words.
        statement: The formula, in a line of plain text.
        assumptions: What it needs.
        claims: Yields evidence that it holds.
        controls: Yields evidence that it fails where an assumption is dropped.
    """

    name: str
    title: str
    statement: str
    assumptions: tuple[str, ...]
    claims: Callable[[Settings], Iterable[Evidence]]
    controls: Callable[[Settings], Iterable[Evidence]]

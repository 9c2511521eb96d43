"""The form of a check, and the evidence that it returns."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np


class Settings(NamedTuple):
    """Settings of a certificate.

    Attributes:
        dtype: Dtype of the logits, images and networks. ``"float64"`` tests the
            identities; ``"float32"`` and ``"bfloat16"`` test how well floating point
            keeps them.
        seed: Seed of every random case.
        cases: Number of random cases for the statements that are checked on many
            cases. The other statements use fixed numbers of cases.
    """

    dtype: str = "float64"
    seed: int = 0
    cases: int = 100_000

    @property
    def array_dtype(self) -> np.dtype:
        """The dtype as a NumPy dtype."""
        return jnp.dtype(self.dtype)

    @property
    def compute_dtype(self) -> np.dtype:
        """The dtype that losses compute in: at least float32."""
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    def cast(self, x: Any) -> np.ndarray:
        """Return ``x`` as an array of the dtype."""
        return np.asarray(x).astype(self.array_dtype)


class Tolerance(NamedTuple):
    """Largest deviation that a statement may have in each dtype.

    None means that rounding in that dtype does not keep the statement.
    """

    float64: float
    float32: float | None
    bfloat16: float | None

    def of(self, settings: Settings) -> float | None:
        """Return the tolerance for the dtype of the settings."""
        return getattr(self, settings.dtype)


class Verdict(enum.Enum):
    """Outcome of a claim or of a control."""

    HOLDS = "holds"
    FAILS = "FAILS"
    LOST = "lost to rounding"
    REFUTED = "fails, as it must"
    NOT_REFUTED = "HOLDS, BUT MUST FAIL"
    SKIPPED = "skipped"

    @property
    def failure(self) -> bool:
        """Whether this verdict makes the command exit with an error."""
        return self in (Verdict.FAILS, Verdict.NOT_REFUTED)


@dataclass(frozen=True)
class Evidence:
    """Outcome of one claim or control of a statement.

    Attributes:
        claim: The claim, in one line.
        verdict: Whether the claim held; for a control, whether it failed as it must.
        cases: Number of cases tried.
        measured: Largest deviation found.
        bound: Largest deviation allowed. For a control, the deviation to exceed. None
            if the dtype is known not to keep the claim.
        unit: Unit of the deviation.
        detail: Additional information, such as the tightest case, or the report of an
            assertion that failed.
        worst: Location of the largest deviation, enough to compute it again.
        table: Rows of a separate table in the report.
        series: Curves for the plots, by name.
        checked_by: How the claim was checked: ``"sampled"`` on cases, ``"symbolic"`` by
            SymPy, ``"kernel"`` by Coq for all real numbers, or ``"interval"`` by Coq's
            interval arithmetic for single outputs.
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
    checked_by: str = "sampled"


class Worst:
    """The largest deviation over many cases, and its location."""

    def __init__(self) -> None:
        self.cases = 0
        self.measured = -np.inf
        self.where: dict[str, Any] = {}

    def add(
        self, deviations: Any, describe: Callable[[int], Mapping[str, Any]]
    ) -> None:
        """Add one deviation for each case. NaN counts as infinite.

        Args:
            deviations: One number for each case.
            describe: Returns the location of a case, given its position. Called only
                if the case is the new worst one.

        Raises:
            AssertionError: If ``deviations`` has more than one axis. Such an array
                comes from shapes that broadcast by mistake.
        """
        values = np.atleast_1d(np.asarray(deviations, np.float64))
        chex.assert_rank(values, 1)
        values = np.where(np.isnan(values), np.inf, values)
        first = self.cases == 0
        self.cases += len(values)
        position = int(values.argmax())
        if first or values[position] > self.measured:
            self.measured = float(values[position])
            self.where = dict(describe(position))


def distance(found: Any, expected: Any) -> np.ndarray:
    """Return ``|found - expected|`` for each element, in float64.

    Raises:
        AssertionError: If the shapes differ. NumPy would broadcast them.
    """
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    chex.assert_equal_shape((found, expected))
    return np.abs(found - expected)


def place(where: Mapping[str, Any]) -> str:
    """Return the location of a case in words. Fractions keep four digits."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in where.items()
    )


def difference_report(found: Any, expected: Any, *, atol: float | None) -> str:
    """Describe the first leaf in which two trees differ.

    Args:
        found: A tree of arrays.
        expected: A tree of the same structure.
        atol: Largest absolute difference allowed. With None nothing is compared.

    Returns:
        The name of the leaf, the first positions and the largest difference; an empty
        string if all leaves are close.
    """
    if atol is None:
        return ""
    try:
        chex.assert_trees_all_close(found, expected, rtol=0.0, atol=atol)
    except AssertionError as error:
        return report_of(error)
    return ""


def report_of(error: AssertionError) -> str:
    """Return an assertion's message as one line, without the arrays that it prints."""
    text, _, _ = str(error).partition("\n ACTUAL: ")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def claim(
    text: str,
    worst: Worst,
    tolerance: Tolerance,
    settings: Settings,
    *,
    unit: str,
    **more: Any,
) -> Evidence:
    """Return evidence that the largest deviation is within the dtype's tolerance."""
    bound = tolerance.of(settings)
    if bound is None:
        verdict = Verdict.LOST
    else:
        verdict = Verdict.HOLDS if worst.measured <= bound else Verdict.FAILS
    return _evidence(text, verdict, worst, bound, unit, more)


def control(
    text: str, worst: Worst, bound: float | None, *, unit: str, **more: Any
) -> Evidence:
    """Return evidence that a claim fails once an assumption is dropped.

    The deviation must exceed ``bound`` and be finite: NaN and infinity come from a
    computation that broke down, which says nothing about the statement.
    """
    refuted = bound is not None and bound < worst.measured < np.inf
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
        name: Short name, such as ``"T3"``.
        title: Name in words.
        statement: The formula, in one line of plain text.
        assumptions: The assumptions of the statement.
        claims: Yields evidence that the statement holds.
        controls: Yields evidence that it fails where an assumption is dropped.
    """

    name: str
    title: str
    statement: str
    assumptions: tuple[str, ...]
    claims: Callable[[Settings], Iterable[Evidence]]
    controls: Callable[[Settings], Iterable[Evidence]]

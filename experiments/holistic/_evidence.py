"""Store the numbers of finished cells, and compare methods seed by seed."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments._numbers import rounded

RESULTS = Path(__file__).parent / "results" / "fashion_mnist.json"
_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The numbers of all finished cells.

    Attributes:
        provenance: Commit, hardware and date.
        cells: Chosen settings, and values of each seed, by the name of a cell.
        tuning: The settings that were tried, with their validation accuracy.
    """

    provenance: str
    cells: Mapping[str, Mapping[str, Any]]
    tuning: Mapping[str, list[Mapping[str, float]]]

    def values(self, student: str, scenario: str, method: str, what: str) -> np.ndarray:
        """Return a number of every seed, in percent."""
        return 100 * np.array(self.cells[f"{student}; {scenario}; {method}"][what])


class Difference(NamedTuple):
    """Mean of paired differences with its confidence interval.

    Attributes:
        mean: Mean over the seeds.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired(values: np.ndarray, others: np.ndarray) -> Difference:
    """Compare two methods seed by seed with a 95 % interval of Student's t."""
    differences = values - others
    count = len(differences)
    quantile = stats.t.ppf(0.5 + _CONFIDENCE / 2, count - 1)
    half = quantile * differences.std(ddof=1) / np.sqrt(count)
    mean = differences.mean()
    return Difference(float(mean), float(mean - half), float(mean + half))


def gather(work: Path, provenance: str) -> Evidence:
    """Read the files of finished cells."""

    def found(kind: str) -> dict[str, Any]:
        files = sorted(work.glob(f"{kind}; *.json"))
        return {f.stem.partition("; ")[2]: json.loads(f.read_text()) for f in files}

    tuning = {name: facts["tried"] for name, facts in found("tuning").items()}
    return Evidence(provenance, found("cell"), tuning)


def save(evidence: Evidence) -> None:
    """Write the numbers, one cell a line."""
    head = json.dumps(evidence.provenance, ensure_ascii=False)
    RESULTS.write_text(
        f'{{"provenance": {head},\n'
        f'"cells": {{\n{_lines(evidence.cells.items())}}},\n'
        f'"tuning": {{\n{_lines(evidence.tuning.items())}}}}}\n'
    )


def load() -> Evidence:
    """Read the numbers that :func:`save` wrote."""
    return Evidence(**json.loads(RESULTS.read_text()))


def _lines(facts: Iterable[tuple[str, Any]]) -> str:
    return ",\n".join(
        f" {json.dumps(name)}: {json.dumps(rounded(value))}" for name, value in facts
    )

"""Runs the checks and writes down what they found."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from jaxkd import InvalidInputError
from proofs_checks import (
    _markdown,
    t01_zero_sum,
    t02_mean_value,
    t03_two_sided_bound,
    t04_infinite_temperature,
    t05_first_order,
    t06_zero_temperature,
    t07_f_divergences,
    t08_hessian,
    t09_conservation,
    t10_equal_means,
    t11_decoupling,
    t12_info_nce,
    t13_holistic,
    t14_invariance,
)
from proofs_checks._evidence import Check, Evidence, Settings, Verdict

CHECKS: dict[str, Check] = {
    module.CHECK.name: module.CHECK
    for module in (
        t01_zero_sum,
        t02_mean_value,
        t03_two_sided_bound,
        t04_infinite_temperature,
        t05_first_order,
        t06_zero_temperature,
        t07_f_divergences,
        t08_hessian,
        t09_conservation,
        t10_equal_means,
        t11_decoupling,
        t12_info_nce,
        t13_holistic,
        t14_invariance,
    )
}
"""Every statement, by name."""

# Compilation dominates, and a program's is single-threaded: two threads share the
# work. These compile the same loss for the same shapes, so one thread has them all;
_LOSS_AT_MANY_SIZES = ("T1", "T2", "T3", "T4", "T5", "T6", "T11")
# both take of the others.
_LONGEST_FIRST = ("T10", "T9", "T13", "T12", "T8", "T7", "T14")

_PACKAGES = ("jaxkd-distillation", "jax", "jaxlib", "flax", "optax", "numpy", "sympy")


@dataclasses.dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        check: The statement.
        claims: Evidence that it holds.
        controls: Evidence that it fails where an assumption is dropped.
        seconds: How long that took.
    """

    check: Check
    claims: tuple[Evidence, ...]
    controls: tuple[Evidence, ...]
    seconds: float

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Claims and controls."""
        return self.claims + self.controls

    @property
    def holds(self) -> bool:
        """Whether no claim failed and every control did."""
        return not any(e.verdict.failure for e in self.evidence)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The results of a run, and where it was made.

    Attributes:
        settings: What it was made for.
        environment: Backend, device and versions.
        results: One per statement.
    """

    settings: Settings
    environment: Mapping[str, str]
    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether every statement holds and every control fails."""
        return all(result.holds for result in self.results)

    def failures(self) -> list[str]:
        """One line for each claim that failed, enough to compute it again."""
        return [
            f"{result.check.name}: {evidence.claim}: {evidence.verdict.value}: "
            f"{evidence.unit} {evidence.measured:.3g}, bound {evidence.bound:.3g}"
            + self._replay(result.check.name, evidence)
            for result in self.results
            for evidence in result.evidence
            if evidence.verdict.failure
        ]

    def _replay(self, name: str, evidence: Evidence) -> str:
        settings = self.settings
        where = ", ".join(f"{key} {value}" for key, value in evidence.worst.items())
        line = f"; worst: {where}" if where else ""
        line += (
            f"; again: python -m proofs_checks --only {name} --seed {settings.seed} "
            f"--cases {settings.cases} --dtype {settings.dtype}"
        )
        if "case" in evidence.worst:
            line += (
                f"; its logits: proofs_checks.logit_case({evidence.worst['case']}, "
                f"seed={settings.seed}, dtype={settings.dtype!r})"
            )
        return line


def verify(
    settings: Settings,
    names: Sequence[str] = (),
    *,
    on_result: Callable[[Result], None] | None = None,
) -> Certificate:
    """Runs checks.

    Args:
        settings: Dtype, seed and number of cases.
        names: Keys of :data:`CHECKS`; none for all.
        on_result: Called with each check's result as it comes, from two threads.

    Returns:
        The certificate, in the order of ``names``.

    Raises:
        InvalidInputError: If a name is unknown.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise unknown_statement(unknown[0])
    names = list(dict.fromkeys(names)) or list(CHECKS)
    first = collections.deque(n for n in names if n in _LOSS_AT_MANY_SIZES)
    rest = collections.deque(n for n in _LONGEST_FIRST if n in names)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(_run, settings, queues, on_result)
            for queues in ((first, rest), (rest,))
        ]
        results = {r.check.name: r for run in runs for r in run.result()}
    ordered = tuple(results[name] for name in names)
    return Certificate(settings, _environment(), ordered)


def unknown_statement(name: str) -> InvalidInputError:
    """The error for a name that is not in :data:`CHECKS`."""
    return InvalidInputError(
        f"unknown statement {name!r}; there are: {', '.join(CHECKS)}"
    )


def _run(
    settings: Settings,
    queues: Iterable[collections.deque[str]],
    on_result: Callable[[Result], None] | None,
) -> list[Result]:
    """Works off queues of names, one after another; others may take from them too."""
    results = []
    # References are computed in float64 whatever the dtype that is checked, and a GPU
    # would round factors of float32 products to 10 bits. Both hold for a thread.
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        for name in itertools.chain.from_iterable(map(_drain, queues)):
            check, start = CHECKS[name], time.perf_counter()
            claims = tuple(check.claims(settings))
            controls = tuple(check.controls(settings))
            seconds = time.perf_counter() - start
            results.append(Result(check, claims, controls, seconds))
            if on_result is not None:
                on_result(results[-1])
    return results


def _drain(queue: collections.deque[str]) -> Iterator[str]:
    # A deque's ends are safe to take from in several threads.
    with contextlib.suppress(IndexError):
        while True:
            yield queue.popleft()


def _environment() -> dict[str, str]:
    device = jax.devices()[0]
    found = {
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def to_json(certificate: Certificate) -> str:
    """The certificate as JSON; numbers that JSON lacks become strings."""
    results = [
        {
            "name": result.check.name,
            "title": result.check.title,
            "statement": result.check.statement,
            "assumptions": result.check.assumptions,
            "holds": result.holds,
            "seconds": round(result.seconds, 2),
            "claims": [_record(evidence) for evidence in result.claims],
            "controls": [_record(evidence) for evidence in result.controls],
        }
        for result in certificate.results
    ]
    content = {
        "holds": certificate.holds,
        "settings": certificate.settings._asdict(),
        "environment": certificate.environment,
        "results": results,
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _record(evidence: Evidence) -> dict[str, Any]:
    return {
        field.name: getattr(evidence, field.name)
        for field in dataclasses.fields(evidence)
        if field.name != "series"
    } | {"verdict": evidence.verdict.value}


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return str(content)
    return content


def to_markdown(certificate: Certificate, plots: Sequence[str] = ()) -> str:
    """The certificate as a page."""
    settings, where = certificate.settings, certificate.environment
    verdict = "All statements hold." if certificate.holds else "**Some checks fail.**"
    lines = [
        f"# Certificate, {settings.dtype}",
        "",
        f"{verdict} Every negative control drops one assumption and has to fail.",
        "",
        f"Seed {settings.seed}, {settings.cases:,} cases for T3 and T4; "
        + ", ".join(f"{key} {value}" for key, value in where.items())
        + ".",
        "",
    ]
    lines += [f"![{Path(plot).stem}]({plot})\n" for plot in plots]
    for result in certificate.results:
        check = result.check
        lines += [
            "",
            f"## {check.name} {check.title}",
            "",
            f"`{check.statement}`",
            "",
            f"Assumes: {'; '.join(check.assumptions)}. {result.seconds:.1f} s.",
            "",
            *_markdown.header(
                ("claim", "verdict", "cases", "measured", "bound", "unit")
            ),
        ]
        lines += [_row(evidence, "") for evidence in result.claims]
        lines += [_row(evidence, "control: ") for evidence in result.controls]
        details = [e for e in result.evidence if e.detail]
        lines += ["", *(f"- {e.claim}: {e.detail}" for e in details)]
        for evidence in result.evidence:
            if evidence.table:
                lines += ["", *_markdown.table(evidence.table)]
    return "\n".join(lines) + "\n"


def _row(evidence: Evidence, prefix: str) -> str:
    cells = (
        prefix + evidence.claim,
        evidence.verdict.value,
        f"{evidence.cases:,}",
        f"{evidence.measured:.2e}",
        "none" if evidence.bound is None else f"{evidence.bound:.0e}",
        evidence.unit,
    )
    return _markdown.row(cells)


def summary(result: Result) -> tuple[str, str, str, str, str]:
    """A row of the printed table: name, title, verdict, controls, worst claim."""
    counts = dict.fromkeys(Verdict, 0)
    for evidence in result.claims:
        counts[evidence.verdict] += 1
    verdicts = ", ".join(
        f"{count} {'hold' if verdict is Verdict.HOLDS else verdict.value}"
        for verdict, count in counts.items()
        if count
    )
    failing = sum(e.verdict is Verdict.REFUTED for e in result.controls)
    cases = sum(e.cases for e in result.claims)
    return (
        result.check.name,
        result.check.title,
        verdicts,
        f"{failing} of {len(result.controls)} fail",
        f"{cases:,}",
    )

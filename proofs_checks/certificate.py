"""Certificates: the results of all checks, as JSON and as Markdown."""

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
from typing import Any

import jax

from jaxkd import InvalidInputError
from proofs_checks import (
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
    t15_top_logits,
)
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Verdict,
    place,
    report_of,
)
from proofs_checks._kernel import Kernel

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
        t15_top_logits,
    )
}
"""Every statement, by name."""

# Most of the time goes into compilation, which uses one thread for each program. Two
# threads share the work. One thread runs all of these checks, because they compile the
# same loss for the same shapes.
_LOSS_AT_MANY_SIZES = ("T1", "T2", "T3", "T4", "T5", "T6", "T11")
# Both threads take checks from this list.
_LONGEST_FIRST = ("T10", "T9", "T13", "T12", "T8", "T7", "T15", "T14")

_PACKAGES = (
    *("jaxkd-distillation", "jax", "jaxlib", "flax", "optax", "chex"),
    *("numpy", "sympy"),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """Results of one check.

    Attributes:
        check: The statement.
        claims: Evidence that the statement holds.
        controls: Evidence that it fails where an assumption is dropped.
        seconds: Duration of the check.
        proofs: What Coq has proved of the statement, if it was asked.
    """

    check: Check
    claims: tuple[Evidence, ...]
    controls: tuple[Evidence, ...]
    seconds: float
    proofs: tuple[Evidence, ...] = ()

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The proofs, the claims, then the controls."""
        return self.proofs + self.claims + self.controls

    @property
    def holds(self) -> bool:
        """Whether every claim holds and every control fails."""
        return not any(e.verdict.failure for e in self.evidence)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The results of a run and the environment that it ran in.

    Attributes:
        settings: Settings of the run.
        environment: Backend, device and versions.
        results: One result for each statement.
        seconds: Duration of the run, without Coq.
        kernel: What Coq has proved, or None if it was not asked.
    """

    settings: Settings
    environment: Mapping[str, str]
    results: tuple[Result, ...]
    seconds: float = 0.0
    kernel: Kernel | None = None

    @property
    def holds(self) -> bool:
        """Whether every statement holds and every control fails as it must."""
        return all(result.holds for result in self.results)

    def with_proofs(self, kernel: Kernel) -> "Certificate":
        """Return the certificate with what Coq has proved of its statements."""
        results = tuple(
            dataclasses.replace(r, proofs=kernel.proofs.get(r.check.name, ()))
            for r in self.results
        )
        return dataclasses.replace(self, results=results, kernel=kernel)

    def failures(self) -> list[str]:
        """Return a line for each failure: its size, its location, how to repeat it."""
        return [
            f"{result.check.name}: {evidence.claim}: {evidence.verdict.value}: "
            f"{evidence.unit} {evidence.measured:.3g}, bound {evidence.bound or 0:.3g}"
            + self._location(result.check.name, evidence)
            for result in self.results
            for evidence in result.evidence
            if evidence.verdict.failure
        ]

    def _location(self, name: str, evidence: Evidence) -> str:
        settings = self.settings
        line = f"; worst case: {place(evidence.worst)}" if evidence.worst else ""
        if evidence.detail:
            line += f"; {evidence.detail}"
        line += (
            f"; to repeat: python -m proofs_checks --only {name} "
            f"--seed {settings.seed} --cases {settings.cases} --dtype {settings.dtype}"
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
    """Run checks and return their certificate.

    Args:
        settings: Dtype, seed and number of cases.
        names: Keys of :data:`CHECKS`; none for all.
        on_result: Called with the result of each check once it is done. Two threads
            call it.

    Returns:
        The certificate, with results in the order of ``names``.

    Raises:
        InvalidInputError: If a name is unknown.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise unknown_statement(unknown[0], argument="names")
    start = time.perf_counter()
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
    seconds = time.perf_counter() - start
    return Certificate(settings, _environment(), ordered, seconds)


def unknown_statement(name: str, *, argument: str) -> InvalidInputError:
    """Return the error for a name that is not in :data:`CHECKS`.

    Args:
        name: The unknown name.
        argument: The argument that contains it.
    """
    return InvalidInputError(
        f"{argument} must be names of statements, got {name!r}; "
        f"the names are {', '.join(CHECKS)}",
        argument=argument,
    )


def _run(
    settings: Settings,
    queues: Iterable[collections.deque[str]],
    on_result: Callable[[Result], None] | None,
) -> list[Result]:
    """Run the checks named in the queues, in order. Other threads may share a queue."""
    results = []
    # References are computed in float64, whatever dtype is checked. Without "highest",
    # a GPU rounds the factors of float32 products to 10 bits. Both settings apply to
    # the current thread only.
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        for name in itertools.chain.from_iterable(map(_drain, queues)):
            check, start = CHECKS[name], time.perf_counter()
            claims = _collect("claims", check.claims, settings)
            controls = _collect("controls", check.controls, settings)
            seconds = time.perf_counter() - start
            results.append(Result(check, claims, controls, seconds))
            if on_result is not None:
                on_result(results[-1])
    return results


def _collect(
    kind: str, evidence: Callable[[Settings], Iterable[Evidence]], settings: Settings
) -> tuple[Evidence, ...]:
    """Return the evidence. A failed assertion becomes a failure of its own."""
    found = []
    try:
        for item in evidence(settings):
            found.append(item)
    except AssertionError as error:
        text = f"all assertions of the {kind} hold"
        verdict = Verdict.FAILS
        unit = "failed assertions"
        failure = Evidence(text, verdict, 1, 1.0, unit=unit, detail=report_of(error))
        found.append(failure)
    return tuple(found)


def _drain(queue: collections.deque[str]) -> Iterator[str]:
    # Several threads may pop from the ends of a deque.
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
            found[package] = "not installed"
    return found


def to_json(certificate: Certificate) -> str:
    """Return the certificate as JSON. NaN and infinity become strings."""
    results = [
        {
            "name": result.check.name,
            "title": result.check.title,
            "statement": result.check.statement,
            "assumptions": result.check.assumptions,
            "holds": result.holds,
            "seconds": round(result.seconds, 2),
            "proofs": [_record(evidence) for evidence in result.proofs],
            "claims": [_record(evidence) for evidence in result.claims],
            "controls": [_record(evidence) for evidence in result.controls],
        }
        for result in certificate.results
    ]
    content = {
        "holds": certificate.holds,
        "settings": certificate.settings._asdict(),
        "environment": certificate.environment,
        "kernel": None if certificate.kernel is None else certificate.kernel.about(),
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


def summary(result: Result) -> tuple[str, ...]:
    """Return a row of the printed table: name, title, claims, controls, how."""
    counts = dict.fromkeys(Verdict, 0)
    for evidence in result.claims:
        counts[evidence.verdict] += 1
    verdicts = ", ".join(
        f"{count} {'hold' if verdict is Verdict.HOLDS else verdict.value}"
        for verdict, count in counts.items()
        if count
    )
    failing = sum(e.verdict is Verdict.REFUTED for e in result.controls)
    return (
        result.check.name,
        result.check.title,
        verdicts,
        f"{failing} of {len(result.controls)} fail",
        ", ".join(dict.fromkeys(e.checked_by for e in result.proofs + result.claims)),
    )

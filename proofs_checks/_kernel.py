"""Run Coq on the proofs and on theorems about this machine's outputs."""

import concurrent.futures
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxkd import InvalidInputError
from proofs_checks import link
from proofs_checks._evidence import Evidence, Verdict

_SOURCES = Path(__file__).parent / "kernel"
_INSTALL = "apt-get install coq libcoq-coquelicot libcoq-interval make"


class Theorem(NamedTuple):
    """A theorem that Coq checks.

    Attributes:
        statement: The statement that it belongs to, such as ``"T3"``.
        name: Its name in Coq.
        file: Its file, without the suffix.
        words: What it says, in a line.
    """

    statement: str
    name: str
    file: str
    words: str


class Kernel(NamedTuple):
    """What Coq has checked.

    Attributes:
        version: Version of Coq.
        axioms: The axioms that the theorems rest on.
        proofs: Evidence by the names of the statements.
        seconds: Duration by task: ``proofs``, ``coqchk`` and ``link``.
    """

    version: str
    axioms: tuple[str, ...]
    proofs: dict[str, tuple[Evidence, ...]]
    seconds: dict[str, float]

    def about(self) -> str:
        """Say what was proved, and what was not."""
        every = [e for proofs in self.proofs.values() for e in proofs]
        count = sum(e.checked_by == "kernel" for e in every)
        if any(e.verdict.failure for e in every):
            return f"Coq {self.version} refuses a proof."
        eps = max(e.measured for e in every if e.checked_by == "interval")
        return (
            f"Coq {self.version} has checked {count} theorems: the formulas in "
            "proofs_checks/kernel/Defs.v satisfy them over exact real numbers. For the "
            f"listed inputs it certifies the library's output within eps, at most "
            f"{eps:.0e}. The Python code itself is not verified. Axioms: "
            f"{', '.join(self.axioms)}. Proofs {self.seconds['proofs']:.0f} s, coqchk "
            f"{self.seconds['coqchk']:.0f} s, outputs {self.seconds['link']:.0f} s."
        )


def require() -> None:
    """Raise unless Coq is installed.

    Raises:
        InvalidInputError: With the command that installs it.
    """
    missing = [x for x in ("bash", "coqc", "coqchk") if shutil.which(x) is None]
    if missing:
        raise InvalidInputError(
            f"kernel needs {', '.join(missing)}, which cannot be found, so the proofs "
            f"were not checked. Install Coq 8.16 with `{_INSTALL}`.",
            argument="kernel",
        )


def theorems() -> list[Theorem]:
    """Return the theorems that the proofs end in."""
    lines = (_SOURCES / "theorems.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.split(" ", 3) for line in lines)
    return [
        Theorem(statement, name, file, words) for statement, name, file, words in rows
    ]


def axioms() -> list[str]:
    """Return the accepted axioms: a name and what it says in a line."""
    return (_SOURCES / "axioms.txt").read_text(encoding="utf-8").splitlines()


def check(say: Callable[[str], None] = lambda line: None) -> Kernel:
    """Let Coq check all proofs, and the distance of listed outputs from their formulas.

    The proofs are compiled and checked once more by ``coqchk``, a program of its own.
    The outputs are computed now, so their theorems are about this machine.

    Args:
        say: Called with a line for each task that begins.

    Raises:
        InvalidInputError: If Coq is not installed.
    """
    require()
    with tempfile.TemporaryDirectory(prefix="jaxkd-kernel-") as name:
        folder = Path(name)
        say("Coq checks the proofs")
        facts, failure = _build(folder)
        proofs: dict[str, tuple[Evidence, ...]] = {}
        for theorem in theorems():
            earlier = proofs.get(theorem.statement, ())
            proofs[theorem.statement] = (*earlier, _evidence(theorem, failure))
        seconds = {
            "proofs": float(facts.get("built", ["nan"])[0]),
            "coqchk": float(facts.get("checked", ["nan"])[0]),
        }
        if not failure:
            say("Coq computes the outputs of listed inputs")
            start = time.perf_counter()
            for statement, evidence in _linked(folder).items():
                proofs[statement] += evidence
            seconds["link"] = time.perf_counter() - start
    version = facts.get("coq", ["unknown"])[0]
    return Kernel(version, tuple(facts.get("axiom", ())), proofs, seconds)


def _build(folder: Path) -> tuple[dict[str, list[str]], str]:
    """Compile the proofs. Return the printed facts by kind, and what is wrong."""
    done = subprocess.run(
        _build_command(folder), capture_output=True, text=True, check=False
    )
    facts: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        kind, _, value = line.partition(" ")
        facts.setdefault(kind, []).append(value)
    if done.returncode == 0:
        return facts, ""
    return facts, done.stderr.strip() or f"build.sh ended with {done.returncode}"


def _build_command(folder: Path) -> list[str]:
    return ["bash", str(_SOURCES / "build.sh"), "--check", str(folder)]


def _evidence(theorem: Theorem, failure: str) -> Evidence:
    return Evidence(
        f"{theorem.words} ({theorem.file}.{theorem.name})",
        Verdict.FAILS if failure else Verdict.HOLDS,
        unit="proofs that Coq refuses",
        measured=float(bool(failure)),
        detail=failure,
        checked_by="kernel",
    )


def _linked(folder: Path) -> dict[str, tuple[Evidence, ...]]:
    """Check theorems about outputs that are computed now."""
    target = folder / "link"
    cases = link.write(target)
    paths = ["-Q", folder, "Kernel", "-Q", target, "Link"]

    def compiled(file: str) -> str:
        done = subprocess.run(
            ["coqc", "-w", "none", *paths, target / file],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr.strip() if done.returncode else ""

    failures = [compiled("LinkLemmas.v")]
    files = sorted(path.name for path in target.glob("LinkT*.v"))
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        failures += pool.map(compiled, files)
    failure = "; ".join(filter(None, failures))
    full = [case for case in cases if case.keep is None]
    top = [case for case in cases if case.keep is not None]
    gradients = [case for case in cases if case.gradient_eps is not None]
    gradient_eps = [case.gradient_eps or 0.0 for case in gradients]
    values = _output("soft_target_kl", full, [c.eps for c in full], failure)
    name = "the gradient of soft_target_kl"
    derivatives = _output(name, gradients, gradient_eps, failure)
    sparse = _output("sparse_soft_target_kl", top, [c.eps for c in top], failure)
    return {"T2": (values, derivatives), "T15": (sparse,)}


def _output(
    what: str, cases: Sequence[link.Case], eps: Sequence[float], failure: str
) -> Evidence:
    temperatures = sorted({case.temperature for case in cases})
    classes = [case.classes for case in cases]
    return Evidence(
        f"{what} in float64 is within eps of its formula, for each of these inputs",
        Verdict.FAILS if failure else Verdict.HOLDS,
        cases=len(cases),
        measured=max(eps),
        bound=None,
        unit="largest eps",
        detail=failure
        or f"T = {', '.join(f'{t:g}' for t in temperatures)}; C = {min(classes)} to "
        f"{max(classes)}; this machine's outputs",
        checked_by="interval",
    )

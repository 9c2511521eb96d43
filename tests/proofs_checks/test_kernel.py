"""The proofs in Coq: complete, compiled, and refused if a statement is broken."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import proofs_checks
from proofs_checks import Settings, Verdict, _kernel, proofs_page
from proofs_checks._certificate_page import to_markdown

KERNEL = Path(proofs_checks.__file__).parent / "kernel"
THEOREMS = (KERNEL / "theorems.txt").read_text().splitlines()
LISTED = [line.split(maxsplit=3) for line in THEOREMS]
CLASSICAL_REALS = {
    "Classical_Prop.classic",
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
}
INCOMPLETE = (
    r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjecture|Abort|bypass_check"
    r"|Guard Checking|Positivity Checking|Universe Checking)\b"
)

coq = pytest.mark.skipif(shutil.which("coqc") is None, reason="Coq is not installed")


def code(path: Path) -> str:
    """The text without comments."""
    return re.sub(r"\(\*.*?\*\)", "", path.read_text(), flags=re.DOTALL)


def build(*arguments, source=KERNEL, **options):
    command = [shutil.which("bash"), source / "build.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def facts(output: str, word: str) -> set[str]:
    """What follows the word in the lines of the build that start with it."""
    lines = [line.split(" ", 1) for line in output.splitlines()]
    return {rest for first, rest in lines if first == word}


@pytest.mark.parametrize("path", sorted(KERNEL.glob("*.v")), ids=lambda path: path.name)
def test_a_file_assumes_nothing_and_leaves_nothing_out(path):
    assert not re.findall(INCOMPLETE, code(path))


def test_the_words_for_incomplete_proofs_are_found(tmp_path):
    path = tmp_path / "T.v"
    path.write_text("(* Admitted *) Lemma f : False. Admitted. Axiom g : False.")
    assert re.findall(INCOMPLETE, code(path)) == ["Admitted", "Axiom"]


def test_the_list_names_every_theorem():
    listed = {(file, name) for _, name, file, _ in LISTED}
    stated = {
        (path.stem, name)
        for path in KERNEL.glob("*.v")
        for name in re.findall(r"^Theorem (\w+)", code(path), flags=re.MULTILINE)
    }
    assert listed == stated


def test_the_page_has_every_theorem_and_axiom():
    page = (Path(proofs_checks.__file__).parents[1] / "docs/proofs.md").read_text()
    assert page == proofs_page.page()
    assert all(f"| `{file}.{name}` |" in page for _, name, file, _ in LISTED)
    assert all(f"- `{axiom}`: " in page for axiom in CLASSICAL_REALS)


def test_the_list_is_sorted_by_number():
    numbers = [int(number.removeprefix("T")) for number, *_ in LISTED]
    assert numbers == sorted(numbers)


def test_the_accepted_axioms_are_those_of_classical_real_numbers():
    lines = (KERNEL / "axioms.txt").read_text().splitlines()
    assert {line.split()[0] for line in lines} == CLASSICAL_REALS


def test_the_build_says_that_coq_is_missing(tmp_path):
    result = build(env={"PATH": str(tmp_path)})
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: coqc is missing; install them with: apt-get "
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the compiled proofs, and what the build printed."""
    folder = tmp_path_factory.mktemp("kernel")
    result = build(folder)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


@coq
@pytest.mark.slow
def test_the_build_prints_the_theorems_and_their_axioms(built):
    output = built[1]
    assert facts(output, "theorem") == {f"{name} {file}" for _, name, file, _ in LISTED}
    assert facts(output, "theorems") == {str(len(LISTED))}
    assert facts(output, "axiom") == CLASSICAL_REALS


def compiles(folder: Path, file: str, text: str) -> bool:
    """Whether coqc accepts a text in place of the file."""
    (folder / "Broken.v").write_text(text)
    command = ["coqc", "-w", "none", "-Q", ".", "Kernel", "Broken.v"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return result.returncode == 0


BROKEN = [
    ("T01", "    total n g = mean n (fun k => z k - v k).", "    total n g = 0."),
    ("T02", "(fun k => z k - v k) / 2.", "(fun k => z k - v k)."),
    (
        "T03",
        "exp (- (R / T)) * (variance n d / 2) <= kd n T z v <= ",
        "exp (- (R / T)) * (variance n d / 1) <= kd n T z v <= ",
    ),
    ("T04", "= matching n z v - gap n z v.", "= matching n z v + gap n z v."),
    (
        "T04",
        "    Rabs (g k - (d k - mean n d) / classes n) <= D * (",
        "    Rabs (g k - (d k - mean n d) / classes n) <= D / 2 * (",
    ),
    ("T05", "(cumulant_4 n v v d d / 4 + c", "(moment_4 n v v d d / 4 + c"),
    ("T06", "<= T * ln (classes n) + D * (", "<= D * ("),
    ("T07", "      (a / 2 * variance n (", "      (a * variance n ("),
    ("T08", "0 <= quadratic n", "0 < quadratic n"),
    ("T09", "= w t k f - eta t * (g t k f + l", "= w t k f + eta t * (g t k f + l"),
    ("T10", "g k - h k = mean n (fun j", "h k - g k = mean n (fun j"),
    ("T11", "+ (1 - p y) * (T ^ 2 * other", "+ 1 * (T ^ 2 * other"),
    ("T12", "a b K P f <= ln (INR (S K)).", "a b K P f <= ln (INR K)."),
    ("T15", "+ T ^ 2 * (share n keep p * kl_", "+ T ^ 2 * (1 * kl_"),
    ("T15Bounds", "(r ^ 2 / 8).", "(r ^ 2 / 9)."),
]


@coq
@pytest.mark.slow
@pytest.mark.parametrize(
    "file, right, wrong", BROKEN, ids=[f"{file}: {wrong}" for file, _, wrong in BROKEN]
)
def test_coq_refuses_a_broken_statement(file, right, wrong, built):
    text = (KERNEL / f"{file}.v").read_text()
    assert text.count(right) == 1
    assert compiles(built[0], file, text)
    assert not compiles(built[0], file, text.replace(right, wrong))


@coq
@pytest.mark.slow
def test_the_build_refuses_a_proof_that_is_left_out(tmp_path):
    source = tmp_path / "kernel"
    shutil.copytree(KERNEL, source, ignore=shutil.ignore_patterns("*.vo*", "*.glob"))
    path = source / "T04.v"
    text, count = re.subn(
        r"(Theorem half_variance :.*?)Proof\..*?Qed\.",
        r"\1Admitted.",
        path.read_text(),
        flags=re.DOTALL,
    )
    assert count == 1
    path.write_text(text)
    result = build(source=source)
    assert result.returncode == 1
    assert "rests on T04.half_variance, which is not in axioms.txt" in result.stderr


def test_a_proof_that_coq_refuses_fails_the_certificate(monkeypatch):
    script = "echo coq 8.16.1; echo 'error: a proof does not compile' >&2; exit 1"
    monkeypatch.setattr(_kernel, "require", lambda: None)
    monkeypatch.setattr(
        _kernel, "_build_command", lambda folder: ["bash", "-c", script]
    )
    kernel = _kernel.check()
    certificate = proofs_checks.verify(Settings(), ["T11"])
    assert certificate.holds
    certificate = certificate.with_proofs(kernel)
    assert not certificate.holds
    assert "a proof does not compile" in certificate.failures()[0]
    assert "Coq 8.16.1 refuses a proof" in to_markdown(certificate)


@coq
@pytest.mark.slow
def test_the_certificate_shows_what_coq_has_proved():
    kernel = _kernel.check()
    proofs = [e for evidence in kernel.proofs.values() for e in evidence]
    assert {e.verdict for e in proofs} == {Verdict.HOLDS}
    assert sum(e.checked_by == "kernel" for e in proofs) == len(LISTED)
    values, gradients, sparse = (e for e in proofs if e.checked_by == "interval")
    assert values.cases >= 30
    assert gradients.cases >= 10
    assert sparse.cases >= 10
    page = to_markdown(proofs_checks.verify(Settings(), ["T11"]).with_proofs(kernel))
    assert f"has checked {len(LISTED)} theorems" in page
    assert "(T11.kd_decoupled) | holds | kernel | all real numbers |" in page

"""What ``python -m proofs_checks`` and ``jaxkd verify`` share."""

import argparse
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jaxkd import InvalidInputError
from proofs_checks import certificate as certificates
from proofs_checks._evidence import Settings
from proofs_checks.t14_invariance import invariance_table

DTYPES = ("float64", "float32", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses a command line and runs it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m proofs_checks",
        description="Check every theorem by machine and print the certificate.",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=list(certificates.CHECKS),
        metavar="NAME",
        help="statements to check, such as T3; by default all",
    )
    parser.add_argument(
        "--cases", type=int, default=100_000, help="random cases of T3 and T4"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float64")
    parser.add_argument("--seed", type=int, default=0, help="source of all cases")
    parser.add_argument(
        "--out", type=Path, help="folder for certificate.json, .md and plots"
    )
    options = parser.parse_args(arguments)
    try:
        return main_from_options(**vars(options))
    except (InvalidInputError, OSError) as error:
        parser.error(str(error))


def main_from_options(
    *,
    only: Sequence[str] = (),
    cases: int = 100_000,
    dtype: str = "float64",
    seed: int = 0,
    out: Path | None = None,
) -> int:
    """Runs the checks, prints the table and writes the report.

    Args:
        only: Statements to check, such as ``"T3"``; by default all.
        cases: Random cases of T3 and T4.
        dtype: ``"float64"``, ``"float32"`` or ``"bfloat16"``.
        seed: Source of all cases, not negative.
        out: Folder for ``certificate.json``, ``certificate.md`` and plots.

    Returns:
        0, or 1 if a statement fails or a control does not.

    Raises:
        InvalidInputError: If an argument is unusable.
        OSError: If the folder cannot be written.
    """
    for name in only:
        if name not in certificates.CHECKS:
            raise certificates.unknown_statement(name)
    if cases < 1:
        raise InvalidInputError(f"cases must be at least 1, got {cases}")
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative, got {seed}")
    if dtype not in DTYPES:
        raise InvalidInputError(
            f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}"
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    console = Console()
    table = Table(title=f"jaxkd's theorems in {dtype}", title_style="bold")
    for column in ("", "statement", "claims", "controls"):
        table.add_column(column)
    for column in ("cases", "seconds"):
        table.add_column(column, justify="right")

    total, done = len(set(only) or certificates.CHECKS), []
    with console.status(f"0 of {total} statements") as status:

        def progress(result: certificates.Result) -> None:
            done.append(result.check.name)
            status.update(f"{len(done)} of {total} statements: {' '.join(done)}")

        start = time.perf_counter()
        found = certificates.verify(
            Settings(dtype=dtype, seed=seed, cases=cases), only, on_result=progress
        )
        seconds = time.perf_counter() - start
    for result in found.results:
        table.add_row(*certificates.summary(result), f"{result.seconds:.1f}")
    console.print(table)
    where = found.environment
    console.print(
        f"{where['device']} ({where['backend']}), jax {where['jax']}, flax "
        f"{where['flax']}, optax {where['optax']}; seed {seed}, "
        f"{seconds:.0f} s",
        highlight=False,
    )
    for result in found.results:
        for evidence in result.evidence:
            if evidence.detail and result.check.name in ("T3", "T4"):
                console.print(
                    f"{result.check.name}: {evidence.claim}: {evidence.detail}",
                    highlight=False,
                    soft_wrap=True,
                )
    if "T14" in only:
        console.print(_invariances())
    if out is not None:
        _write(found, out, console)
    for line in found.failures():
        console.print(f"FAILS {line}", highlight=False, soft_wrap=True, markup=False)
    if found.holds:
        console.print("every statement holds, and every control fails as it must")
    else:
        console.print("no certificate: see the lines above")
    return 0 if found.holds else 1


def _invariances() -> Table:
    table = Table(title="what each loss does not see", show_lines=True)
    for column in ("loss", "invariant to", "reordered with", "changed by"):
        table.add_column(column)
    for row in invariance_table():
        table.add_row(
            *(row[k] for k in ("loss", "invariant", "equivariant", "changes"))
        )
    return table


def _write(found: certificates.Certificate, out: Path, console: Console) -> None:
    plots: list[str] = []
    if importlib.util.find_spec("matplotlib") is None:
        console.print("no plots: matplotlib is absent", highlight=False)
    else:
        from proofs_checks import plots as pictures

        plots = [path.name for path in pictures.draw(found, out)]
    (out / "certificate.json").write_text(certificates.to_json(found))
    (out / "certificate.md").write_text(certificates.to_markdown(found, plots))
    console.print(f"certificate and {len(plots)} plots are in {out}", highlight=False)

"""Command-line entry points, shared by ``python -m proofs_checks`` and ``jaxkd``."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxkd import InvalidInputError
from proofs_checks import _kernel
from proofs_checks import certificate as certificates
from proofs_checks._certificate_page import to_markdown
from proofs_checks._evidence import Settings

DTYPES = ("float64", "float32", "bfloat16")

# JAX drops the higher bits of a seed.
_LARGEST_SEED = 2**31 - 1

PIPE_CLOSED = 128 + 13  # as if ended by SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse a command line and run the checks.

    Returns:
        The exit code: 0, 1 if a check fails, or 141 if the reader of stdout has ended.
        Invalid arguments exit with code 2.
    """
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
        help="statements to check, such as T3 (default: all)",
    )
    parser.add_argument(
        "--cases",
        type=int,
        default=100_000,
        help="number of random cases for T3 and T4 (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float64",
        help="dtype of the logits and networks (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all cases (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for certificate.json, certificate.md and plots"
    )
    parser.add_argument(
        "--kernel",
        action="store_true",
        help="also let Coq check the proofs, and the library's output for some inputs",
    )
    options = parser.parse_args(arguments)
    try:
        return main_from_options(**vars(options))
    except InvalidInputError as error:
        # The messages start with the name of the argument, which is the flag's too.
        flag = "--" if error.argument in vars(options) else ""
        parser.error(f"{flag}{error}")
    except BrokenPipeError:
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        parser.error(str(error))


def main_from_options(
    *,
    only: Sequence[str] = (),
    cases: int = 100_000,
    dtype: str = "float64",
    seed: int = 0,
    out: Path | None = None,
    kernel: bool = False,
) -> int:
    """Run the checks, print the table and write the report.

    Args:
        only: Names of the statements to check, such as ``"T3"``; by default all.
        cases: Number of random cases for T3 and T4.
        dtype: ``"float64"``, ``"float32"`` or ``"bfloat16"``.
        seed: Seed of all cases, not negative.
        out: Folder for ``certificate.json``, ``certificate.md`` and plots.
        kernel: Whether to let Coq check the proofs too.

    Returns:
        0, or 1 if a statement fails, a control does not, or Coq refuses a proof.

    Raises:
        InvalidInputError: If an argument is invalid, or Coq is wanted but not
            installed.
        OSError: If the folder cannot be written.
    """
    settings = _settings(only, cases, dtype, seed)
    if kernel:
        _kernel.require()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    from proofs_checks import _console  # loads rich

    found = _console.verify(settings, only)
    if kernel:
        found = found.with_proofs(_console.check_proofs())
    _console.show(found, invariances="T14" in only)
    if out is not None:
        plots = _write(found, out)
        if plots is None:
            _console.say("No plots: matplotlib is not installed.")
        number = len(plots or ())
        drawn = f"{number} plot{'' if number == 1 else 's'}"
        _console.say(f"Wrote the certificate and {drawn} to {out}.")
    _console.conclude(found)
    return 0 if found.holds else 1


def _settings(only: Sequence[str], cases: int, dtype: str, seed: int) -> Settings:
    """Check the options and return them as settings."""
    for name in only:
        if name not in certificates.CHECKS:
            raise certificates.unknown_statement(name, argument="only")
    if cases < 1:
        raise InvalidInputError(
            f"cases must be at least 1, got {cases}", argument="cases"
        )
    if seed < 0:
        raise InvalidInputError(
            f"seed must not be negative, got {seed}", argument="seed"
        )
    if seed > _LARGEST_SEED:
        raise InvalidInputError(
            f"seed must be at most {_LARGEST_SEED}, got {seed}", argument="seed"
        )
    if dtype not in DTYPES:
        raise InvalidInputError(
            f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}", argument="dtype"
        )
    return Settings(dtype=dtype, seed=seed, cases=cases)


def _write(found: certificates.Certificate, out: Path) -> list[str] | None:
    """Write the report. Return the names of its plots, or None without matplotlib."""
    plots = None
    if importlib.util.find_spec("matplotlib") is not None:
        from proofs_checks import plots as pictures

        plots = [path.name for path in pictures.draw(found, out)]
    (out / "certificate.json").write_text(certificates.to_json(found))
    (out / "certificate.md").write_text(to_markdown(found, plots or ()))
    return plots

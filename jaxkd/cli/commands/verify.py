"""``jaxkd verify``."""

import sys

import proofs_checks
from jaxkd._messages import withdraw
from jaxkd.cli._options import Verify


def run(options: Verify, arguments: list[str]) -> None:
    """Check the theorems; exit with code 1 if a check fails."""
    del arguments
    withdraw()  # the proofs have a display of their own
    code = proofs_checks.main_from_options(
        only=options.only,
        cases=options.cases,
        dtype=options.dtype,
        seed=options.seed,
        out=options.out,
        kernel=options.kernel,
    )
    if code != 0:
        sys.exit(code)

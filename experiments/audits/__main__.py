"""``python -m experiments.audits``: audit many losses and print the table.

The losses are those of jaxkd that compare logits, three as other frameworks compute
them, and eleven with a common mistake. Seconds are CPU seconds of one process, most of
which XLA spends on compilation.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import jaxkd
from experiments.audits.mistakes import MISTAKES
from experiments.audits.peers import PEERS
from jaxkd import losses
from jaxkd.losses import Arguments


def library() -> dict[Callable[..., Any], str]:
    """Return the losses of jaxkd that compare logits; none has a fault."""
    kinds = Arguments.LOGITS, Arguments.LABELED_LOGITS
    return {d.loss: "" for d in losses.INVARIANCES if d.arguments in kinds}


GROUPS: Mapping[str, Callable[[], Mapping[Callable[..., Any], str]]] = {
    "jaxkd": library,
    "peers": lambda: PEERS,
    "mistakes": lambda: MISTAKES,
}


def row(loss: Callable[..., Any], mistake: str) -> tuple[str, bool]:
    """Audit a loss.

    Args:
        loss: The loss.
        mistake: Name of the mistake that must be found, or an empty string.

    Returns:
        A row of the table, and whether the result is as it must be.
    """
    start = time.process_time()
    report = jaxkd.audit(loss)
    seconds = time.process_time() - start
    names = list(dict.fromkeys(finding.mistake for finding in report.faults))
    found = [f for f in report.faults if f.mistake == mistake]
    detail = ""
    if found:
        best = max(found, key=lambda finding: bool(finding.measured))
        detail = best.text
        if best.measured:
            right = f", right: {best.expected}" if best.expected else ""
            detail += f" (measured: {best.measured}{right})"
    others = ", ".join(name for name in names if name != mistake)
    cells = [f"`{report.loss}`", mistake if found else "clean", detail, others]
    cells = [cell.replace("|", "\\|") for cell in cells]
    line = f"| {' | '.join(cells)} | {seconds:.1f} |"
    return line, bool(found) if mistake else report.clean


def main() -> int:
    """Print the table; return 1 if a result is not as it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.audits", description=__doc__
    )
    parser.add_argument("--only", choices=GROUPS, help="one part of the table")
    only = parser.parse_args().only
    print("| loss | fault | what is found | other faults | CPU seconds |")
    print("|---|---|---|---|---|")
    right = True
    for name, group in GROUPS.items():
        if only in (None, name):
            for loss, mistake in group().items():
                line, as_expected = row(loss, mistake)
                print(line, flush=True)
                right &= as_expected
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Terminal output of the certificate. Importing this module loads rich."""

from collections.abc import Sequence

from rich import box
from rich.console import Console as _Console
from rich.table import Table

from proofs_checks import _kernel
from proofs_checks import certificate as certificates
from proofs_checks._evidence import Settings
from proofs_checks.t14_invariance import invariance_table


class Console(_Console):
    """A console that raises ``BrokenPipeError`` if the reader of stdout has ended."""

    def on_broken_pipe(self) -> None:
        """Let the entry point end the command."""
        raise BrokenPipeError


def say(line: str) -> None:
    """Print a line as it is: without markup, colors, line breaks or escape codes."""
    text = "".join(x if x.isprintable() else ascii(x)[1:-1] for x in line)
    Console().print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)


def verify(settings: Settings, only: Sequence[str]) -> certificates.Certificate:
    """Run the checks and show which statements are done.

    Args:
        settings: Settings of the certificate.
        only: Names of the statements to check; none for all.
    """
    total, done = len(set(only) or certificates.CHECKS), []
    with Console().status(f"0 of {total} statements") as status:

        def progress(result: certificates.Result) -> None:
            done.append(result.check.name)
            status.update(f"{len(done)} of {total} statements: {' '.join(done)}")

        return certificates.verify(settings, only, on_result=progress)


def check_proofs() -> _kernel.Kernel:
    """Let Coq check the proofs, and show what it does."""
    with Console().status("Coq") as status:
        return _kernel.check(status.update)


def show(found: certificates.Certificate, *, invariances: bool) -> None:
    """Print the table of results, the environment and the tightest cases.

    Args:
        found: The certificate.
        invariances: Whether to print the invariance table too.
    """
    console, settings = Console(), found.settings
    # Without lines between the columns, titles fit into 80 columns.
    title = f"Theorems checked in {settings.dtype}"
    table = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "statement", "claims", "controls", "checked by"):
        table.add_column(column, no_wrap=column in ("claims", "controls"))
    table.add_column("seconds", justify="right")
    for result in found.results:
        table.add_row(*certificates.summary(result), f"{result.seconds:.1f}")
    console.print(table)
    where = found.environment
    say(
        f"{where['device']} ({where['backend']}), jax {where['jax']}, "
        f"flax {where['flax']}, optax {where['optax']}; "
        f"seed {settings.seed}, {found.seconds:.0f} s"
    )
    if found.kernel is not None:
        say(found.kernel.about())
    for result in found.results:
        for evidence in result.evidence:
            if evidence.detail and result.check.name in ("T3", "T4"):
                say(f"{result.check.name}: {evidence.claim}: {evidence.detail}")
    if invariances:
        console.print(_invariances())


def conclude(found: certificates.Certificate) -> None:
    """Print the failures and the verdict."""
    for line in found.failures():
        say(f"FAILS {line}")
    if found.holds:
        say("All statements hold, and all controls fail as they must.")
    else:
        say("No certificate: at least one check failed. See the lines above.")


def _invariances() -> Table:
    table = Table(title="Symmetries of each loss", show_lines=True)
    for column in ("loss", "invariant to", "equivariant to", "changed by"):
        table.add_column(column)
    for row in invariance_table():
        table.add_row(
            *(row[k] for k in ("loss", "invariant", "equivariant", "changes"))
        )
    return table

"""The option ``--json``: results as JSON, in a file or on stdout."""

from pathlib import Path
from typing import Any

from jaxkd import _json, runs, training
from jaxkd._files import check_free, write_whole
from jaxkd.cli._console import Console

STDOUT = Path("-")


def check_json(out: Path | None) -> None:
    """Check that a result can be written, before it is computed.

    Raises:
        InvalidInputError: If the file exists.
    """
    if out not in (None, STDOUT):
        check_free(out, "--json", argument="json")


def describe_network(
    loaded: runs.LoadedNetwork, frozen: training.FrozenNetwork
) -> dict[str, Any]:
    """Return what identifies a trained network."""
    return {
        "model": loaded.network.model,
        "width": loaded.network.width,
        "step": loaded.step,
        "trial": loaded.trial,
        "seed": loaded.seed,
        "averaged_weights": loaded.averaged,
        "best_validation_accuracy": loaded.best,
        "fingerprint": runs.fingerprint_of(frozen.variables),
    }


def write_json(out: Path, entries: dict[str, Any]) -> None:
    """Write a result into a file, or to stdout."""
    write_text(out, _json.dumps(entries, indent=2) + "\n")


def write_text(out: Path, text: str) -> None:
    """Write the JSON text of a result into a file, or to stdout."""
    if out == STDOUT:
        for line in text.splitlines():
            Console().tell(line)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, text.encode())

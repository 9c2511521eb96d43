"""Define a study, and store and load the numbers of its runs."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments._numbers import rounded
from experiments._runs import Job, finished

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Run:
    """The numbers of one run.

    Attributes:
        command: The command line of the run.
        seeds: Seeds of the trials.
        metrics: Values by name, of shape ``[epochs, trials]``.
    """

    command: str
    seeds: tuple[int, ...]
    metrics: Mapping[str, np.ndarray]

    def last(self, metric: str = "test/accuracy") -> np.ndarray:
        """Return a metric of every trial after the last epoch."""
        return self.metrics[metric][-1]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All runs of a study.

    Attributes:
        provenance: Commit, hardware and date.
        runs: Runs by cell.
    """

    provenance: str
    runs: Mapping[str, Run]


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and the presentation of the answer.

    Attributes:
        name: Name of the study and of its file.
        jobs: Returns the runs, given their root folder.
        metrics: Metrics to store besides the test accuracy, if a run has them.
        table: Returns the answer as a Markdown table.
        draw: Returns the answer as a figure.
    """

    name: str
    jobs: Callable[[Path], Sequence[Job]]
    metrics: tuple[str, ...]
    table: Callable[[Evidence], str]
    draw: Callable[[Evidence], Figure]

    @property
    def file(self) -> Path:
        """File that stores the numbers."""
        return RESULTS / f"{self.name}.json"

    def gather(self, root: Path, provenance: str) -> Evidence:
        """Read the numbers of the finished runs."""
        names = ("test/accuracy", *self.metrics)
        done = [job for job in self.jobs(root) if finished(job)]
        return Evidence(provenance, {job.cell: _read_run(job, names) for job in done})

    def save(self, evidence: Evidence) -> None:
        """Write the numbers to :attr:`file`, with one line per metric of a run."""
        runs = {
            cell: {"command": run.command, "seeds": run.seeds}
            | {name: rounded(values) for name, values in run.metrics.items()}
            for cell, run in evidence.runs.items()
        }
        lines = [
            f"{_json(cell)}: {{\n " + ",\n ".join(map(_entry, facts.items())) + "}"
            for cell, facts in runs.items()
        ]
        head = '{"provenance": ' + _json(evidence.provenance) + ',\n"runs": {\n'
        self.file.write_text(head + ",\n".join(lines) + "}}\n")

    def load(self) -> Evidence:
        """Read the numbers that :meth:`save` wrote."""
        found = json.loads(self.file.read_text())
        runs = {}
        for cell, facts in found["runs"].items():
            command, seeds = facts.pop("command"), tuple(facts.pop("seeds"))
            metrics = {name: np.array(values) for name, values in facts.items()}
            runs[cell] = Run(command, seeds, metrics)
        return Evidence(found["provenance"], runs)


def _read_run(job: Job, names: Sequence[str]) -> Run:
    from jaxkd import runs  # imports JAX, which tables and figures do not need

    config = runs.read_config(job.out)
    options = config["options"]
    records = runs.read_metrics(job.out / "metrics.jsonl")
    metrics = {
        name: np.array([_of_trials(record, name) for record in records])
        for name in names
        if name in records[-1]
    }
    seeds = range(options["seed"], options["seed"] + options["trials"])
    return Run(config["command"], tuple(seeds), metrics)


def _of_trials(record: Mapping[str, Any], name: str) -> list[float]:
    return record["trials"][name] if "trials" in record else [record[name]]


def _entry(item: tuple[str, object]) -> str:
    return ": ".join(map(_json, item))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

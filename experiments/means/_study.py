"""Define a study, and store and load the numbers of its students."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments._numbers import rounded

RESULTS = Path(__file__).parent / "results"

Cell = Mapping[str, np.ndarray]
"""Values of all students of one setting by name."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The numbers of a study on one dataset.

    Attributes:
        provenance: Commit, hardware and date.
        dataset: Name of the dataset.
        teacher: Test accuracy of the teacher.
        cells: The students' numbers by setting.
    """

    provenance: str
    dataset: str
    teacher: float
    cells: Mapping[str, Cell]


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, the students that answer it, and the presentation of the answer.

    Attributes:
        name: Name of the study and of its files.
        measure: Trains the students, given a dataset and the number of students in each
            setting; returns the teacher's accuracy and the students' numbers.
        table: Returns the numbers of a dataset as a Markdown table.
        draw: Returns the numbers of a dataset as a figure.
    """

    name: str
    measure: Callable[[str, int], tuple[float, Mapping[str, Cell]]]
    table: Callable[[Evidence], str]
    draw: Callable[[Evidence], Figure]

    def file(self, dataset: str) -> Path:
        """Return the file that stores the numbers of a dataset."""
        return RESULTS / f"{self.name}_{dataset}.json"

    def save(self, evidence: Evidence) -> None:
        """Write the numbers, one setting a line, with five digits."""
        head = {"provenance": evidence.provenance, "teacher": evidence.teacher}
        lines = [
            f" {json.dumps(name, ensure_ascii=False)}: {json.dumps(rounded(cell))}"
            for name, cell in evidence.cells.items()
        ]
        start = json.dumps(head, ensure_ascii=False)[:-1]
        text = f'{start},\n"cells": {{\n' + ",\n".join(lines) + "}}\n"
        self.file(evidence.dataset).write_text(text)

    def load(self, dataset: str) -> Evidence:
        """Read the numbers that :meth:`save` wrote."""
        found = json.loads(self.file(dataset).read_text())
        cells = {
            name: {key: np.array(values) for key, values in cell.items()}
            for name, cell in found["cells"].items()
        }
        return Evidence(found["provenance"], dataset, found["teacher"], cells)

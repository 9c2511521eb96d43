"""Define a published table. Imports no JAX, so that listing commands is instant."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from experiments._runs import Job


class Published(NamedTuple):
    """An accuracy in percent, as printed.

    Attributes:
        mean: Mean over the seeds.
        deviation: Standard deviation over the seeds; None if not printed.
    """

    mean: float
    deviation: float | None = None

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f}±{f'{self.deviation:.2f}'.removeprefix('0')}"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its learning rate.

    Attributes:
        model: Name of the network in the registry.
        learning_rate: Initial learning rate.
        width: Base number of channels; None for the published one.
    """

    model: str
    learning_rate: float = 0.05
    width: int | None = None

    @property
    def label(self) -> str:
        """Name in ``jaxkd report``."""
        return self.model + ("" if self.width is None else f" (width {self.width})")

    @property
    def folder(self) -> str:
        """Name of the run folder."""
        return self.model + ("" if self.width is None else f"-{self.width}")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A column of the table: a teacher and its student.

    Attributes:
        name: Name in the table and on the command line.
        teacher: The large network.
        student: The small one.
    """

    name: str
    teacher: Network
    student: Network


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: a method, with numbers in the order of the pairs.

    Attributes:
        name: Name in the table.
        method: Name of the recipe, for ``jaxkd distill --method``.
        weights: Weights of the recipe's parts.
        published: The printed accuracies; empty if they are not transcribed.
        improvement: The printed average relative improvement over it, in percent.
        without: Names of the pairs that the method does not support.
    """

    name: str
    method: str
    weights: Mapping[str, float]
    published: tuple[Published, ...] = ()
    improvement: float | None = None
    without: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Data:
    """Dataset of a table.

    Attributes:
        source: Value of ``--dataset``.
        images: Number of training images.
        shape: Height, width and channels of an image.
        classes: Number of classes.
    """

    source: str
    images: int
    shape: tuple[int, int, int]
    classes: int

    @property
    def name(self) -> str:
        """Name in ``jaxkd report``."""
        return Path(self.source).stem


CIFAR100 = Data("cifar100", 50_000, (32, 32, 3), 100)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of all runs of a table.

    Attributes:
        data: Dataset.
        trials: Students per cell, with the seeds 0, 1, ...
        epochs: Epochs of every run.
        batch_size: Examples per step.
        milestones: Fractions of the run after which the learning rate falls tenfold.
        momentum: Momentum of SGD.
        weight_decay: L2 decay of all trained parameters.
        options: Additional options of ``jaxkd train`` and ``jaxkd distill``.
    """

    data: Data
    trials: int = 5
    epochs: int = 240
    batch_size: int = 64
    milestones: tuple[float, ...] = (150 / 240, 180 / 240, 210 / 240)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A published table: pairs in columns, methods in rows.

    Attributes:
        name: Name of the table and of its file.
        title: Title, with the source.
        settings: Settings of all runs.
        pairs: The columns.
        rows: The methods.
        baseline: The method whose average relative improvement is shown.
        teachers: The printed accuracies of the teachers, in the order of the pairs.
        students: The printed accuracies of the students alone.
    """

    name: str
    title: str
    settings: Settings
    pairs: tuple[Pair, ...]
    rows: tuple[Row, ...]
    baseline: str
    teachers: tuple[Published, ...] = ()
    students: tuple[Published, ...] = ()

    def teacher_job(self, pair: Pair, root: Path) -> Job:
        """Return the teacher's run, with one network."""
        one = dataclasses.replace(self.settings, trials=1)
        out = self._folder(root) / "teachers" / pair.teacher.folder
        arguments = ("train", *_arguments(one, pair.teacher))
        return Job(f"{pair.name}, teacher", out, (*arguments, "--out", str(out)))

    def student_job(self, pair: Pair, root: Path) -> Job:
        """Return the students' run without a teacher."""
        out = self._folder(root) / "students" / pair.student.folder
        arguments = ("train", *_arguments(self.settings, pair.student))
        return Job(f"{pair.name}, student", out, (*arguments, "--out", str(out)))

    def cell_job(self, pair: Pair, row: Row, root: Path) -> Job:
        """Return the students' run with a method."""
        names = f"{pair.teacher.folder}-{pair.student.folder}"
        out = self._folder(root) / names / row.method
        teacher = self.teacher_job(pair, root).out
        weights = [text for part in row.weights.items() for text in map(_text, part)]
        arguments = (
            *("distill", "--teacher", str(teacher), "--method", row.method),
            *("--weights", *weights),
            *_arguments(self.settings, pair.student),
            *("--out", str(out)),
        )
        return Job(f"{pair.name}, {row.name}", out, arguments)

    def cells(self, root: Path) -> Iterator[tuple[Pair, str, list[Job]]]:
        """Yield pair, method and runs of each cell; the teacher's run comes first."""
        for pair in self.pairs:
            teacher = self.teacher_job(pair, root)
            yield pair, "teacher", [teacher]
            yield pair, "student", [self.student_job(pair, root)]
            for row in self.rows:
                if pair.name not in row.without:
                    job = self.cell_job(pair, row, root)
                    yield pair, row.method, [teacher, job]

    def jobs(self, root: Path) -> list[Job]:
        """Return all runs once: cells may share a network."""
        found: dict[Path, Job] = {}
        for *_, jobs in self.cells(root):
            for job in jobs:
                found.setdefault(job.out, job)
        return list(found.values())

    def _folder(self, root: Path) -> Path:
        """Name the folder by dataset only, so that tables share their common runs."""
        return root / self.settings.data.name


TINY = Network("resnet8", width=4)


def smoke(table: Table, network: Network = TINY) -> Table:
    """Replace the networks by tiny ones, and the data by handwritten digits.

    Teacher and student are the same network, because some methods need the same widths.
    The printed numbers are of other networks and are removed.

    Args:
        table: The table.
        network: The tiny network. An MLP compiles faster, but has no feature maps.
    """
    return dataclasses.replace(
        table,
        title=f"Smoke test of: {table.title}",
        settings=Settings(
            Data("digits", 128, (8, 8, 1), 10),
            trials=2,
            epochs=2,
            options=("--subset", "128", "--no-report"),
        ),
        pairs=tuple(Pair(pair.name, network, network) for pair in table.pairs),
        rows=tuple(
            dataclasses.replace(row, published=(), improvement=None)
            for row in table.rows
        ),
        teachers=(),
        students=(),
    )


def _arguments(settings: Settings, network: Network) -> list[str]:
    width = [] if network.width is None else ["--width", str(network.width)]
    return [
        *("--dataset", settings.data.source, "--model", network.model, *width),
        *("--epochs", str(settings.epochs), "--batch-size", str(settings.batch_size)),
        *("--learning-rate", _text(network.learning_rate)),
        *("--milestones", *map(_text, settings.milestones)),
        *("--momentum", _text(settings.momentum)),
        *("--weight-decay", _text(settings.weight_decay)),
        *("--trials", str(settings.trials)),
        *settings.options,
    ]


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"

"""``jaxkd quickstart``: knowledge distillation of handwritten digits in a minute."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxkd import data, distillers, reports, runs, training
from jaxkd._checks import check_at_least
from jaxkd._files import write_whole
from jaxkd._text import count, shell_line
from jaxkd.cli._console import Console
from jaxkd.cli._options import Quickstart

METHODS = {"alone": "ce", "KD": "kd", "HKD+KD": "hkd+kd"}
TRANSFER_IMAGES = 256
TEACHER_EPOCHS = 20
STUDENT_EPOCHS = 80
BATCH_SIZE = 64


class _Trained(NamedTuple):
    program: training.Program
    loop: training.LoopState
    history: list[dict[str, Any]]


def run(options: Quickstart, arguments: list[str]) -> None:
    """Train a teacher, train students with and without it, and compare them."""
    runs.check_out(options.out, resume=False)
    check_at_least(1, seeds=options.seeds)
    console = Console()
    started = time.perf_counter()
    digits = data.load("digits")
    transfer = data.take_subset(digits, TRANSFER_IMAGES, seed=0)
    teacher_network = runs.NetworkConfig.for_dataset(
        digits, "resnet20", None, "float32"
    )
    student_network = runs.NetworkConfig.for_dataset(digits, "resnet8", 4, "float32")
    out = options.out
    out.mkdir(parents=True, exist_ok=True)

    with _bar(console, "teacher", TEACHER_EPOCHS) as watch:
        program = _compile(teacher_network, digits, "ce", TEACHER_EPOCHS, None)
        teacher = _fit(console, "teacher", program, 0, TEACHER_EPOCHS, watch)
    _save(out / "teacher", arguments, teacher_network, digits, teacher)
    frozen = training.freeze_teacher(
        teacher.program.student(teacher.loop), teacher.program.normalization
    )

    students = _train_students(
        console, student_network, transfer, frozen, seeds=options.seeds
    )
    _save(out / "student", arguments, student_network, transfer, students["HKD+KD"][0])
    curves = {
        method: np.array([[r["test/accuracy"] for r in t.history] for t in trained])
        for method, trained in students.items()
    }
    teacher_accuracy = teacher.history[-1]["test/accuracy"]
    reports.draw_comparison(
        out / "curves.png",
        curves,
        teacher_accuracy=teacher_accuracy,
        title=f"A small student on {TRANSFER_IMAGES} handwritten digits",
    )
    results = _results(curves, teacher_accuracy, time.perf_counter() - started)
    runs.write_json(out / "results.json", results)
    _report(console, options, results)


def _train_students(
    console: Console,
    network: runs.NetworkConfig,
    dataset: data.ImageDataset,
    teacher: training.FrozenNetwork,
    *,
    seeds: int,
) -> dict[str, list[_Trained]]:
    """Train students by each method, one for each seed."""

    def train(method: str) -> list[_Trained]:
        program = _compile(network, dataset, METHODS[method], STUDENT_EPOCHS, teacher)
        return [
            _fit(
                console, f"{method}, seed {seed}", program, seed, STUDENT_EPOCHS, watch
            )
            for seed in range(seeds)
        ]

    total = len(METHODS) * seeds * STUDENT_EPOCHS
    # Steps this small, and compilation, use one core. So two methods run at a time; XLA
    # releases the interpreter's lock.
    with (
        _bar(console, "students", total) as watch,
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        return dict(zip(METHODS, pool.map(train, METHODS), strict=True))


def _results(
    curves: dict[str, np.ndarray], teacher_accuracy: float, seconds: float
) -> dict[str, Any]:
    """Return the content of results.json, from the test accuracies of all epochs."""
    students = {
        method: {
            "accuracy": values[:, -1].tolist(),
            "mean": float(values[:, -1].mean()),
            "std": runs.mean_and_deviation(values[:, -1].tolist())["std"],
        }
        for method, values in curves.items()
    }
    teacher = {"accuracy": teacher_accuracy}
    return {"teacher": teacher, "seconds": seconds, "students": students}


def _compile(
    network: runs.NetworkConfig,
    dataset: data.ImageDataset,
    recipe: str,
    epochs: int,
    teacher: training.FrozenNetwork | None,
) -> training.Program:
    steps = data.steps_per_epoch(len(dataset.train.labels), BATCH_SIZE)
    return training.compile_program(
        network.build,
        dataset,
        distillers.recipe(recipe),
        optimizer=training.published_sgd(epochs * steps),
        batch_size=BATCH_SIZE,
        teacher=teacher,
    )


@contextlib.contextmanager
def _bar(
    console: Console, name: str, epochs: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a bar on a terminal; yield a function to call after each epoch."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(f"{name}, compiling", total=epochs)
        yield lambda _: bar.update(task, advance=1, description=f"{name}, epochs")


def _fit(
    console: Console,
    name: str,
    program: training.Program,
    seed: int,
    epochs: int,
    watch: Callable[[dict[str, Any]], None],
) -> _Trained:
    """Train with one seed, and print one line when it is done."""
    loop, history = training.fit(
        program,
        program.start(seed, seed),
        epochs=epochs,
        on_epoch=watch,
        progress=False,
    )
    accuracy = history[-1]["test/accuracy"]
    console.tell(f"{name:18} test accuracy {accuracy:.1%}")
    return _Trained(program, loop, history)


def _save(
    out: Path,
    arguments: list[str],
    network: runs.NetworkConfig,
    dataset: data.ImageDataset,
    trained: _Trained,
) -> None:
    """Write the run folder of seed 0, for the other commands."""
    normalization = trained.program.normalization
    config = runs.make_config({}, arguments, network, "digits", dataset, normalization)
    runs.save_network(
        out,
        config,
        trained.program.student(trained.loop),
        {"history": trained.history},
        step=trained.history[-1]["step"],
    )
    with contextlib.closing(runs.MetricsWriter(out)) as write:
        for record in trained.history:
            write(record)
    runs.write_summary(out, trained.history, seed=0, data_seed=0)


def _report(console: Console, options: Quickstart, results: dict[str, Any]) -> None:
    """Print the table, and write it to report.md."""
    seeds = count(options.seeds, "seed")
    title = f"Test accuracy (%) after the last epoch, {seeds}"
    table = Table(title=title)
    table.add_column("network")
    table.add_column("accuracy", justify="right")
    rows = [
        ("teacher, resnet20, all images", f"{100 * results['teacher']['accuracy']:.1f}")
    ]
    for method, result in results["students"].items():
        shown = f"{100 * result['mean']:.1f}"
        if result["std"] is not None:
            shown += f" ± {100 * result['std']:.1f}"
        rows.append((f"student, {method}", shown))
    for row in rows:
        table.add_row(*row)
    console.print(table)
    student = shell_line([str(options.out / "student")])
    lines = [
        "# Quickstart",
        "",
        f"{title}. The teacher is trained on 1,437 images, the students (resnet8 with "
        f"4 channels) on {TRANSFER_IMAGES} of them. The test set has 360 other images.",
        "",
        "| network | accuracy |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "![Test accuracy over the epochs](curves.png)",
        "",
        f"Made in {results['seconds']:.0f} s on {jax.devices()[0].device_kind} by "
        f"`jaxkd quickstart --seeds {options.seeds}`. The HKD+KD student of seed 0 is "
        "in `student/`, the teacher in `teacher/`; try `jaxkd evaluate "
        f"{student}`, or `jaxkd show {student}`.",
        "",
    ]
    write_whole(options.out / "report.md", "\n".join(lines).encode())
    console.tell(
        f"{results['seconds']:.0f} s; report.md, curves.png, teacher and student are "
        f"in {options.out}"
    )

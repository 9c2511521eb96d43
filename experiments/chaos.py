"""Kill a run repeatedly, damage its checkpoints, and compare the results.

    python -m experiments.chaos --kills 20

A small student is distilled from a small teacher on handwritten digits (HKD+KD, resnet8
with 4 channels). One run is undisturbed. Another is killed with SIGKILL at random
moments, half of them while it writes a checkpoint, and is resumed each time. Both must
end with the same student, bit for bit. Then the newest checkpoint of a copy is damaged
in each way. The copy must report the damage, continue from the previous checkpoint, and
end with the same bits. The exit code is 1 if any check fails.
"""

import dataclasses
import itertools
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

NETWORK = ("--model", "resnet8", "--width", "4")
OFTEN = ("--checkpoint-every", "7")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of the test."""

    kills: int = 20
    """Number of times that the run is killed."""
    epochs: int = 40
    """Epochs of the run."""
    subset: int = 640
    """Training images of the run."""
    seed: int = 0
    """Seed of the random moments."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Working folder; by default a temporary folder, removed at the end."""


class Row(NamedTuple):
    """Result of one check."""

    tried: str
    found: str
    good: bool


class Runs:
    """Start runs as separate processes with a shared compilation cache."""

    def __init__(self, settings: Settings, folder: Path):
        self.folder = folder
        self._settings = settings
        self._environment = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            **os.environ,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``jaxkd`` with these arguments."""
        program = "from jaxkd.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def teach(self) -> None:
        """Train the teacher."""
        out = str(self.folder / "teacher")
        arguments = ("train", "--dataset", "digits", *NETWORK, "--epochs", "2")
        self.finish(self.start(*arguments, "--out", out))

    def distill(self, name: str, *more: str) -> subprocess.Popen[str]:
        """Start the student's run, or resume it."""
        teacher, out = self.folder / "teacher", self.folder / name
        resume = ("--resume",) if (out / "config.json").is_file() else ()
        return self.start(
            *("distill", "--teacher", str(teacher), "--method", "hkd+kd", *NETWORK),
            *("--epochs", str(self._settings.epochs), "--out", str(out)),
            *("--subset", str(self._settings.subset), *more, *resume),
        )

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for a run that must not fail; return its stderr."""
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"a run ended with {process.returncode}: {said}")
        return said

    def students_equal(self, one: str, other: str) -> bool:
        """Check whether two runs ended with the same student, bit for bit."""
        left, right = (student(self.folder / name) for name in (one, other))
        return left.keys() == right.keys() and all(
            np.array_equal(left[name].view(np.uint8), right[name].view(np.uint8))
            for name in left
        )


def student(run: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a run's newest student, without jaxkd's own code."""
    import orbax.checkpoint as ocp

    steps = [p for p in (run / "checkpoints").iterdir() if p.name.isdigit()]
    newest = max(steps, key=lambda path: int(path.name))
    with ocp.PyTreeCheckpointer() as checkpointer, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about shardings, which one device does not need
        arrays = checkpointer.restore((newest / "student").absolute())
    return {name: np.atleast_1d(np.asarray(x)) for name, x in sorted(arrays.items())}


def saved(run: Path) -> int:
    """Return the newest step in a run's checkpoints, or 0 if there are none."""
    steps = (p.name for p in (run / "checkpoints").glob("*") if p.name.isdigit())
    return max(map(int, steps), default=0)


class Moment(NamedTuple):
    """A moment to kill a run.

    Attributes:
        saves: Number of checkpoints to wait for; None is before the first step.
        saving: Whether to kill while the next checkpoint is written.
        seconds: Time to wait after that.
    """

    saves: int | None
    saving: bool
    seconds: float


def moments(count: int, rng: random.Random, startup: float) -> list[Moment]:
    """Choose half during saves, most others between saves, and some at the start."""
    chosen = []
    for index in range(count):
        if index % 2 == 0:
            chosen.append(Moment(rng.randrange(3), True, rng.uniform(0.0, 0.25)))
        elif index % 8 == 1:
            chosen.append(Moment(None, False, rng.uniform(0.0, startup)))
        else:
            chosen.append(Moment(rng.randrange(3), False, rng.uniform(0.0, 0.5)))
    return chosen


def kill(runs: Runs, moment: Moment) -> Row:
    """Start or resume the run, kill it, and report where it was."""
    run = runs.folder / "killed"
    unfinished = run / "checkpoints" / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    before, process = saved(run), runs.distill("killed", *OFTEN)

    def wait(*, until: bool) -> None:
        while unfinished.exists() != until and process.poll() is None:
            time.sleep(0.0005)

    for _ in range(moment.saves or 0):
        wait(until=True)
        wait(until=False)
    if moment.saving:
        wait(until=True)
    time.sleep(moment.seconds)
    process.kill()
    _, said = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run ended with {process.returncode}: {said}")
    left = sorted(path.name for path in unfinished.glob("*"))
    where = f"during a save ({left[0][:28]})" if left else "between saves"
    if moment.saves is None:
        where = f"{moment.seconds:.1f} s after its start"
    found = f"{where}; newest step before {before}, after {saved(run)}"
    in_time = (
        process.returncode != 0
    )  # otherwise the run is too short for so many kills
    return Row("SIGKILL", found if in_time else "the run had ended", in_time)


def kills(runs: Runs, count: int, rng: random.Random) -> Iterator[Row]:
    """Compare an undisturbed run with one that is killed."""
    runs.finish(runs.distill("whole"))
    began = time.monotonic()
    # The run is complete: this measures the startup time, with everything compiled.
    runs.finish(runs.distill("whole"))
    startup = time.monotonic() - began
    for moment in moments(count, rng, startup):
        yield kill(runs, moment)
    said = runs.finish(runs.distill("killed", *OFTEN))
    same = runs.students_equal("whole", "killed")
    found = "the same student, bit for bit" if same else "another student"
    quiet = "warning" not in said
    yield Row(f"resumed after {count} kills", found, same and quiet)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def largest(checkpoint: Path) -> Path:
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def damage(checkpoint: Path) -> None:
        file = largest(checkpoint)
        file.write_bytes(change(file.read_bytes()))

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "file truncated": rewrite(cut),
    "file emptied": rewrite(lambda content: b""),
    "bit flipped": rewrite(flip),
    "file missing": lambda checkpoint: largest(checkpoint).unlink(),
    "checksums missing": lambda checkpoint: (checkpoint / "checksums.json").unlink(),
}


def damages(runs: Runs) -> Iterator[Row]:
    """Damage the newest checkpoint in each way, and finally all checkpoints."""
    run = runs.folder / "damaged"
    for name, damage in DAMAGES.items():
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(runs.folder / "killed", run)
        newest = saved(run)
        damage(run / "checkpoints" / str(newest))
        said = runs.finish(runs.distill("damaged", *OFTEN))
        aloud = f"the checkpoint of step {newest}" in said and "is damaged" in said
        aside = (run / "checkpoints" / f"{newest}.damaged").is_dir()
        same = runs.students_equal("whole", "damaged")
        found = f"reported {aloud}, set aside {aside}, same student {same}"
        yield Row(name, found, aloud and aside and same)
    for checkpoint in (run / "checkpoints").iterdir():
        if checkpoint.name.isdigit():
            DAMAGES["bit flipped"](checkpoint)
    process = runs.distill("damaged", *OFTEN)
    _, said = process.communicate()
    lines = said.splitlines()
    refused = process.returncode == 2 and len(lines) == 1 and "every" in lines[0]
    found = f"exit code {process.returncode}, {len(lines)} line on stderr"
    yield Row("all damaged", found, refused)


def signals(runs: Runs) -> Iterator[Row]:
    """Start a second run in the same folder; then send SIGTERM, and resume."""
    run = runs.folder / "asked"
    process = runs.distill("asked")
    while saved(run) == 0 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    second = runs.distill("asked")
    _, said = second.communicate()
    refused = second.returncode == 2 and f"process {process.pid} on" in said
    yield Row("a second run", f"exit code {second.returncode}", refused)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    program, *arguments = shlex.split(
        said.splitlines()[-1].split("continue with: ")[-1]
    )
    asked = process.returncode == 75 and program == "jaxkd"
    yield Row("SIGTERM", f"exit code {process.returncode}", asked)
    runs.finish(runs.start(*arguments))
    same = runs.students_equal("whole", "asked")
    yield Row("the command that it printed", f"same student {same}", same)


def main(settings: Settings) -> int:
    """Run all checks; return the exit code."""
    console, rng = Console(), random.Random(settings.seed)
    folder = settings.out or Path(tempfile.mkdtemp(prefix="jaxkd-chaos-"))
    runs, rows = Runs(settings, folder), []
    started = time.perf_counter()
    try:
        runs.teach()
        checks = (kills(runs, settings.kills, rng), damages(runs), signals(runs))
        for row in itertools.chain(*checks):
            rows.append(row)
            seconds = time.perf_counter() - started
            line = f"{seconds:5.0f} s  {row.tried}: {row.found}"
            console.print(line, highlight=False, soft_wrap=True)
    finally:
        if settings.out is None:
            shutil.rmtree(folder, ignore_errors=True)
    table = Table("check", "found", "passed")
    for row in rows:
        table.add_row(row.tried, row.found, "yes" if row.good else "NO")
    console.print(table)
    wrong = sum(not row.good for row in rows)
    seconds = time.perf_counter() - started
    console.print(f"{len(rows)} checks, {wrong} failed; {seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))

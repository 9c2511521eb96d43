"""Compare trials of HKD+KD in one program, in separate runs, recorded, and in PyTorch.

The teacher is a resnet32x4, the students are resnet8x4s (as published: batch 64, 32x32
color images, 50,000 bank rows, 16,384 negatives; random images, no augmentation). In
each round, every variant takes one step of all trials, in turns. Time is the median
over rounds.

    python -m experiments.benchmarks.trials
    python -m experiments.benchmarks.trials --rounds 3 --only jaxkd-trials torch-runs
    python -m experiments.benchmarks.trials --trials 1 --only jaxkd-runs jaxkd-recorded
    python -m experiments.benchmarks.trials --smoke

`jaxkd-trials` is `compile_program(trials=...)`; `jaxkd-runs` has the same seeds in
separate runs. `jaxkd-recorded` and `jaxkd-recorded-runs` are the same with a recorded
teacher (logits and embeddings in float32, read from disk in each step) in place of its
network; the recording is written before the clock starts. `torch-runs` is the published
form in plain PyTorch, run by run. In `torch-shared`, which nobody has published, its
trials also share the teacher's pass. PyTorch's negatives are drawn once, before the
clock starts, because data-loading workers could hide that work. jaxkd draws its
negatives in every step.

Other work on the machine changes the ratios, so the benchmark stops if the load is
above 0.3; `--busy` measures nevertheless and prints a warning.
"""

import argparse
import dataclasses
import functools
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jaxkd import data, distillers, models, recordings, training

Round = Callable[[], None]

LARGEST_LOAD = 0.3


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the job: CIFAR-100 as published."""

    trials: int = 5
    rows: int = 50_000
    classes: int = 100
    batch: int = 64
    negatives: int = 16_384
    dim: int = 128
    image: int = 32
    teacher_depth: int = 32
    student_depth: int = 8
    widths: tuple[int, ...] = (32, 64, 128, 256)


SMOKE = Sizes(2, 300, 10, 16, 100, 16, 8, 14, 8, (4, 4, 8, 16))


def make_dataset(sizes: Sizes) -> data.ImageDataset:
    """Make random images and labels."""
    rng = np.random.default_rng(0)

    def split(rows):
        shape = (rows, sizes.image, sizes.image, 3)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        return data.Split(images, (np.arange(rows) % sizes.classes).astype(np.int32))

    return data.ImageDataset(
        name="random",
        train=split(sizes.rows),
        test=split(sizes.batch),
        num_classes=sizes.classes,
        class_names=tuple(map(str, range(sizes.classes))),
        augmentation=data.Augmentation(crop_padding=0, flip=False),
        fingerprint="random",
    )


def jaxkd_network(sizes: Sizes, depth: int):
    """Return a builder of one of the two networks."""
    return lambda rngs: models.CifarResNet(
        depth, sizes.widths, num_classes=sizes.classes, rngs=rngs
    )


def recorded_teacher(sizes: Sizes, dataset: data.ImageDataset, folder: Path):
    """Write a recording of the teacher's shapes; its numbers do not change the time."""
    rng = np.random.default_rng(1)
    labels, width = dataset.train.labels, sizes.widths[-1]
    logits = rng.normal(size=(sizes.rows, sizes.classes)).astype(np.float32)
    logits[np.arange(sizes.rows), labels] += 5
    embedding = np.abs(rng.normal(size=(sizes.rows, width))).astype(np.float32)
    return recordings.write(folder, dataset, logits=logits, embedding=embedding)


def jaxkd_round(sizes: Sizes, folder: Path | None, *, together: bool) -> Round:
    """Take one step of all trials with jaxkd.

    Args:
        sizes: The sizes of the job.
        folder: Where to record the teacher; None for its network.
        together: Whether all trials are one program.
    """
    dataset = make_dataset(sizes)
    holistic = {"num_negatives": sizes.negatives, "dim": sizes.dim}
    if folder is None:
        network = jaxkd_network(sizes, sizes.teacher_depth)(nnx.Rngs(0))
        normalization = data.channel_statistics(dataset.train.images)
        teacher = training.freeze(network, normalization)
    else:
        teacher = recorded_teacher(sizes, dataset, folder)
    program = training.compile_program(
        jaxkd_network(sizes, sizes.student_depth),
        dataset,
        distillers.recipe("hkd+kd", settings={"hkd": holistic}),
        optimizer=training.published_sgd(1000),
        batch_size=sizes.batch,
        teacher=teacher,
        steps_per_call=1,
        trials=sizes.trials if together else None,
    )
    seeds = [0] if together else range(sizes.trials)
    states = [program.start(seed) for seed in seeds]
    order = program.order(states[0])
    states = [program.spread(state) for state in states]

    def run() -> None:
        for i, state in enumerate(states):
            states[i], _ = program.training.advance(state, order)
            if not together:  # separate runs do not overlap
                jax.block_until_ready(states[i])
        jax.block_until_ready(states)

    return run


def torch_round(sizes: Sizes, folder: Path | None, *, shared: bool) -> Round:
    """Take one step of all trials with PyTorch, whose teacher is never recorded."""
    del folder
    import torch
    from torch.nn import functional

    from experiments.benchmarks.published_form import (
        CifarResNet,
        HolisticObjective,
        NegativesOnHost,
    )

    torch.manual_seed(0)
    dataset = make_dataset(sizes)
    labels = dataset.train.labels

    def network(depth):
        made = CifarResNet(depth, sizes.widths, sizes.classes, channels=3)
        count = sum(p.numel() for p in made.parameters())
        ours = nnx.eval_shape(lambda: jaxkd_network(sizes, depth)(nnx.Rngs(0)))
        params = jax.tree.leaves(nnx.state(ours, nnx.Param))
        if count != sum(p.size for p in params):
            raise AssertionError(f"the networks of depth {depth} differ")
        return made

    teacher = network(sizes.teacher_depth).eval()
    students = [network(sizes.student_depth) for _ in range(sizes.trials)]
    width = sizes.widths[-1]
    objectives = [
        HolisticObjective(sizes.rows, sizes.dim, width, width) for _ in students
    ]
    optimizers = [
        torch.optim.SGD(
            [*student.parameters(), *objective.parameters()],
            lr=0.05,
            momentum=0.9,
            weight_decay=5e-4,
        )
        for student, objective in zip(students, objectives, strict=True)
    ]
    fixed = np.arange(sizes.batch)
    negatives = NegativesOnHost(labels, sizes.negatives)(fixed)
    mean, std = (
        torch.from_numpy(np.asarray(x)).view(1, 3, 1, 1)
        for x in data.channel_statistics(dataset.train.images)
    )

    def batch():
        stored = np.ascontiguousarray(dataset.train.images[fixed].transpose(0, 3, 1, 2))
        images = (torch.from_numpy(stored).float() / 255 - mean) / std
        return images, torch.from_numpy(labels[fixed]).long(), torch.from_numpy(fixed)

    @torch.no_grad()
    def ask(images):
        return teacher(images)

    def run() -> None:
        images, truth, rows = batch()
        answer = ask(images) if shared else None
        for student, objective, optimizer in zip(
            students, objectives, optimizers, strict=True
        ):
            taught = answer if shared else ask(images)
            features, logits = student(images)
            softened = functional.kl_div(
                functional.log_softmax(logits / 4, dim=1),
                functional.softmax(taught[1] / 4, dim=1),
                reduction="batchmean",
            )
            loss = (
                functional.cross_entropy(logits, truth)
                + 16 * softened
                + 3 * objective((features, logits), taught, rows, negatives)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.remember()

    return run


VARIANTS: dict[str, Callable[[Sizes, Path], Round]] = {
    "jaxkd-trials": lambda sizes, _: jaxkd_round(sizes, None, together=True),
    "jaxkd-runs": lambda sizes, _: jaxkd_round(sizes, None, together=False),
    "jaxkd-recorded": functools.partial(jaxkd_round, together=True),
    "jaxkd-recorded-runs": functools.partial(jaxkd_round, together=False),
    "torch-runs": functools.partial(torch_round, shared=False),
    "torch-shared": functools.partial(torch_round, shared=True),
}


def check_load(*, busy: bool) -> None:
    """Print the machine's load; stop if other work would change the ratios."""
    load = os.getloadavg()[0]
    print(f"load of the machine at the start: {load:.2f}")
    if load <= LARGEST_LOAD:
        return
    problem = f"the load is {load:.2f}, above {LARGEST_LOAD}: other work is running"
    if not busy:
        sys.exit(f"{problem}. Wait until it ends, or pass --busy.")
    print(f"warning: {problem}, so the times and their ratios are unreliable")


def measure(
    sizes: Sizes, names: Sequence[str], rounds: int, folder: Path
) -> dict[str, list[float]]:
    """Return the seconds of each round, for each variant."""
    steps = {name: VARIANTS[name](sizes, folder / name) for name in names}
    for run in steps.values():  # compiles, and warms up
        run()
    seconds = {name: [] for name in names}
    for _ in range(rounds):
        for name, run in steps.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Time several trials of HKD+KD.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--trials", type=int, help="by default 5, or 2 with --smoke")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--busy", action="store_true", help="measure under any load")
    arguments = parser.parse_args()
    check_load(busy=arguments.busy or arguments.smoke)
    sizes = SMOKE if arguments.smoke else Sizes()
    if arguments.trials is not None:
        sizes = dataclasses.replace(sizes, trials=arguments.trials)
    has_torch = importlib.util.find_spec("torch") is not None
    names = [n for n in arguments.only if has_torch or not n.startswith("torch")]
    with tempfile.TemporaryDirectory(prefix="jaxkd-benchmark-") as folder:
        seconds = measure(sizes, names, arguments.rounds, Path(folder))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    images = sizes.trials * sizes.batch
    print(f"{sizes}\njax {jax.__version__} on {jax.default_backend()}\n")
    base = "jaxkd-trials" if "jaxkd-trials" in median else names[0]
    print(f"| variant | s for a step of all trials | images/s | {base} is |")
    print("|---|---|---|---|")
    for name, value in median.items():
        ratio = f"{value / median[base]:.2f} times as fast"
        print(f"| {name} | {value:.3f} | {images / value:,.1f} | {ratio} |")


if __name__ == "__main__":
    main()

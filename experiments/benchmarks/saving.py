"""Measure the longest stall of a step while checkpoints are saved.

An MLP learns from random 8x8 images, beside a bank with one embedding of each image,
which makes a state of several hundred megabytes. A checkpoint is saved every 20 steps,
in the background as training does, or while training waits. The variants take turns,
each in its own process. The longest step is that of all runs of a variant:

    python -m experiments.benchmarks.saving
    python -m experiments.benchmarks.saving --every 40 --runs 3

The time of a step is that between two calls of the loop. A save copies the state, and
the step after it waits for the copy. On CPU, writing also takes cores from training. By
default, a checkpoint is also saved at the end of an epoch, which has 20 steps here.
"""

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time

VARIANTS = ("without saving", "saving, training waits", "saving in the background")
SIZE = 8


def measure(variant: str, options: argparse.Namespace, channel) -> None:
    """Train, and send the seconds of each step, the megabytes and the checkpoints."""
    import jax

    from jaxkd import training

    class Waiting(training.Checkpoints):
        """Checkpoints as they were saved before: training waits for the disk."""

        def save(self, step, loop, record, *, wait=True):
            super().save(step, loop, record, wait=True)

    class Clock(training.Hook):
        """Notes the time before each step, when the last one has been computed."""

        def __init__(self):
            self.times = []

        def before_step(self, run):
            jax.block_until_ready(run.report)
            self.times.append(time.perf_counter())

    program = compile_program(options)
    clock, loop = Clock(), program.start(0)
    size = sum(x.nbytes for x in jax.tree.leaves(loop) if hasattr(x, "nbytes"))
    folder = tempfile.mkdtemp(prefix="saving-", dir=options.out)
    try:
        kind = Waiting if variant == VARIANTS[1] else training.Checkpoints
        checkpoints = kind(folder, every_steps=options.every)
        training.fit(
            program,
            loop,
            epochs=options.steps,
            evaluate_every=options.steps,
            checkpoints=None if variant == VARIANTS[0] else checkpoints,
            stop=stop_after(options.steps),
            hooks=[clock],
        )
    except training.Interrupted:
        pass
    finally:
        shutil.rmtree(folder)
    # The first step compiles.
    steps = [b - a for a, b in zip(clock.times[1:], clock.times[2:], strict=False)]
    channel.send((steps, size / 1e6))


def stop_after(steps: int):
    """Return a function that asks a run to stop before its step of this number."""
    calls = iter(range(steps + 1))
    return lambda: next(calls) == steps


def compile_program(options: argparse.Namespace):
    """Return a program whose banks hold one row for each image."""
    import jax
    import numpy as np
    import optax

    from jaxkd import data, distillers, models, training

    rng = np.random.default_rng(0)
    labels = (np.arange(options.rows) % 10).astype(np.int32)
    images = rng.integers(0, 256, (options.rows, SIZE, SIZE, 1), dtype=np.uint8)
    test = data.Split(images[:100], labels[:100])
    dataset = data.ImageDataset(
        name="random",
        train=data.Split(images, labels),
        test=test,
        num_classes=10,
        class_names=tuple(map(str, range(10))),
        augmentation=data.Augmentation(crop_padding=0, flip=False),
        fingerprint="random",
    )

    def build(rngs):
        shape = (SIZE, SIZE, 1)
        return models.build(
            "mlp", num_classes=10, image_shape=shape, width=options.width, rngs=rngs
        )

    def init(rngs, spec):
        shape = (options.rows, spec.student.embedding.shape[-1])
        bank = jax.random.normal(rngs.params(), shape)  # zeros would compress well
        return distillers.DistillerState({}, bank)

    def loss(params, bank, student, teacher, batch):
        new = jax.lax.stop_gradient(student.embedding)
        labeled = optax.softmax_cross_entropy_with_integer_labels(
            student.logits, batch.labels
        )
        return labeled, bank.at[batch.rows].set(new), {}

    return training.compile_program(
        build,
        dataset,
        distillers.Distiller(init, loss),
        optimizer=optax.sgd(0.02, momentum=0.9),
        batch_size=options.batch_size,
    )


def main() -> None:
    """Run the benchmark, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_960)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=101)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--out", default=None, help="folder of the checkpoints")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    steps: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    megabytes = 0.0
    for _ in range(options.runs):
        for variant in VARIANTS:
            here, there = spawn.Pipe()
            worker = spawn.Process(target=measure, args=(variant, options, there))
            worker.start()
            there.close()
            found, megabytes = here.recv()
            worker.join()
            steps[variant] += found
    print(f"state of {megabytes:,.0f} MB, saved every {options.every} steps; ms a step")
    print(f"{'':26}{'median':>10}{'mean':>10}{'longest':>10}")
    for variant, seconds in steps.items():
        found = (f(seconds) for f in (statistics.median, statistics.mean, max))
        print(f"{variant:26}" + "".join(f"{1e3 * x:10.1f}" for x in found))


if __name__ == "__main__":
    main()

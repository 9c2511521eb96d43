"""Compare the holistic objective on the device with the published gather form.

One step is to embed both networks' features, build both graphs, encode, contrast four
anchors of every example with its negatives, differentiate with respect to the
student's features and all heads, and update both banks. `jaxkd` runs it as one
compiled function that also draws the negatives. The published form, transcribed here
for PyTorch, gathers `[batch, K, dim]` rows of each bank; its negatives are drawn by
NumPy on the host, one example at a time.

    python -m experiments.benchmarks.holistic_objective
    python -m experiments.benchmarks.holistic_objective --growth
    python -m experiments.benchmarks.holistic_objective --smoke

Time is the median over rounds in which all variants take turns. The printed ratio is
relative to the published form *without* its sampling, which data-loading workers could
hide. Memory is that of a separate process per variant: its peak minus its memory once
the banks existed, including compilation. Without PyTorch, only jaxkd is measured.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import distillers
from jaxkd.models import ModelOutput

SAMPLERS = ("all", "shared", "sampled")
ROWS = (50_000, 200_000, 800_000, 1_281_167)
"""Sizes of training sets; the last is that of ImageNet."""
PUBLISHED, PUBLISHED_SAMPLING = "published", "published + sampling"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of one step: CIFAR-100 as published."""

    rows: int = 50_000
    classes: int = 100
    batch: int = 64
    negatives: int = 16_384
    features: int = 256
    dim: int = 128


SMOKE = Sizes(rows=2_000, batch=16, negatives=512, features=32, dim=16)


class Inputs:
    """A stream of random batches, the same for every variant."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.rng = np.random.default_rng(0)
        self.labels = self.rng.integers(0, sizes.classes, sizes.rows, dtype=np.int32)

    def __call__(self) -> dict[str, np.ndarray]:
        """Draw a batch: features and logits of both networks, and row numbers."""
        s = self.sizes
        batch = {
            f"{side}_{kind}": self.rng.normal(size=(s.batch, width)).astype(np.float32)
            for side in ("student", "teacher")
            for kind, width in (("features", s.features), ("logits", s.classes))
        }
        rows = self.rng.choice(s.rows, s.batch, replace=False).astype(np.int32)
        return batch | {"rows": rows}


def ours(sizes: Sizes, negatives: str) -> tuple[Callable[[], None], Callable[[], int]]:
    """Return a step of `jaxkd.distillers.holistic`, and its scratch memory."""
    inputs = Inputs(sizes)
    method = distillers.holistic(
        negatives=negatives, num_negatives=sizes.negatives, dim=sizes.dim
    )
    output = jax.eval_shape(
        lambda: ModelOutput(
            logits=jnp.zeros((sizes.batch, sizes.classes)),
            embedding=jnp.zeros((sizes.batch, sizes.features)),
        )
    )
    spec = distillers.Spec(output, output, sizes.classes, inputs.labels)
    state = method.init(nnx.Rngs(0), spec)

    def step(state, key, batch):
        teacher = ModelOutput(batch["teacher_logits"], batch["teacher_features"])
        example = distillers.Batch(
            images=jnp.zeros((sizes.batch, 1, 1, 1)),  # not read
            labels=batch["labels"],
            rows=batch["rows"],
            key=key,
        )

        def objective(params, features):
            student = ModelOutput(batch["student_logits"], features)
            per_example, extra, _ = method.loss(
                params, state.extra, student, teacher, example
            )
            return per_example.mean(), extra

        grad = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
        (value, extra), grads = grad(state.params, batch["student_features"])
        return state._replace(extra=extra), value, grads

    compiled = jax.jit(step, donate_argnames="state")
    key = jax.random.key(0)

    def with_labels():
        batch = inputs()
        return batch | {"labels": inputs.labels[batch["rows"]]}

    def run():
        nonlocal state, key
        key, step_key = jax.random.split(key)
        state, value, grads = compiled(state, step_key, with_labels())
        jax.block_until_ready((state, value, grads))

    def scratch():
        analysis = compiled.lower(state, key, with_labels()).compile().memory_analysis()
        return 0 if analysis is None else analysis.temp_size_in_bytes

    return run, scratch


def published(sizes: Sizes, *, sampling: bool) -> Callable[[], None]:
    """Return a step of the gather form, on PyTorch's default number of threads."""
    import torch

    from experiments.benchmarks.published_form import HolisticObjective, NegativesOnHost

    inputs = Inputs(sizes)
    torch.manual_seed(0)
    objective = HolisticObjective(sizes.rows, sizes.dim, sizes.features, sizes.features)

    draw = NegativesOnHost(inputs.labels, sizes.negatives)
    fixed = draw(inputs()["rows"])

    def run():
        batch = {k: torch.from_numpy(v) for k, v in inputs().items()}
        rows = batch["rows"].long()
        index = draw(rows.numpy()) if sampling else fixed
        features = batch["student_features"].requires_grad_()
        loss = objective(
            (features, batch["student_logits"]),
            (batch["teacher_features"], batch["teacher_logits"]),
            rows,
            index,
        )
        loss.backward()
        objective.remember()

    return run


def build(name: str, sizes: Sizes) -> Callable[[], None]:
    """Return a step by name."""
    if name in SAMPLERS:
        return ours(sizes, name)[0]
    return published(sizes, sampling=name == PUBLISHED_SAMPLING)


def variants() -> list[str]:
    """List the variants that can run here."""
    has_torch = importlib.util.find_spec("torch") is not None
    return [*SAMPLERS, *((PUBLISHED, PUBLISHED_SAMPLING) if has_torch else ())]


def time_in_turns(
    steps: dict[str, Callable[[], None]], rounds: int
) -> dict[str, float]:
    """Measure the median seconds of each step, in turns."""
    for step in steps.values():
        step()
        step()
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def resident() -> int:
    """Return the bytes of memory that the process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_memory(name: str, sizes: Sizes) -> dict[str, int]:
    """Measure the bytes of one variant above its banks, in its own process."""
    scratch = None
    if name in SAMPLERS:
        step, scratch = ours(sizes, name)
    else:
        step = build(name, sizes)
    before = resident()
    for _ in range(3):
        step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"process": peak - before}
    if scratch is not None:
        result["xla"] = scratch()
    return result


def memory_apart(sizes: Sizes, smoke: bool) -> dict[str, dict[str, int]]:
    """Measure the memory of every variant, each in its own process."""
    result = {}
    for name in variants():
        command = [sys.executable, "-m", "experiments.benchmarks.holistic_objective"]
        command += ["--memory-of", name] + ["--smoke"] * smoke
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        result[name] = json.loads(output.stdout)
    return result


def print_growth(rounds: int) -> None:
    """Time a step of each sampler with training sets of several sizes.

    Each sampler runs by itself: a step of ``all`` reads both banks, and the next step
    of another sampler would find none of its rows in the processor's caches.
    """
    print(f"| rows | {' | '.join(SAMPLERS)} |")
    print("|---|" + "---|" * len(SAMPLERS))
    for rows in ROWS:
        sizes = dataclasses.replace(Sizes(), rows=rows)
        seconds = [
            time_in_turns({name: build(name, sizes)}, rounds)[name] for name in SAMPLERS
        ]
        times = " | ".join(f"{1e3 * value:.1f} ms" for value in seconds)
        print(f"| {rows:,} | {times} |", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Time the holistic objective.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--growth", action="store_true", help="only jaxkd, with more and more rows"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--memory-of", choices=variants(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = SMOKE if arguments.smoke else Sizes()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of, sizes)))
        return
    if arguments.growth:
        print_growth(arguments.rounds)
        return

    memory = memory_apart(sizes, arguments.smoke)
    steps = {name: build(name, sizes) for name in variants()}
    seconds = time_in_turns(steps, arguments.rounds)
    print(f"{sizes}\njax {jax.__version__} on {jax.default_backend()}\n")
    print("| variant | ms a step | times faster | MB above the banks | of which XLA |")
    print("|---|---|---|---|---|")
    for name, value in seconds.items():
        ratio = f"{seconds[PUBLISHED] / value:.1f}" if PUBLISHED in seconds else "-"
        xla = memory[name].get("xla")
        print(
            f"| {name} | {1e3 * value:.1f} | {ratio} "
            f"| {memory[name]['process'] / 1e6:.0f} "
            f"| {'-' if xla is None else f'{xla / 1e6:.1f}'} |"
        )


if __name__ == "__main__":
    main()

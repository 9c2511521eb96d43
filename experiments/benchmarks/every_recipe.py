"""Run every recipe for one epoch on handwritten digits, and measure its cost.

The teacher is a resnet20, and the student a resnet8 of the same widths (FSP and KDSVD
compare channels one by one). Each recipe trains for one epoch of each of its stages.

    python -m experiments.benchmarks.every_recipe
    python -m experiments.benchmarks.every_recipe --only crd hkd+kd
    python -m experiments.benchmarks.every_recipe --smoke

The columns are the mean loss of the last epoch; how many of the arrays that the method
trains besides the student have changed, and of how many; the scratch memory of one step
as XLA plans it; and images per second without compilation. The exit code is 1 if a loss
is not finite or a projection head has not changed.
"""

import argparse
import inspect
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import memory
from jaxkd import data, distillers, models, training

BATCH = 64


def build(name: str, width: int):
    """Return a builder of a network for digits."""
    return lambda rngs: models.build(
        name, num_classes=10, image_shape=(8, 8, 1), width=width, rngs=rngs
    )


def train_teacher(dataset: data.ImageDataset, width: int) -> training.FrozenNetwork:
    """Train a teacher."""
    program = training.compile_program(
        build("resnet20", width),
        dataset,
        distillers.recipe("ce"),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=BATCH,
    )
    loop, history = training.fit(program, program.start(0), epochs=10, progress=False)
    print(f"teacher: test accuracy {history[-1]['test/accuracy']:.1%}", flush=True)
    return training.freeze_teacher(program.student(loop), program.normalization)


def leaves(tree: Any) -> dict[str, jax.Array]:
    """Copy a pytree's arrays into a dictionary by name."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.copy(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def run(
    name: str,
    dataset: data.ImageDataset,
    teacher: training.FrozenNetwork,
    width: int,
) -> dict[str, Any]:
    """Run one epoch of each stage of a recipe."""
    settings = {
        part: {"pretraining_epochs": 1}
        for part in distillers.RECIPES[name]
        if "pretraining_epochs" in inspect.signature(distillers.PARTS[part]).parameters
    }
    program = training.compile_program(
        build("resnet8", width),
        dataset,
        distillers.recipe(name, settings=settings),
        # No weight decay: it would change arrays without a gradient.
        optimizer=optax.sgd(0.01, momentum=0.9),
        batch_size=BATCH,
        teacher=teacher,
        fused=True,
    )
    loop = program.start(0)
    moved: dict[str, bool] = {}
    scratch, speed = 0, 0.0
    for epoch in range(program.pretraining_epochs + 1):
        if epoch and epoch == program.pretraining_epochs:
            loop = program.begin_training(loop)
        stage, order = (
            program.stage(epoch * program.steps_per_epoch),
            program.order(loop),
        )
        before = leaves(loop.train.heads)
        scratch = max(scratch, memory.scratch_bytes(stage, loop, order))
        loop, report = stage.advance(loop, order)
        jax.block_until_ready(report)
        started = time.perf_counter()
        for _ in range(program.steps_per_epoch - 1):
            loop, report = stage.advance(loop, order)
        jax.block_until_ready(report)
        seconds = time.perf_counter() - started
        speed = (program.steps_per_epoch - 1) * BATCH / seconds
        after = leaves(loop.train.heads)
        for leaf, value in before.items():
            moved[leaf] = moved.get(leaf, False) or bool(jnp.any(value != after[leaf]))
    total = float(loop.monitor.totals["loss"]) / program.steps_per_epoch
    return {
        "recipe": name,
        "loss": total,
        "heads": len(moved),
        "unmoved": sorted(leaf for leaf, has in moved.items() if not has),
        "accuracy": program.evaluate(loop).accuracy,
        "scratch_mb": scratch / 1e6,
        "images_per_second": speed,
    }


def report(results: list[dict[str, Any]]) -> bool:
    """Print the table; return whether every recipe passed."""
    table = Table(title="every recipe, one epoch on digits")
    for column in ("recipe", "loss", "heads moved", "test accuracy", "MB", "images/s"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for r in results:
        table.add_row(
            r["recipe"],
            f"{r['loss']:.4g}",
            f"{r['heads'] - len(r['unmoved'])} of {r['heads']}",
            f"{r['accuracy']:.1%}",
            f"{r['scratch_mb']:.1f}",
            f"{r['images_per_second']:,.0f}",
        )
    Console(width=100).print(table)
    bad = [r for r in results if not math.isfinite(r["loss"]) or r["unmoved"]]
    for r in bad:
        print(f"{r['recipe']}: loss {r['loss']}, not moved: {r['unmoved']}")
    good = len(results) - len(bad)
    print(f"{good} of {len(results)} recipes: finite loss, every head moved")
    return not bad


def main() -> None:
    """Run the recipes one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(distillers.RECIPES))
    parser.add_argument("--smoke", action="store_true", help="256 images, 4 channels")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    digits = data.load("digits")
    dataset = data.take_subset(digits, 256, seed=0) if options.smoke else digits
    width = 4 if options.smoke else 16
    # Each step is compiled twice, for its memory and to run it.
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update(
            "jax_compilation_cache_dir",
            os.environ.get("JAX_COMPILATION_CACHE_DIR", folder),
        )
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        teacher = train_teacher(digits, width)
        results = []
        for name in options.only or distillers.RECIPES:
            results.append(run(name, dataset, teacher, width))
            print(name, f"{results[-1]['loss']:.4g}", flush=True)
    good = report(results)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(not good)


if __name__ == "__main__":
    main()

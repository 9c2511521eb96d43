"""Time a teacher's forward pass with and without folded batch norms.

    python -m experiments.benchmarks.folded_teacher
    python -m experiments.benchmarks.folded_teacher resnet56 vgg13 --dtype bfloat16
    python -m experiments.benchmarks.folded_teacher --smoke

Compares `training.freeze_teacher` with `training.freeze`, by compiled forward passes to
the logits on 32x32 RGB images, batch 64, 100 classes. Parameters and statistics are
random. Time is the median over rounds in which both take turns. The deviation is the
largest difference of the logits, as a share of the largest logit. The exit code is 1 if
it exceeds 1e-5 in float32.
"""

import argparse
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import models, training

NETWORKS = ("resnet32x4", "wrn_40_2", "vgg13")
LARGEST_DEVIATION = 1e-5


def build(name: str, size: int, dtype: str) -> nnx.Module:
    """Build a network with random scales, offsets and statistics."""
    model = models.build(
        name,
        num_classes=100,
        image_shape=(size, size, 3),
        dtype=jnp.dtype(dtype),
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            for variable in (module.scale, module.var):
                variable[...] = variable[...] * rng.uniform(0.7, 1.4, variable.shape)
            for variable in (module.bias, module.mean):
                variable[...] = variable[...] + rng.normal(0, 0.1, variable.shape)
    return model


def measure(name: str, batch: int, size: int, dtype: str, rounds: int):
    """Measure images per second without and with folding, and the deviation."""
    network = build(name, size, dtype)
    images = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), np.uint8)
    images = jax.device_put(images)
    passes, logits = [], []
    for frozen in (training.freeze(network), training.freeze_teacher(network)):
        variables = jax.device_put(frozen.variables)
        apply = jax.jit(lambda variables, x, apply=frozen.apply: apply(variables, x)[0])
        logits.append(np.float64(apply(variables, images)))
        passes.append((apply, variables))
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for (apply, variables), taken in zip(passes, seconds, strict=True):
            started = time.perf_counter()
            jax.block_until_ready(apply(variables, images))
            taken.append(time.perf_counter() - started)
    speeds = [batch / statistics.median(taken) for taken in seconds]
    difference = np.abs(logits[1] - logits[0]).max() / np.abs(logits[0]).max()
    return *speeds, difference


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = [name for name in NETWORKS if name in models.names()]
    parser.add_argument("networks", nargs="*", default=default)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--smoke", action="store_true", help="resnet8, tiny images")
    options = parser.parse_args()
    names, batch, size = options.networks, 64, 32
    if options.smoke:
        names, batch, size, options.rounds = ["resnet8"], 4, 8, 2
    print(f"{options.dtype}, jax {jax.__version__} on {jax.default_backend()}\n")
    print("| network | images/s | folded, images/s | ratio | deviation |")
    print("|---|---|---|---|---|")
    good = True
    for name in names:
        before, after, deviation = measure(
            name, batch, size, options.dtype, options.rounds
        )
        good = good and (options.dtype != "float32" or deviation <= LARGEST_DEVIATION)
        print(
            f"| `{name}` | {before:,.0f} | {after:,.0f} | {after / before:.2f} "
            f"| {deviation:.1e} |",
            flush=True,
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()

"""Measure the memory of losses over a large vocabulary.

The logits have shape [1, 64, 128000] and dtype bfloat16. For each loss, without and
with `losses.in_chunks`, the table has the scratch memory that XLA plans for the value
and the student's gradient, divided by the memory of one float32 copy of the logits
(32.8 MB).

    python -m experiments.benchmarks.large_vocabulary
    python -m experiments.benchmarks.large_vocabulary --run

With `--run`, each loss is also evaluated; value and gradient must be finite.
"""

import argparse
import math
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxkd import losses

LOSSES = (
    losses.soft_target_kl,
    losses.logit_matching,
    losses.mean_gap,
    losses.reverse_kl,
    losses.jensen_shannon,
    losses.skewed_kl,
    losses.transformed_teacher_matching,
    losses.weighted_transformed_teacher_matching,
    losses.decoupled_kl,
    losses.normalized_kl,
    losses.inter_class_relation,
)
LABELED = (losses.decoupled_kl, losses.normalized_kl)
SHAPE = (1, 64, 128_000)


def measure(
    loss: Callable[..., Array], labels: tuple[Array, ...], *, run: bool
) -> tuple[float, bool]:
    """Measure memory in copies of the logits, and check for finite results."""

    def total(student, teacher, *labels):
        return jnp.mean(loss(student, teacher, *labels))

    logits = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16)
    compiled = (
        jax.jit(jax.value_and_grad(total)).lower(logits, logits, *labels).compile()
    )
    analysis = compiled.memory_analysis()
    scratch = math.nan if analysis is None else analysis.temp_size_in_bytes
    finite = True
    if run:
        student, teacher = (
            3 * jax.random.normal(jax.random.key(i), SHAPE, jnp.bfloat16)
            for i in range(2)
        )
        results = compiled(student, teacher, *labels)
        finite = all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(results))
    return scratch / (4 * math.prod(SHAPE)), finite


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="also evaluate the losses")
    parser.add_argument("--chunk", type=int, default=8, help="rows per chunk")
    options = parser.parse_args()
    print(f"| loss | as it is | in chunks of {options.chunk} |\n|---|---|---|")
    good = True
    for loss in LOSSES:
        labels = (jnp.zeros(SHAPE[:-1], jnp.int32),) if loss in LABELED else ()
        whole, finite = measure(loss, labels, run=options.run)
        chunked = losses.in_chunks(loss, options.chunk)
        parts, finite_parts = measure(chunked, labels, run=options.run)
        good = good and finite and finite_parts
        print(f"| `{loss.__name__}` | {whole:.1f} | {parts:.1f} |", flush=True)
    if options.run:
        print("all values and gradients finite" if good else "NOT ALL FINITE")
    sys.exit(not good)


if __name__ == "__main__":
    main()

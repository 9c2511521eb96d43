"""Measure the memory of losses over a large vocabulary.

The logits have shape [1, 64, 128000] and dtype bfloat16. For each loss, without and
with `losses.in_chunks`, the table has the scratch memory that XLA plans for the value
and the student's gradient, divided by the memory of one float32 copy of the logits
(32.8 MB).

    python -m experiments.benchmarks.large_vocabulary
    python -m experiments.benchmarks.large_vocabulary --run

With `--run`, each loss is also evaluated; value and gradient must be finite.

    python -m experiments.benchmarks.large_vocabulary --timed

With `--timed`, only `soft_target_kl`, the plain formula T² Σ p (log p - log q) and
`sparse_soft_target_kl` of the 64 largest logits are evaluated, in chunks, on bfloat16
logits of shape [8, 512, 32000] (262 MB each): the memory of the teacher's outputs, the
least time of value and gradient over the rounds, the scratch memory that XLA plans, and
the largest memory of the process up to then, with JAX, logits and gradients. Use
`--plain-first` to see the memory of the plain form alone.
"""

import argparse
import math
import resource
import sys
import time
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
TIMED_SHAPE = (8, 512, 32_000)
TOP_K = 64


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


def plain_kl(student: Array, teacher: Array) -> Array:
    temperature = 4.0
    student, teacher = (x.astype(jnp.float32) for x in (student, teacher))
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def sparse_kl(student: Array, values: Array, indices: Array, remainder: Array) -> Array:
    return losses.sparse_soft_target_kl(student, values, indices, remainder=remainder)


def print_times(chunk: int, rounds: int, *, plain_first: bool) -> None:
    """Print time and memory of value and gradient, in chunks."""
    sequences, *rest = TIMED_SHAPE

    # Drawing numbers for all sequences takes longer and more memory than the losses.
    def tiled(x: Array) -> Array:
        return jnp.tile(x, (sequences, *(1 for _ in x.shape[1:])))

    student, teacher = (
        jax.random.normal(jax.random.key(i), (1, *rest), jnp.bfloat16) for i in range(2)
    )
    top = losses.top_logits(teacher, TOP_K)
    sparse = map(tiled, (top.values, top.indices, top.remainder(4.0)))
    student, teacher = tiled(student), tiled(teacher)
    forms = [
        ("soft_target_kl", losses.soft_target_kl, (teacher,)),
        ("plain_kl", plain_kl, (teacher,)),
    ]
    if plain_first:
        forms.reverse()
    forms.append((f"sparse_soft_target_kl, k = {TOP_K}", sparse_kl, tuple(sparse)))
    jax.block_until_ready((student, forms[-1][-1]))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"with the logits alone: {resident / 1e3:.0f} MB at most")
    print("| loss in chunks | teacher MB | s | CPU s | scratch MB | process MB |")
    print("|---|---|---|---|---|---|")
    for name, loss, arguments in forms:
        chunked = losses.in_chunks(loss, chunk)
        total = lambda s, *others, f=chunked: jnp.mean(f(s, *others))
        compiled = jax.jit(jax.value_and_grad(total)).lower(student, *arguments)
        compiled = compiled.compile()
        analysis = compiled.memory_analysis()
        scratch = math.nan if analysis is None else analysis.temp_size_in_bytes / 1e6
        least = least_cpu = math.inf
        for _ in range(rounds):
            start, start_cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(compiled(student, *arguments))
            least = min(least, time.perf_counter() - start)
            least_cpu = min(least_cpu, time.process_time() - start_cpu)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        size = sum(x.nbytes for x in arguments) / 1e6
        print(
            f"| `{name}` | {size:.1f} | {least:.2f} | {least_cpu:.2f} | {scratch:.0f} "
            f"| {peak:.0f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="also evaluate the losses")
    parser.add_argument("--chunk", type=int, default=8, help="rows per chunk")
    parser.add_argument("--timed", action="store_true", help="print times instead")
    parser.add_argument("--rounds", type=int, default=2, help="of the times")
    parser.add_argument("--plain-first", action="store_true", help="order of the times")
    options = parser.parse_args()
    if options.timed:
        print_times(options.chunk, options.rounds, plain_first=options.plain_first)
        return
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

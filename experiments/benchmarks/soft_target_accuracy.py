"""Measure the float32 accuracy of the soft-target loss at every temperature.

    python -m experiments.benchmarks.soft_target_accuracy
    python -m experiments.benchmarks.soft_target_accuracy --smoke
    python -m experiments.benchmarks.soft_target_accuracy --times-only

Compares `losses.soft_target_kl` and the plain formula T² Σ p (log p - log q), both in
float32, with 60-digit arithmetic at the same float32 inputs. Prints the largest
relative errors at each temperature over all kinds of logits and numbers of classes. The
exit code is 1 if the loss exceeds its bounds: 1e-6 for the value, and 1e-5 for the
gradient (relative to its largest component). Prints the times of both forms at three
shapes as well, with the largest errors of a row against the same form in float64.

A result counts if float32 can represent its parts. Probabilities below the smallest
normal number, 1.2e-38, are flushed to zero, which costs up to that number times the
number of classes. Cases in which this may exceed the bounds are listed separately. They
occur below T = 0.5, for predictions that agree for every practical purpose.
"""

import argparse
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
from jaxtyping import Array, Float

from jaxkd import losses

TEMPERATURES = (
    *(0.05, 0.1, 0.5, 1.0, 4.0, 20.0, 1e2),
    *(1e3, 1e4, 1e5, 1e6, 1e7, 1e8, float("inf")),
)
CLASSES = (2, 10, 100, 1000)
TIMED_TEMPERATURE = 4.0
CALLED_ELEMENTS = 2_000_000  # in one round
TIMED_SHAPES = ((64, 100), (256, 1000), (64, 32_000))
SMOKE = (2, 10)
VALUE_BOUND = 1e-6
GRADIENT_BOUND = 1e-5
TINY = float(jnp.finfo(jnp.float32).tiny)
DIGITS = 60

Logits = Float[Array, " classes"]


class Errors(NamedTuple):
    """Largest relative errors, and the number of results that they cover."""

    value: float = 0.0
    gradient: float = 0.0
    counted: int = 0

    def worst(self, other: "Errors") -> "Errors":
        """Combine two results: the larger errors, and the sum of the counts."""
        return Errors(
            max(self.value, other.value),
            max(self.gradient, other.gradient),
            self.counted + other.counted,
        )


def pairs(classes: int, seed: int) -> Iterator[tuple[str, Logits, Logits]]:
    """Yield kinds of student and teacher logits, in float32."""
    keys = iter(jax.random.split(jax.random.key(seed), 32))
    normal = lambda scale: scale * jax.random.normal(next(keys), (classes,))
    for scale in (1.0, 3.0, 10.0):
        yield f"normal, std {scale:g}", normal(scale), normal(scale)
    for distance in (1e-1, 1e-3, 1e-5):
        teacher = normal(3.0)
        yield f"student within {distance:g}", teacher + normal(distance), teacher
    yield "far apart means", normal(3.0) + 1e3, normal(3.0) - 5e2
    one_hot = jnp.where(jnp.arange(classes) == 0, 1e4, -1e4)
    yield "one-hot student", one_hot, normal(3.0)
    yield "one-hot teacher", normal(3.0), one_hot
    yield "opposite one-hots", one_hot, one_hot[::-1]
    yield (
        "one-cold student",
        jnp.where(jnp.arange(classes) == 0, -1e4, 0.0),
        0 * one_hot,
    )


def plain(student: Logits, teacher: Logits, temperature: Array) -> Array:
    log_p = jax.nn.log_softmax(teacher / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    log_ratio = jnp.where(jnp.exp(log_p) == 0.0, 0.0, log_p - log_q)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * log_ratio)


def batch_plain(student: Array, teacher: Array, temperature: Array) -> Array:
    log_p = jax.nn.log_softmax(teacher / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def exact(student: Logits, teacher: Logits, temperature: float):
    """Compute the value and the student's gradient in arbitrary precision."""
    z = [mpmath.mpf(x) for x in student.tolist()]
    v = [mpmath.mpf(x) for x in teacher.tolist()]
    t = mpmath.mpf(temperature)
    d = [a - b for a, b in zip(z, v, strict=True)]
    if mpmath.isinf(t):
        mean = mpmath.fsum(d) / len(d)
        centered = [x - mean for x in d]
        value = mpmath.fsum(x * x for x in centered) / (2 * len(d))
        return value, [x / len(d) for x in centered]
    p, q = ([mpmath.exp(x / t) for x in logits] for logits in (v, z))
    p_total, q_total = mpmath.fsum(p), mpmath.fsum(q)
    p, q = [x / p_total for x in p], [x / q_total for x in q]
    kl = mpmath.log(q_total) - mpmath.log(p_total)
    kl -= mpmath.fsum(a * b for a, b in zip(p, d, strict=True)) / t
    return t**2 * kl, [t * (b - a) for a, b in zip(p, q, strict=True)]


def measure(
    loss: Callable, student: Logits, teacher: Logits, t: Array, truth
) -> Errors:
    """Measure relative errors of a loss and its gradient; inf if not finite."""
    value, gradient = truth
    got_value, got_gradient = loss(student, teacher, t)

    def gap(got, wanted):
        got = mpmath.mpf(got)
        return abs(got - wanted) if mpmath.isfinite(got) else mpmath.inf

    gaps = map(gap, got_gradient.tolist(), gradient)
    return Errors(
        float(gap(got_value.item(), value) / value),
        float(max(gaps) / max(map(abs, gradient))),
        1,
    )


def representable(truth, temperature: float, classes: int) -> bool:
    """Check whether flushing probabilities to zero keeps the errors in bounds."""
    value, gradient = truth
    flushed = classes * TINY
    kl = value if temperature == float("inf") else value / mpmath.mpf(temperature) ** 2
    return (
        kl > TINY
        and value > flushed / VALUE_BOUND
        and max(map(abs, gradient)) > flushed / GRADIENT_BOUND
    )


def batch_errors(result, student: Array, teacher: Array) -> Errors:
    """Compare a batch's values and gradients with the same form in float64."""
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in (student, teacher)]
        truth = value_and_gradient(kl)(*wide, jnp.float64(TIMED_TEMPERATURE))
        (value, gradient), (got_value, got_gradient) = (
            [jnp.asarray(x, jnp.float64) for x in pair] for pair in (truth, result)
        )
        largest = jnp.max(jnp.abs(gradient), axis=-1)
        gaps = jnp.max(jnp.abs(got_gradient - gradient), axis=-1)
        return Errors(
            float(jnp.max(jnp.abs(got_value / value - 1.0))),
            float(jnp.max(gaps / largest)),
            len(value),
        )


def kl(student: Logits, teacher: Logits, temperature: Array) -> Array:
    return losses.soft_target_kl(student, teacher, temperature=temperature)


def value_and_gradient(form: Callable) -> Callable:
    """Compile a function of a batch that returns all values and gradients."""

    def evaluate(student, teacher, temperature):
        values, pull_back = jax.vjp(lambda s: form(s, teacher, temperature), student)
        return values, *pull_back(jnp.ones_like(values))

    return jax.jit(evaluate)


def print_times(rounds: int) -> None:
    """Print CPU times of value and gradient, of both forms in turns: the least."""
    forms = [value_and_gradient(f) for f in (kl, batch_plain)]
    temperature = jnp.float32(TIMED_TEMPERATURE)
    print(f"\nCPU milliseconds of value and gradient, T = {TIMED_TEMPERATURE:g}")
    print("shape             exact    plain  ratio   error of value, gradient")
    for shape in TIMED_SHAPES:
        student, teacher = (
            3.0 * jax.random.normal(jax.random.key(i), shape) for i in (0, 1)
        )
        calls = max(1, CALLED_ELEMENTS // student.size)
        results = [fn(student, teacher, temperature) for fn in forms]
        least = [math.inf, math.inf]
        for _, (i, fn) in itertools.product(range(rounds), enumerate(forms)):
            jax.block_until_ready(results)
            start = time.process_time()
            for _ in range(calls):
                results[i] = fn(student, teacher, temperature)
            jax.block_until_ready(results[i])
            least[i] = min(least[i], (time.process_time() - start) / calls)
        ours, theirs = (1e3 * x for x in least)
        errors = batch_errors(results[0], student, teacher)
        print(
            f"{shape!s:14}{ours:9.3f}{theirs:9.3f}{ours / theirs:7.2f}"
            f"{errors.value:10.1e}{errors.gradient:10.1e}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="few classes only")
    parser.add_argument("--repeats", type=int, default=1, help="draws per kind")
    parser.add_argument("--times-only", action="store_true", help="no accuracy table")
    parser.add_argument("--rounds", type=int, default=15, help="of the times")
    arguments = parser.parse_args()
    if arguments.times_only:
        print_times(arguments.rounds)
        return 0
    class_counts = SMOKE if arguments.smoke else CLASSES

    forms = {
        "exact, jit": jax.jit(jax.value_and_grad(kl)),
        "exact, eager": jax.value_and_grad(kl),
        "plain": jax.jit(jax.value_and_grad(plain)),
    }
    columns = [*forms, "plain, std 3 only"]
    table = {(t, name): Errors() for t in TEMPERATURES for name in columns}
    kinds: dict[str, Errors] = {}
    apart: list[str] = []
    mpmath.mp.dps = DIGITS
    for classes, seed, temperature in itertools.product(
        class_counts, range(arguments.repeats), TEMPERATURES
    ):
        t = jnp.float32(temperature)
        for kind, student, teacher in pairs(classes, seed):
            truth = exact(student, teacher, t.item())
            if not representable(truth, t.item(), classes):
                got = forms["exact, jit"](student, teacher, t)[0].item()
                values = f"{got:.1e} for {mpmath.nstr(truth[0], 2)}"
                apart.append(f"{kind:24}T = {temperature:<7g}C = {classes:<6}{values}")
                continue
            for name, loss in forms.items():
                errors = measure(loss, student, teacher, t, truth)
                names = [name]
                if name != "plain":
                    kinds[kind] = kinds.get(kind, Errors()).worst(errors)
                elif kind == "normal, std 3":
                    names.append(columns[-1])
                for cell in itertools.product([temperature], names):
                    table[cell] = table[cell].worst(errors)

    print(
        f"jax {jax.__version__}, {jax.default_backend()}, float32, C in {class_counts}"
    )
    print(f"{'':10}" + "".join(f"{name:^22}" for name in columns))
    print(f"{'T':>8}  " + f"{'value':>10}{'gradient':>11} " * len(columns) + "  cases")
    for temperature in TEMPERATURES:
        row = [table[temperature, name] for name in columns]
        cells = "".join(f"{e.value:10.1e}{e.gradient:11.1e} " for e in row)
        print(f"{temperature:8g}  {cells}{row[0].counted:7d}")
    print("\nthe exact form by kind of logits")
    for kind, errors in kinds.items():
        print(f"{kind:24}{errors.value:10.1e}{errors.gradient:11.1e}")
    print("\nnot representable in float32 (value computed for true value)")
    print("\n".join(apart) if apart else "none")

    if not arguments.smoke:
        print_times(arguments.rounds)
    total = functools.reduce(Errors.worst, kinds.values())
    kept = total.value <= VALUE_BOUND and total.gradient <= GRADIENT_BOUND
    print(
        f"\nexact form: value {total.value:.1e} (bound {VALUE_BOUND:g}), "
        f"gradient {total.gradient:.1e} (bound {GRADIENT_BOUND:g}): "
        + ("kept" if kept else "EXCEEDED")
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

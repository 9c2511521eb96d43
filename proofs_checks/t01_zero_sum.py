r"""T1. The logit gradient of a shift-invariant loss sums to zero.

**Statement.** If :math:`\ell(z + c\mathbf 1) = \ell(z)` for all :math:`c`, then
:math:`\sum_k \partial\ell/\partial z_k = 0`.

**Proof.** The derivative of :math:`\ell(z + c\mathbf 1)` in :math:`c` at 0 is
:math:`\mathbf 1^\top \nabla\ell(z)`. It is zero because the function is constant in
:math:`c`.

Softmax does not change if a constant is added to all logits. The statement therefore
holds for cross-entropy, for distillation at every temperature, for mixtures of the two,
and for the teacher's gradient. It holds for every loss of logits that declares the
invariance (T14).

**Limits.** Logits matching depends on the constant: its gradient sums to
:math:`\overline{d}`, the mean of :math:`d = z - v`. Independent sigmoids depend on it
too.

Source: after Chen et al. 2021 (arXiv 2109.06458), abstract; the derivation is ours.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxkd import losses
from jaxkd.losses import Arguments, Transformation
from proofs_checks import _plain, _symbolic
from proofs_checks._cases import (
    SIZES,
    Loss,
    logit_blocks,
    negligible,
    soft_target_kl,
    value_and_gradients,
)
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
    distance,
)
from proofs_checks._programs import compiler_options

_CASES = 10_000
_TOLERANCE = Tolerance(float64=1e-12, float32=1e-5, bfloat16=2e-2)


def _cross_entropy(student, teacher, temperature):
    """Compute the cross-entropy with the teacher's top class as the label."""
    del temperature
    return optax.losses.softmax_cross_entropy_with_integer_labels(
        student, jnp.argmax(teacher)
    )


def _mixture(student, teacher, temperature):
    """Compute the loss of the recipe ``kd``: 0.1 cross-entropy, 0.9 distillation."""
    soft = soft_target_kl()(student, teacher, temperature)
    hard = _cross_entropy(student.astype(soft.dtype), teacher, temperature)
    return 0.1 * hard + 0.9 * soft


def _plain_kl(student, teacher, temperature):
    student, teacher = (x.astype(temperature.dtype) for x in (student, teacher))
    return _plain.soft_target_kl(student, teacher, temperature=temperature)


def _logit_matching(student, teacher, temperature):
    del temperature
    return losses.logit_matching(student, teacher, stop_teacher_gradient=False)


def _independent_sigmoids(student, teacher, temperature):
    """Compute the mean binary cross-entropy of the classes."""
    del temperature
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(student, teacher > 0))


def _largest_sums(
    loss: Loss,
    settings: Settings,
    *,
    floor: float,
    cases: int = _CASES,
    sizes: tuple[int, ...] = SIZES,
    temperatures: tuple[float, float] = (0.0, np.inf),
) -> tuple[Worst, Worst]:
    """Measure the largest sum of both gradients.

    Args:
        loss: Loss of one row.
        settings: Dtype and seed.
        floor: Added to the sum of absolute values that divides the sum.
        cases: Number of cases.
        sizes: Numbers of classes.
        temperatures: Range that the temperatures are clipped to.

    Returns:
        The largest |sum| / (floor + sum of |.|) by student and by teacher.
    """
    by_student, by_teacher = Worst(), Worst()
    for block in logit_blocks(settings, cases, sizes=sizes):
        block = block._replace(temperature=block.temperature.clip(*temperatures))
        _, gradients = value_and_gradients(loss, *block[1:])
        for worst, gradient in zip((by_student, by_teacher), gradients, strict=True):
            gradient = np.asarray(gradient, np.float64)
            size = floor + np.abs(gradient).sum(-1) + negligible(settings)
            worst.add(np.abs(gradient.sum(-1)) / size, block.describe)
    return by_student, by_teacher


def _declared_losses(settings: Settings) -> tuple[Worst, list[str]]:
    """Measure the same sum for every loss of logits that declares the invariance.

    Returns:
        The largest deviation, and the names of the losses.
    """
    worst, names = Worst(), []
    for declaration in losses.INVARIANCES:
        if Transformation.STUDENT_SHIFT not in declaration.invariant:
            continue
        name = declaration.loss.__name__
        names.append(name)
        labeled = declaration.arguments is Arguments.LABELED_LOGITS

        def total(student, teacher, labels, declaration=declaration, labeled=labeled):
            arguments = (student, teacher, labels) if labeled else (student, teacher)
            return jnp.sum(declaration.loss(*arguments, **declaration.settings))

        gradient_of = jax.jit(jax.grad(total), compiler_options=compiler_options())
        for trial in range(20):
            rng = np.random.default_rng((settings.seed, 1, trial))
            logits = settings.cast(rng.normal(0, 3, (2, 32, 10)))
            labels = jnp.asarray(rng.integers(0, 10, 32, dtype=np.int32))
            gradient = np.asarray(gradient_of(*logits, labels), np.float64)
            size = 1.0 + np.abs(gradient).sum(-1)
            worst.add(
                np.abs(gradient.sum(-1)) / size,
                lambda row, name=name, trial=trial: {
                    "loss": name,
                    "trial": trial,
                    "row": row,
                },
            )
    return worst, names


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that the sum is zero for softmax losses and mean(d) for LM."""
    relative = "|sum of gradient| / sum of |gradient|"
    # The gradient of cross-entropy is a difference of probabilities. Its rounding error
    # is a multiple of eps, even where the gradient is small.
    absolute = "|sum of gradient| / (1 + sum of |gradient|)"
    worst, _ = _largest_sums(_cross_entropy, settings, floor=1.0)
    yield claim("cross-entropy", worst, _TOLERANCE, settings, unit=absolute)
    student, teacher = _largest_sums(soft_target_kl(), settings, floor=0.0)
    text = "distillation, T in [0.05, 1e8] and infinite"
    yield claim(text, student, _TOLERANCE, settings, unit=relative)
    text = "distillation, gradient of the teacher's logits"
    yield claim(text, teacher, _TOLERANCE, settings, unit=relative)
    worst, _ = _largest_sums(_mixture, settings, floor=1.0, cases=2000, sizes=(10,))
    text = "0.1 cross-entropy + 0.9 distillation"
    yield claim(text, worst, _TOLERANCE, settings, unit=absolute)
    worst, _ = _largest_sums(
        _plain_kl, settings, floor=20.0, cases=2000, temperatures=(1.0, 20.0)
    )
    yield claim(
        "T^2 KL by its definition, differentiated by JAX, T in [1, 20]",
        worst,
        _TOLERANCE,
        settings,
        unit="|sum of gradient| / (20 + sum of |gradient|)",
    )

    worst = Worst()
    for block in logit_blocks(settings, _CASES):
        _, (gradient, _) = value_and_gradients(_logit_matching, *block[1:])
        student, teacher, _ = block.exact
        difference = student - teacher
        size = np.abs(difference).mean(-1) + negligible(settings)
        total = np.asarray(gradient, np.float64).sum(-1)
        worst.add(distance(total, difference.mean(-1)) / size, block.describe)
    yield claim(
        "logits matching: the sum is mean(d)",
        worst,
        _TOLERANCE,
        settings,
        unit="|sum of gradient - mean(d)| / mean |d|",
    )

    worst, names = _declared_losses(settings)
    yield claim(
        f"the {len(names)} losses that declare shift invariance",
        worst,
        _TOLERANCE,
        settings,
        unit="|sum of gradient| / (1 + sum of |gradient|)",
        detail=", ".join(names),
    )

    def sums(s):
        functions = (-s.log_softmax(s.z)[0], s.kl())
        return [sum(s.sympy.diff(f, z) for z in s.z) for f in functions]

    yield _symbolic.prove("cross-entropy and KL, symbolically", sums)


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that the sum is not zero without shift invariance."""
    for text, loss in (
        ("logits matching with different means", _logit_matching),
        ("independent sigmoids", _independent_sigmoids),
    ):
        worst, _ = _largest_sums(loss, settings, floor=0.0, cases=2000, sizes=(2, 10))
        unit = "|sum of gradient| / sum of |gradient|"
        yield control(text, worst, _TOLERANCE.of(settings), unit=unit)

    def sums(s):
        matching = s.mean([d**2 for d in s.d]) / 2
        return [sum(s.sympy.diff(matching, z) for z in s.z)]

    yield _symbolic.prove("logits matching, symbolically", sums, must_fail=True)


CHECK = Check(
    name="T1",
    title="Zero-sum gradient",
    statement="loss(z + c) = loss(z) for all c  implies  sum_k dloss/dz_k = 0",
    assumptions=("the loss does not change when a constant is added to all logits",),
    claims=claims,
    controls=controls,
)

r"""T9. Some optimizers conserve the class sums of the classifier, others do not.

**Statement.** Let the logits be :math:`z = hW + b` with a kernel :math:`W` of features
by classes, and let the loss be invariant to a constant added to all logits of an
example, as cross-entropy, distillation at any temperature and their mixtures are. Then
the class sums :math:`\sigma_W = W\mathbf 1` and :math:`\sigma_b = \mathbf 1^\top b`
have gradient zero. Their behavior depends on the optimizer of the head alone:

* *conserved*: The sums do not change under an optimizer whose steps are combinations of
  gradients, with factors that do not depend on the class. Examples are SGD, momentum,
  Nesterov, clipping by norms, LARS, NovoGrad, Polyak steps, DoG, line searches and
  L-BFGS, and Muon for :math:`W`.
* *decays*: With weight decay the sums follow the optimizer's own recursion for gradient
  zero, which is :math:`\sigma \leftarrow (1 - \eta\lambda)\sigma` for plain SGD.
* *scaled*: If norms of gradients or parameters scale the decay, as in LARS with decay,
  all of :math:`\sigma_W` shrinks by one factor, which depends on the run.
* *broken*: The sums move if the optimizer treats classes or single entries differently.
  Examples are Adam and its variants, Lion, SM3, Adafactor, element-wise clipping and
  unit-wise clipping.

The mean logit of an example is :math:`(h \sigma_W + \sigma_b)/C`. If the sums are
conserved and :math:`\sigma_W = 0`, it is constant. If :math:`\sigma_b = 0` too, it
stays zero, even with weight decay.

**Proof.** The gradient :math:`\delta` of the loss with respect to the logits sums
to zero over the classes (T1), and :math:`\nabla_W = \sum_n h_n^\top \delta_n`,
:math:`\nabla_b = \sum_n \delta_n`. So :math:`\nabla_W \mathbf 1 = 0` and
:math:`\mathbf 1^\top \nabla_b = 0`. Let the step of the head be

.. math::
    W_{t+1} - W_t = \sum_{s \le t} L_{t,s} \nabla_s + \sum_{s \le t} c_{t,s} W_s

where the matrices :math:`L` act on the features and :math:`c` are numbers; both may
depend on anything. Multiply by :math:`\mathbf 1`. The first sum vanishes, so
:math:`\sigma_{t+1} - \sigma_t = \sum_s c_{t,s} \sigma_s`. Without decay :math:`c = 0`.
With decay, :math:`\sigma` follows the recursion that the optimizer has for gradient
zero, provided that :math:`c` does not depend on the gradients. If it does, each
:math:`\sigma_t` is still a multiple of :math:`\sigma_0`.

Factors of an array, of the gradient or of a step are multiples of the identity
:math:`L`. The Newton-Schulz iteration of Muon is a polynomial in
:math:`\nabla\nabla^\top` times :math:`\nabla`, so it is such an :math:`L` too. L-BFGS
combines gradients and differences of iterates, which are combinations of gradients by
induction.

**Two classes.** Let :math:`R = I - 2 \mathbf 1 \mathbf 1^\top / C` reflect the classes.
It does not change arrays whose class sums are zero. Hence an optimizer that commutes
with :math:`R` keeps class sums of zero at zero. An element-wise optimizer commutes with
permutations and, if it is odd, with changes of sign. It commutes with :math:`R` only if
:math:`C = 2`, where :math:`-R` exchanges the classes. **With two classes Adam, Lion and
clipping conserve the sums too.**

**Method.** A two-layer network is trained on a mixture of cross-entropy and
distillation at infinite temperature, with each optimizer, from class sums of zero and
from other class sums. Drifts are relative to the largest :math:`\sum_k |W_{jk}|`,
because the rounding errors of a sum are proportional to it. A network that computes in
bfloat16 does not keep the law, because it rounds :math:`\delta`.

Source: after Chen et al. 2021 (arXiv 2109.06458), abstract; the derivation is ours.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from proofs_checks._class_sums import CENTERED, UNCENTERED
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
    difference_report,
)
from proofs_checks._optimizers import OPTIMIZERS, Law, Optimizer
from proofs_checks._outcomes import STEPS, Outcome, laws_of, outcomes

KEEPS = Tolerance(float64=1e-12, float32=1e-4, bfloat16=None)
"""Tolerance of a drift. Muon and L-BFGS multiply a step's rounding by about 100."""

MOVES = 1e-3
"""A drift above this counts as a broken law."""

KEEPS_MEAN = Tolerance(float64=1e-11, float32=5e-4, bfloat16=None)
"""Tolerance of a mean logit, which adds up the sums of all features."""

KEEPS_TWO = Tolerance(float64=1e-12, float32=1e-4, bfloat16=1e-4)
"""Tolerance with two classes, whose gradients are opposite in every dtype."""

DRIFT = "drift / largest class sum of |weights|"

ODD_ELEMENTWISE = ("Adam", "Adagrad", "RMSProp", "Lion", "sign SGD", "clip")

PLOTTED = (
    "SGD",
    "momentum + L2",
    "LARS",
    "Muon",
    "adaptive_grad_clip",
    "Adam",
    "LAMB",
    "Lion",
)


class Sample(NamedTuple):
    """A measured number and its location."""

    value: float
    where: dict[str, Any]


def claims(
    settings: Settings,
    optimizers: tuple[Optimizer, ...] = OPTIMIZERS,
    steps: int = STEPS,
) -> Iterator[Evidence]:
    """Yield evidence that every optimizer keeps its law."""
    found = outcomes(settings, optimizers, steps)
    laws = {
        Law.CONSERVED: "without decay, the class sums do not change",
        Law.DECAYS: "with decay, the class sums follow the recursion for gradient zero",
        Law.SCALED: "where norms scale the decay, the sums keep their direction",
    }
    for law, text in laws.items():
        first = law is Law.CONSERVED
        yield claim(
            text,
            _largest(_drifts(found, law)),
            KEEPS,
            settings,
            unit=DRIFT,
            detail=f"{steps} steps with each of {_count(found, law)}"
            + _report(found, law, KEEPS.of(settings)),
            table=_table(found) if first else (),
            series=_curves(found) if first else {},
        )
    yield claim(
        "mean logits that start at zero stay zero, with or without decay",
        _largest(_mean_logits(found)),
        KEEPS_MEAN,
        settings,
        unit="mean logit / largest logit",
    )
    odd = tuple(
        o._replace(kernel=Law.CONSERVED, bias=Law.CONSERVED)
        for o in optimizers
        if o.name in ODD_ELEMENTWISE
    )
    yield claim(
        "with two classes, odd element-wise optimizers conserve the sums too",
        _largest(_drifts(outcomes(settings, odd, steps, 2), Law.CONSERVED)),
        KEEPS_TWO,
        settings,
        unit=DRIFT,
        detail=", ".join(o.name for o in odd),
    )


def controls(
    settings: Settings,
    optimizers: tuple[Optimizer, ...] = OPTIMIZERS,
    steps: int = STEPS,
) -> Iterator[Evidence]:
    """Yield evidence that other optimizers and decay move the sums."""
    found = outcomes(settings, optimizers, steps)
    yield control(
        "every other optimizer conserves the sums (smallest drift)",
        _smallest(_drifts(found, Law.BROKEN)),
        MOVES,
        unit=DRIFT,
        detail="the largest drift is "
        f"{_largest(_drifts(found, Law.BROKEN)).measured:.2g}",
    )
    decaying = (
        Sample(outcome.change[part, UNCENTERED], _place(outcome, part, UNCENTERED))
        for outcome in found
        for part in (0, 1)
        if laws_of(outcome)[part] in (Law.DECAYS, Law.SCALED)
    )
    yield control(
        "the sums do not change with weight decay (smallest change)",
        _smallest(decaying),
        MOVES,
        unit=DRIFT,
    )
    moves = (
        Sample(float(np.abs(kernel - kernel[0]).max()), {"optimizer": o.optimizer.name})
        for o in found
        for kernel in (o.history.kernel,)
    )
    yield control(
        "the classifiers do not learn (smallest change)",
        _smallest(moves),
        0.1,
        unit="largest change of a weight",
    )


def _place(outcome: Outcome, part: int, start: int) -> dict[str, Any]:
    return {
        "optimizer": outcome.optimizer.name,
        "sums of": ("kernel", "bias")[part],
        "initialization": "centered" if start == CENTERED else "uncentered",
    }


def _drifts(found: Iterable[Outcome], law: Law) -> Iterator[Sample]:
    for outcome in found:
        for part, its_law in enumerate(laws_of(outcome)):
            if its_law is law:
                for start in (CENTERED, UNCENTERED):
                    where = _place(outcome, part, start)
                    yield Sample(outcome.drift[part, start], where)


def _mean_logits(found: Iterable[Outcome]) -> Iterator[Sample]:
    for outcome in found:
        if Law.BROKEN not in laws_of(outcome):
            mean = outcome.history.mean_logit[:, CENTERED].max()
            largest = outcome.history.logit[:, CENTERED].max()
            yield Sample(mean / largest, {"optimizer": outcome.optimizer.name})


def _largest(samples: Iterable[Sample]) -> Worst:
    worst = Worst()
    for sample in samples:
        worst.add(sample.value, lambda _, where=sample.where: where)
    return worst


def _smallest(samples: Iterable[Sample]) -> Worst:
    """Return the smallest sample. NaN and infinity count as zero."""
    finite = [s._replace(value=np.nan_to_num(s.value, posinf=0.0)) for s in samples]
    worst = Worst()
    if finite:
        least = min(finite, key=lambda sample: sample.value)
        worst.add(least.value, lambda _: least.where)
        worst.cases = len(finite)
    return worst


def _report(found: Iterable[Outcome], law: Law, bound: float | None) -> str:
    """Describe the first sums that leave the law: their step, start and position."""
    off = {
        f"{outcome.optimizer.name}/{('kernel', 'bias')[part]}": outcome.departure[part]
        for outcome in found
        for part, its_law in enumerate(laws_of(outcome))
        if its_law is law
    }
    report = difference_report(off, jax.tree.map(np.zeros_like, off), atol=bound)
    return f"; {report}" if report else ""


def _count(found: Sequence[Outcome], law: Law) -> str:
    kernels = sum(outcome.optimizer.kernel is law for outcome in found)
    biases = sum(outcome.optimizer.bias is law for outcome in found)
    return f"{kernels} optimizers for the kernel and {biases} for the bias"


def _table(found: Iterable[Outcome]) -> tuple[dict[str, Any], ...]:
    """Return a row for every optimizer."""
    rows = []
    for outcome in found:
        optimizer, history, drift = outcome[:3]
        law = optimizer.kernel.value
        if optimizer.bias is not optimizer.kernel:
            law = f"W {law}, b {optimizer.bias.value}"
        rows.append(
            {
                "optimizer": optimizer.name,
                "law": law,
                "drift of W": float(drift[0].max()),
                "drift of b": float(drift[1].max()),
                "mean logit": float(history.typical_mean_logit[-1, CENTERED]),
                "reason": optimizer.why,
            }
        )
    return tuple(rows)


def _curves(found: Iterable[Outcome]) -> dict[str, np.ndarray]:
    """Return the average |mean logit| after every step, from class sums of zero."""
    return {
        outcome.optimizer.name: outcome.history.typical_mean_logit[1:, CENTERED]
        for outcome in found
        if outcome.optimizer.name in PLOTTED
    }


CHECK = Check(
    name="T9",
    title="A conservation law",
    statement="sum_k W_jk and sum_k b_k have gradient 0: SGD keeps them, Adam does not",
    assumptions=(
        "the loss is invariant to a shift of an example's logits",
        "the last layer is linear, h W + b",
        "the optimizer treats all classes alike (Adam: two classes)",
    ),
    claims=claims,
    controls=controls,
)

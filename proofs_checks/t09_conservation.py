r"""T9. Some optimizers conserve the class sums of the classifier, and some do not.

**Statement.** Let the logits be :math:`z = hW + b` with a kernel :math:`W` of features
by classes, and let the loss not change when a constant is added to all logits of an
example: cross-entropy, distillation at any temperature, their mixtures. Then the class
sums :math:`\sigma_W = W\mathbf 1` and :math:`\sigma_b = \mathbf 1^\top b` have gradient
zero. What becomes of them depends on the optimizer of the head alone:

* *conserved* by every optimizer whose steps are combinations of gradients, with factors
  that do not depend on the class: SGD, momentum, Nesterov, clipping by norms, LARS,
  NovoGrad, Polyak steps, DoG, line searches, L-BFGS; and by Muon for :math:`W`;
* *decaying* with weight decay: they follow the optimizer's own recursion for a gradient
  of zero, as :math:`\sigma \leftarrow (1 - \eta\lambda)\sigma` for plain SGD;
* *scaled* where norms of gradients or parameters enter the decay as well, as in LARS
  with decay: all of :math:`\sigma_W` shrinks by one factor, which depends on the run;
* *broken* by whatever treats classes or single numbers differently: Adam and its kin,
  Lion, SM3, Adafactor, element-wise clipping, clipping by units.

The mean logit of an example is :math:`(h \sigma_W + \sigma_b)/C`. Conserved sums with
:math:`\sigma_W = 0` make it a constant; with :math:`\sigma_b = 0` too it stays zero,
even under decay.

**Proof.** The gradient :math:`\delta` of the loss with respect to the logits sums
to zero over the classes (T1), and :math:`\nabla_W = \sum_n h_n^\top \delta_n`,
:math:`\nabla_b = \sum_n \delta_n`: so :math:`\nabla_W \mathbf 1 = 0` and
:math:`\mathbf 1^\top \nabla_b = 0`. Let the step of the head be

.. math::
    W_{t+1} - W_t = \sum_{s \le t} L_{t,s} \nabla_s + \sum_{s \le t} c_{t,s} W_s

with matrices :math:`L` that act on the features and numbers :math:`c`, whatever they
depend on. Multiply by :math:`\mathbf 1`: the first sum is gone,
:math:`\sigma_{t+1} - \sigma_t = \sum_s c_{t,s} \sigma_s`. Without decay :math:`c = 0`.
With decay, :math:`\sigma` follows the same recursion that the optimizer has for a
gradient of zero, provided that :math:`c` does not depend on the gradients; if it does,
each :math:`\sigma_t` is still a multiple of :math:`\sigma_0`. Factors of an array, of
the gradient or of a step are multiples of the identity :math:`L`; the Newton-Schulz
iteration of Muon, a polynomial in :math:`\nabla\nabla^\top` times :math:`\nabla`, is
another :math:`L`. L-BFGS combines gradients and differences of iterates, which are
combinations of gradients by induction.

A second view: let :math:`R = I - 2 \mathbf 1 \mathbf 1^\top / C` reflect the classes.
It leaves alone what has no class sum. Hence an optimizer that commutes with :math:`R`
keeps class sums of zero at zero. An element-wise one commutes with permutations, and
if it is odd with changes of sign, but with :math:`R` only if :math:`C = 2`, where
:math:`-R` exchanges the classes: **with two classes Adam, Lion and clipping conserve
the sums as well.**

**Measured.** A two-layer network learns a mixture of cross-entropy and distillation at
infinite temperature by every optimizer, from class sums of zero and from others. Drifts
are relative to the largest :math:`\sum_k |W_{jk}|`, the condition of the sums. A
network that computes in bfloat16 does not keep the law: it rounds :math:`\delta`.

Source: after Chen et al. 2021 (arXiv 2109.06458), abstract; derivation ours.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from proofs_checks._class_sums import (
    CENTERED,
    UNCENTERED,
    History,
    Sums,
    own_recursions,
    train,
)
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
)
from proofs_checks._optimizers import OPTIMIZERS, Law, Optimizer

STEPS = 200
CLASSES = 5

KEEPS = Tolerance(float64=1e-12, float32=1e-4, bfloat16=None)
"""Of a drift; Muon and L-BFGS multiply the rounding of a step by about a hundred."""

MOVES = 1e-3
"""What a drift must exceed for a law to count as broken."""

KEEPS_MEAN = Tolerance(float64=1e-11, float32=5e-4, bfloat16=None)
"""Of a mean logit, to which the sums of all features contribute."""

KEEPS_TWO = Tolerance(float64=1e-12, float32=1e-4, bfloat16=1e-4)
"""Of two classes, whose gradients are opposite in every dtype."""

DRIFT = "of the largest class sum of |weights|"

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


class Outcome(NamedTuple):
    """What an optimizer did.

    Attributes:
        optimizer: Its row of the table.
        history: Its training.
        drift: How far the sums of kernel and bias went from their law, ``[2, 2]``: by
            array and by start.
        change: How far they went from their start, likewise.
    """

    optimizer: Optimizer
    history: History
    drift: np.ndarray
    change: np.ndarray


class Sample(NamedTuple):
    """A number of the table, and where it stands."""

    value: float
    where: dict[str, Any]


@functools.lru_cache(maxsize=8)
def outcomes(
    settings: Settings,
    optimizers: tuple[Optimizer, ...] = OPTIMIZERS,
    steps: int = STEPS,
    classes: int = CLASSES,
) -> tuple[Outcome, ...]:
    """Trains by every optimizer and compares with its laws, for claims and controls.

    Args:
        settings: Dtype and seed.
        optimizers: Rows of the table.
        steps: Length of the training.
        classes: Number of classes.
    """
    histories = train(optimizers, settings, steps=steps, classes=classes)
    decaying = [o for o in optimizers if Law.DECAYS in (o.kernel, o.bias)]
    recursions = own_recursions(decaying, histories, settings)
    found = []
    for optimizer in optimizers:
        history = histories[optimizer.name]
        sums = Sums(history.kernel.sum(-1), history.bias.sum(-1)[..., None])
        own = recursions.get(optimizer.name)
        own = sums if own is None else Sums(own.kernel, own.bias[..., None])
        scales = np.abs(history.kernel).sum(-1), np.abs(history.bias).sum(-1)[..., None]
        laws = optimizer.kernel, optimizer.bias
        drift = [_from_law(*x) for x in zip(laws, sums, own, scales, strict=True)]
        change = [_relative(x - x[0], s) for x, s in zip(sums, scales, strict=True)]
        found.append(Outcome(optimizer, history, np.array(drift), np.array(change)))
    return tuple(found)


def claims(
    settings: Settings,
    optimizers: tuple[Optimizer, ...] = OPTIMIZERS,
    steps: int = STEPS,
) -> Iterator[Evidence]:
    """Yields evidence that every optimizer keeps to its law."""
    found = outcomes(settings, optimizers, steps)
    laws = {
        Law.CONSERVED: "without decay, class sums stay",
        Law.DECAYS: "with decay, they follow its recursion for gradient zero",
        Law.SCALED: "where norms scale the decay, they keep their direction",
    }
    for law, text in laws.items():
        first = law is Law.CONSERVED
        yield claim(
            text,
            _largest(_drifts(found, law)),
            KEEPS,
            settings,
            unit=DRIFT,
            detail=f"{steps} steps by each of {_count(found, law)}",
            table=_table(found) if first else (),
            series=_curves(found) if first else {},
        )
    yield claim(
        "mean logits that start at zero stay there, with decay or without",
        _largest(_mean_logits(found)),
        KEEPS_MEAN,
        settings,
        unit="of the largest logit",
    )
    odd = tuple(
        o._replace(kernel=Law.CONSERVED, bias=Law.CONSERVED)
        for o in optimizers
        if o.name in ODD_ELEMENTWISE
    )
    yield claim(
        "two classes: odd element-wise optimizers conserve the sums too",
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
    """Yields evidence that the sums move where they may, and that training does."""
    found = outcomes(settings, optimizers, steps)
    yield control(
        "any other optimizer (least drift of all)",
        _smallest(_drifts(found, Law.BROKEN)),
        MOVES,
        unit=DRIFT,
        detail=f"the largest: {_largest(_drifts(found, Law.BROKEN)).measured:.2g}",
    )
    decaying = (
        Sample(outcome.change[part, UNCENTERED], _place(outcome, part, UNCENTERED))
        for outcome in found
        for part in (0, 1)
        if _laws(outcome)[part] in (Law.DECAYS, Law.SCALED)
    )
    yield control(
        "weight decay, sums expected to stay (least change of all)",
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
        "classifiers that do not learn (least change of all)",
        _smallest(moves),
        0.1,
        unit="largest change of a weight",
    )


def _from_law(
    law: Law, sums: np.ndarray, own: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The drift by start; sums are ``[steps + 1, 2, n]``."""
    expected = {
        Law.CONSERVED: lambda: sums[0],
        Law.DECAYS: lambda: own,
        Law.SCALED: lambda: _on_ray(sums),
        Law.BROKEN: lambda: sums[0],
    }
    return _relative(sums - expected[law](), scale)


def _relative(deviation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.abs(deviation).max((0, 2)) / scale.max((0, 2))


def _on_ray(sums: np.ndarray) -> np.ndarray:
    """The multiples of the first sums that are nearest to the later ones."""
    start = sums[0]
    square = np.sum(start * start, axis=-1)
    factor = np.sum(sums * start, axis=-1) / np.where(square > 0, square, 1.0)
    return factor[..., None] * start


def _laws(outcome: Outcome) -> tuple[Law, Law]:
    return outcome.optimizer.kernel, outcome.optimizer.bias


def _place(outcome: Outcome, part: int, start: int) -> dict[str, Any]:
    return {
        "optimizer": outcome.optimizer.name,
        "sums of": ("kernel", "bias")[part],
        "start": "centered" if start == CENTERED else "uncentered",
    }


def _drifts(found: Iterable[Outcome], law: Law) -> Iterator[Sample]:
    for outcome in found:
        for part, its_law in enumerate(_laws(outcome)):
            if its_law is law:
                for start in (CENTERED, UNCENTERED):
                    where = _place(outcome, part, start)
                    yield Sample(outcome.drift[part, start], where)


def _mean_logits(found: Iterable[Outcome]) -> Iterator[Sample]:
    for outcome in found:
        if Law.BROKEN not in _laws(outcome):
            mean = outcome.history.mean_logit[:, CENTERED].max()
            largest = outcome.history.logit[:, CENTERED].max()
            yield Sample(mean / largest, {"optimizer": outcome.optimizer.name})


def _largest(samples: Iterable[Sample]) -> Worst:
    worst = Worst()
    for sample in samples:
        worst.add(sample.value, lambda _, where=sample.where: where)
    return worst


def _smallest(samples: Iterable[Sample]) -> Worst:
    """The least of all; what is not a number has not moved."""
    finite = [s._replace(value=np.nan_to_num(s.value, posinf=0.0)) for s in samples]
    worst = Worst()
    if finite:
        least = min(finite, key=lambda sample: sample.value)
        worst.add(least.value, lambda _: least.where)
        worst.cases = len(finite)
    return worst


def _count(found: Sequence[Outcome], law: Law) -> str:
    kernels = sum(outcome.optimizer.kernel is law for outcome in found)
    biases = sum(outcome.optimizer.bias is law for outcome in found)
    return f"{kernels} optimizers for the kernel and {biases} for the bias"


def _table(found: Iterable[Outcome]) -> tuple[dict[str, Any], ...]:
    """A row for every optimizer."""
    rows = []
    for outcome in found:
        optimizer, history, drift, _ = outcome
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
    """The average size of the mean logit after every step, from class sums of zero."""
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

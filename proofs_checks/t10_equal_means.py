r"""T10. From equal means, KD at infinite temperature and logits matching train alike.

**Statement.** Let the classifier of a student be linear, :math:`z = hW + b`, with
class sums :math:`W\mathbf 1 = 0` and :math:`\mathbf 1^\top b = Cm`, and let the
teacher's mean logit be :math:`m` for every input. If the optimizer of the classifier
conserves class sums (T9), then distillation at infinite temperature (KD) and logits
matching (LM) follow **the same trajectory**: the parameters are equal after every step.
This holds for any optimizer of the other layers, with mini-batches and with batch
normalization. If :math:`m = 0`, weight decay may be added.

Centering the classifiers of student and teacher does not change their probabilities.
After centering, no zero-mean normalization of logits is needed.

**Proof.** By induction over the steps. The losses differ by the gap
:math:`\frac12 \bar d^2` of the means (T4), so their gradients with respect to the
logits differ by :math:`\bar d \mathbf 1 / C`. The student's mean logit is
:math:`(h W\mathbf 1 + \mathbf 1^\top b)/C = m`, the teacher's is :math:`m`: hence
:math:`\bar d = 0`, the gradients agree in all parameters, and with equal optimizer
states so do the next parameters and states. The gradient sums to zero over the classes,
as that of KD does, so the class sums do not change (T9). The hypothesis holds again.

**Limits.** The following do not suffice:

* Means that agree only at the start. If :math:`W\mathbf 1 \ne 0`, the student's mean
  logit moves with its features :math:`h`, and the teacher's does not.
* A mean :math:`m \ne 0` with weight decay, which shrinks the student's mean.
* Centering one of the two networks.
* Adam on the classifier.

KD alone does not depend on the means (T1), so its student computes the same
probabilities with or without centering. Only LM needs equal means.

**Method.** Both trainings run from the same state in lockstep. In exact arithmetic they
are equal. Rounding separates them by an amount of its own size. Adam divides by the
root of squared gradients, so below the classifier it magnifies the rounding of small
gradients. Float32 does not keep that case.

Source: after Chen et al. 2021 (arXiv 2109.06458), abstract; the derivation is ours.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jaxkd import models
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
from proofs_checks._lockstep import CONV, MLP, Course, Run, train
from proofs_checks._optimizers import body_and_head

STEPS = 500

SAME = Tolerance(float64=1e-10, float32=1e-5, bfloat16=None)
"""Tolerance of the difference of a parameter, at every step."""

SAME_BELOW = Tolerance(float64=1e-10, float32=None, bfloat16=None)
"""Tolerance of the difference of a parameter with Adam below the classifier."""

ZERO = Tolerance(float64=1e-12, float32=1e-4, bfloat16=None)
"""Tolerance of a mean logit, relative to the largest logit."""

PARTED = 1e-4
"""A parameter's difference must exceed this if an assumption is dropped."""

OFFSET = 0.3

Model = Any  # a network whose classifier is linear
Pair = tuple[Model, Model]
Runs = tuple[Run, ...]


def _both_centered(student: Model, teacher: Model) -> Pair:
    return models.center_classifier(student), models.center_classifier(teacher)


def _student_centered(student: Model, teacher: Model) -> Pair:
    return models.center_classifier(student), teacher


def _teacher_centered(student: Model, teacher: Model) -> Pair:
    return student, models.center_classifier(teacher)


def _as_they_are(student: Model, teacher: Model) -> Pair:
    return student, teacher


def _constant(student: Model, teacher: Model) -> Pair:
    pair = _both_centered(student, teacher)
    for network in pair:
        network.classifier.bias[...] += OFFSET
    return pair


def _equal_at_the_start(student: Model, teacher: Model) -> Pair:
    """Give a wider teacher the student's features and the student's class means."""
    teacher = models.center_classifier(teacher)
    (theirs,), (ours,) = teacher.layers, student.layers
    width = ours.bias.shape[0]
    theirs.kernel[...] = theirs.kernel[...].at[:, :width].set(ours.kernel[...])
    theirs.bias[...] = theirs.bias[...].at[:width].set(ours.bias[...])
    head = student.classifier
    means = jnp.mean(head.kernel[...], axis=-1, keepdims=True)
    kernel = teacher.classifier.kernel[...]
    teacher.classifier.kernel[...] = kernel.at[:width].add(means)
    teacher.classifier.bias[...] += jnp.mean(head.bias[...])
    return student, teacher


CENTERED = ("both centered", _both_centered)
UNEQUAL = ("neither centered", _as_they_are)
STUDENT = ("student centered", _student_centered)
TEACHER = ("teacher centered", _teacher_centered)
CONSTANT = (f"both means {OFFSET}", _constant)
AT_START = ("means equal at the start", _equal_at_the_start)

SGD = ("SGD", lambda: optax.sgd(0.1))
DECAY = (
    "momentum with L2",
    lambda: optax.chain(optax.add_decayed_weights(5e-3), optax.sgd(0.03, momentum=0.9)),
)
SPLIT = (
    "Adam, but SGD on the classifier",
    lambda: body_and_head(optax.adam(1e-3), optax.sgd(0.1)),
)
ADAM = ("Adam", lambda: optax.adam(1e-3))

_UNIT = "largest difference of a parameter"

COVERED: Runs = (
    Run(MLP, SGD, CENTERED),
    Run(MLP, DECAY, CENTERED),
    Run(MLP, SGD, CONSTANT, OFFSET),
    Run(CONV, SGD, CENTERED),
    Run(CONV, DECAY, CENTERED),
)

COVERED_BELOW: Runs = (Run(MLP, SPLIT, CENTERED), Run(CONV, SPLIT, CENTERED))

CONTROLS: dict[str, Runs] = {
    "neither network is centered": (Run(MLP, SGD, UNEQUAL), Run(CONV, SGD, UNEQUAL)),
    "one of the two networks is centered": (
        Run(MLP, SGD, STUDENT),
        Run(MLP, SGD, TEACHER),
        Run(CONV, SGD, STUDENT),
    ),
    "Adam on the classifier": (Run(MLP, ADAM, CENTERED), Run(CONV, ADAM, CENTERED)),
    "the means are equal only at the start": (Run(MLP, SGD, AT_START),),
    "equal nonzero means with weight decay": (Run(MLP, DECAY, CONSTANT, OFFSET),),
}

ALL: Runs = (*COVERED, *COVERED_BELOW, *itertools.chain(*CONTROLS.values()))


UNUSUAL: Runs = tuple(run for run in ALL if run.means in (CONSTANT, AT_START))
"""MLP runs that are plotted beside the runs of the conv net."""


@functools.lru_cache(maxsize=8)
def courses(
    settings: Settings, runs: Runs = ALL, steps: int = STEPS
) -> dict[Run, Course]:
    """Train all runs. Claims and controls share the results."""
    return dict(zip(runs, train(runs, settings, steps=steps), strict=True))


def claims(settings: Settings, steps: int = STEPS) -> Iterator[Evidence]:
    """Yield evidence that both trainings follow the same trajectory."""
    found = courses(settings, steps=steps)
    yield claim(
        f"equal parameters after each of {steps} steps, SGD and momentum",
        _apart(found, COVERED),
        SAME,
        settings,
        unit=_UNIT,
        detail=_report(found, COVERED, SAME.of(settings)),
        table=_table(found),
        series={
            run.name: course.difference
            for run, course in found.items()
            if run.network is CONV or run in UNUSUAL
        },
    )
    yield claim(
        f"equal parameters after each of {steps} steps, Adam below the classifier",
        _apart(found, COVERED_BELOW),
        SAME_BELOW,
        settings,
        unit=_UNIT,
        detail=_report(found, COVERED_BELOW, SAME_BELOW.of(settings)),
    )
    means = Worst()
    for run in (*COVERED, *COVERED_BELOW):
        mean = found[run].mean_logit / found[run].logit
        means.add(mean, lambda step, run=run: _place(run, step))
    yield claim(
        "the mean logits of both students stay equal to the teacher's",
        means,
        ZERO,
        settings,
        unit="difference / largest logit",
    )


def controls(settings: Settings, steps: int = STEPS) -> Iterator[Evidence]:
    """Yield evidence that the trainings separate if an assumption is dropped."""
    found = courses(settings, steps=steps)
    for text, runs in CONTROLS.items():
        largest = {run: found[run].difference.max() for run in runs}
        yield control(text, _least(largest), PARTED, unit=_UNIT)
    moved = {run: course.moved for run, course in found.items()}
    yield control(
        "the students do not learn", _least(moved), 0.1, unit="change of a parameter"
    )


def _apart(found: Mapping[Run, Course], runs: Runs) -> Worst:
    worst = Worst()
    for run in runs:
        worst.add(found[run].difference, lambda step, run=run: _place(run, step))
    return worst


def _report(found: Mapping[Run, Course], runs: Runs, bound: float | None) -> str:
    """Describe the first parameter that differs after the last step, if any."""
    kd = {run.name: found[run].students[0] for run in runs}
    lm = {run.name: found[run].students[1] for run in runs}
    return difference_report(kd, lm, atol=bound)


def _least(values: Mapping[Run, float]) -> Worst:
    """Return the smallest value. NaN and infinity count as zero."""
    numbers = {run: np.nan_to_num(x, posinf=0.0) for run, x in values.items()}
    least = min(numbers, key=lambda run: numbers[run])
    worst = Worst()
    worst.add(numbers[least], lambda _: {"run": least.name})
    worst.cases = len(numbers)
    return worst


def _place(run: Run, step: int) -> dict[str, Any]:
    return {"run": run.name, "step": step + 1}


def _table(found: Mapping[Run, Course]) -> tuple[dict[str, Any], ...]:
    """Return a row for every run."""
    same = {*COVERED, *COVERED_BELOW}
    return tuple(
        {
            "network": run.network.name,
            "optimizer": run.optimizer[0],
            "means": run.means[0],
            "trajectories": "same" if run in same else "different",
            "after 1 step": float(course.difference[0]),
            "at the end": float(course.difference[-1]),
            "largest": float(course.difference.max()),
            "mean logit error": float(course.mean_logit.max()),
        }
        for run, course in found.items()
    )


CHECK = Check(
    name="T10",
    title="Equal-mean initialization",
    statement="W 1 = 0, mean(b) = mean(v) = m: KD at T = inf and LM train alike",
    assumptions=(
        "the classifier is linear",
        "its optimizer conserves class sums (T9)",
        "m = 0 if there is weight decay",
    ),
    claims=claims,
    controls=controls,
)

r"""T6. At zero temperature distillation is label matching.

**Statement.** If the teacher's top class :math:`k^*` is unique, :math:`T\,
\mathrm{KL}(p_T(v) \| p_T(z)) \to \max_k z_k - z_{k^*}` as :math:`T \to 0`: zero exactly
where student and teacher have the same top class. More precisely, with the teacher's
lead :math:`g = v_{k^*} - \max_{k \ne k^*} v_k > 0`,

.. math::
    \left| T\, \mathrm{KL} - (\max_k z_k - z_{k^*}) \right|
        \le T \log C + \operatorname{osc}(z)\, (C - 1)\, e^{-g/T}.

**Proof.** :math:`T\, \mathrm{KL} = T \sum_k p_k \log p_k - \sum_k p_k z_k + T \log
\sum_k e^{z_k/T}`. The first term lies in :math:`[-T \log C, 0]`, the last in
:math:`\max_k z_k + [0, T \log C]`, and :math:`|z_{k^*} - \sum_k p_k z_k| \le
\operatorname{osc}(z) (1 - p_{k^*})` with :math:`1 - p_{k^*} \le (C - 1) e^{-g/T}`.

**Limits.** If :math:`n` classes tie for the teacher's top class, the limit is
:math:`\max_k z_k` minus the mean of their :math:`z`.

Source: the limit is in the abstract of Kim et al. 2021 (arXiv 2105.08919); the bound
and the derivation are ours.
"""

from collections.abc import Iterator

import numpy as np

from proofs_checks._cases import soft_target_kl, value_and_gradients
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

_ROWS = 500
_SIZES = (2, 10, 100, 1000)
_TEMPERATURES = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
_TOLERANCE = Tolerance(float64=1e-13, float32=1e-5, bfloat16=1e-5)


def _draw(settings: Settings, classes: int, *, tie: bool = False):
    rng = np.random.default_rng((settings.seed, 6, classes))
    student, teacher = settings.cast(3 * rng.normal(size=(2, _ROWS, classes)))
    rows, order = np.arange(_ROWS), teacher.argsort(-1)
    if tie:
        teacher[rows, order[:, -2]] = teacher[rows, order[:, -1]]
    return student, teacher, rows, order


def _label_matching(student, rows, top):
    z = student.astype(np.float64)
    return z.max(-1) - z[rows, top]


def _scaled_kl(student, teacher, temperature: float, settings: Settings) -> np.ndarray:
    column = np.full(len(student), temperature, settings.compute_dtype)
    value, _ = value_and_gradients(soft_target_kl(), student, teacher, column)
    return np.asarray(value, np.float64) / column.astype(np.float64)


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the bound of the distance and for the zeros of the limit."""
    bounded, zeros = Worst(), Worst()
    for classes in _SIZES:
        student, teacher, rows, order = _draw(settings, classes)
        v, z = teacher.astype(np.float64), student.astype(np.float64)
        lead = v[rows, order[:, -1]] - v[rows, order[:, -2]]
        limit = _label_matching(student, rows, order[:, -1])
        oscillation = z.max(-1) - z.min(-1)

        def describe(row, classes=classes):
            return {"classes": classes, "row": row}

        for temperature in _TEMPERATURES:
            scaled = _scaled_kl(student, teacher, temperature, settings)
            bound = temperature * np.log(classes)
            bound = bound + oscillation * (classes - 1) * np.exp(-lead / temperature)
            excess = (distance(scaled, limit) - bound) / (oscillation + temperature)
            bounded.add(np.where(lead > 0, excess, 0.0), describe)
        scaled = _scaled_kl(student, teacher, _TEMPERATURES[-1], settings)
        agree = z.argmax(-1) == order[:, -1]
        wrong = np.where(agree, scaled > 1e-2, scaled < limit / 2)
        zeros.add(np.where(lead > 0.01, wrong, 0.0), describe)
    yield claim(
        "|T KL - (max z - z_k*)| is within its bound, T = 1 to 1e-4",
        bounded,
        _TOLERANCE,
        settings,
        unit="excess over the bound / (osc(z) + T)",
    )
    yield claim(
        "T KL is near zero exactly where both predict the same class, T = 1e-4",
        zeros,
        Tolerance(0.0, 0.0, 0.0),
        settings,
        unit="1 if a case violates this",
    )


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that the limit is different if two classes tie."""
    worst = Worst()
    for classes in _SIZES[1:]:
        student, teacher, rows, order = _draw(settings, classes, tie=True)
        scaled = _scaled_kl(student, teacher, 1e-4, settings)
        limit = _label_matching(student, rows, order[:, -1])
        worst.add(
            distance(scaled, limit) - 1e-4 * np.log(classes),
            lambda row, classes=classes: {"classes": classes, "row": row},
        )
    text = "two classes tie for the teacher's top class"
    yield control(text, worst, 1e-2, unit="distance from the limit, T = 1e-4")


CHECK = Check(
    name="T6",
    title="Zero temperature",
    statement="T KL -> max_k z_k - z_k*, k* = argmax v",
    assumptions=("finite logits", "the teacher's top class is unique"),
    claims=claims,
    controls=controls,
)

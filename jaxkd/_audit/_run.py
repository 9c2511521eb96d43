"""Run all checks of an audit."""

import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from jaxkd._audit import _batch_checks, _common_checks, _logit_checks
from jaxkd._audit._cases import SCALES, TEMPERATURES
from jaxkd._audit._context import Context, build
from jaxkd._audit._findings import Outcome, skipped
from jaxkd._audit._report import AuditReport
from jaxkd._audit._subject import Subject, make_subject
from jaxkd._checks import check_count
from jaxkd._errors import unknown_name
from jaxkd.losses import Transformation

Check = Callable[[Context], Outcome]

_OF_LOGITS: dict[str, Check] = {
    "form": _logit_checks.form,
    "zero-sum": _logit_checks.zero_sum,
    "temperature-factor": _logit_checks.temperature_factor,
    "confident": _logit_checks.confident,
    "masks": _logit_checks.masks,
}
_OF_ALL: dict[str, Check] = {
    "teacher-gradient": _common_checks.teacher_gradient,
    "zero-at-equal": _common_checks.zero_at_equal,
    "nonnegative": _common_checks.nonnegative,
    "invariance": _batch_checks.invariance,
    "accuracy": _common_checks.accuracy,
    "finite": _common_checks.finite,
    "dtype": _common_checks.dtype,
    "batch": _batch_checks.batch,
    "compiled": _batch_checks.compiled,
}
CHECKS = _OF_LOGITS | _OF_ALL
"""All checks, by the names that exceptions take."""

# A loss of the logits themselves sees their mean, and what a mask sets them to.
_IMPLIED = {"zero-sum": ("masks",)}
_MOST_CLASSES = 4096


def audit(
    loss: Callable[..., Any],
    *,
    kind: str | None = None,
    except_: str | Iterable[str] = (),
    temperature: str | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: int = 10,
    seed: int = 0,
) -> AuditReport:
    r"""Check a distillation loss for every property that a proper one has.

    The loss may return one value per example or a single number. It is compared with
    known losses and known mistakes; its value, gradient and second derivative are
    evaluated in float32, bfloat16 and float64 over logits from 1e-4 to 1e4 and
    temperatures up to 1e4, and at equal, zero, one-hot and masked inputs.

    Args:
        loss: ``f(student_logits, teacher_logits)``, with a keyword argument for the
            temperature if it has one. For other kinds see ``kind``.
        kind: ``"logits"`` (the default), ``"labeled"`` (with labels as the third
            argument), ``"embeddings"`` (``[batch, features]``) or ``"features"``
            (``[batch, height, width, channels]``). A loss of jaxkd declares its kind.
        except_: Checks that the loss need not pass, such as ``"zero-sum"``, which
            drops invariance to shifts and masks too.
        temperature: Name of the temperature parameter; by default ``temperature``,
            ``T``, ``tau`` or ``temp``, if the loss has one of these.
        settings: Other keyword arguments of the loss.
        classes: Number of classes of the logits, at least 4.
        seed: Seed of the random inputs.

    Returns:
        The report: ``clean``, ``findings``, ``to_json()``, ``to_markdown()``,
        ``plot()`` and ``raise_if_unclean()``.

    Raises:
        InvalidInputError: If the loss cannot be called, or an argument is unknown.
        InvalidTypeError: If the loss is not callable.

    Example:
        >>> import jaxkd
        >>> jaxkd.audit(jaxkd.losses.logit_matching)
        AuditReport(logit_matching: clean)
    """
    start = time.perf_counter()
    check_count(_MOST_CLASSES, classes=classes)
    excepted = _excepted(except_)
    subject = make_subject(loss, kind, temperature, settings or {})
    reasons = dict.fromkeys(excepted, "excepted") | _ruled_out(subject)
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_matmul_precision("highest"),
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        context = build(
            subject, classes=max(classes, 4), excepted=frozenset(reasons), seed=seed
        )
        checks = CHECKS if subject.of_logits else _OF_ALL
        outcomes = tuple(
            skipped(name, reasons[name]) if name in reasons else check(context)
            for name, check in checks.items()
        )
        series = _series(context)
    return AuditReport(
        loss=subject.name,
        kind=subject.kind,
        returns=context.returns.text,
        temperature=subject.temperature,
        outcomes=outcomes,
        excepted=tuple(name for name in CHECKS if name in excepted),
        series=series,
        environment=_environment(),
        seconds=time.perf_counter() - start,
    )


def _excepted(names: str | Iterable[str]) -> frozenset[str]:
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS, argument="except_")
    return frozenset(names).union(*(_IMPLIED.get(name, ()) for name in names))


def _ruled_out(subject: Subject) -> dict[str, str]:
    """Return the checks that do not apply to a declared loss, and why."""
    declaration = subject.declaration
    if declaration is None:
        return {}
    reasons = {"form": "a loss of jaxkd, which is audited against its declaration"}
    if subject.of_logits and Transformation.STUDENT_SHIFT not in declaration.invariant:
        reasons |= dict.fromkeys(
            _excepted("zero-sum"), "declared to depend on the mean of the logits"
        )
    return reasons


def _series(context: Context) -> dict[str, list[float]]:
    """Return the largest errors at each temperature, or at each size of the inputs."""
    cases = context.cases
    value, slope = _common_checks.errors(context)
    softened = context.subject.temperature is not None and context.subject.of_logits
    levels = TEMPERATURES if softened else SCALES
    chosen = cases.of("temperature" if softened else "scale").reshape(len(levels), -1)
    return {
        "temperature" if softened else "size of the inputs": list(levels),
        "value": [float(x) for x in np.nanmax(value[chosen], -1)],
        "gradient": [float(x) for x in np.nanmax(slope[chosen], -1)],
    }


def _environment() -> dict[str, str]:
    return {
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": version("jax"),
        "jaxkd": version("jaxkd-distillation"),
    }

r"""Known losses of logits, right and wrong, as formulas in float64 NumPy.

None of them has a factor of its own: ``scale`` is the power of the temperature that
belongs before it. All take the logits of student and teacher, ``[n, classes]``, and
temperatures, ``[n, 1]``.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

Rows = np.ndarray
Formula = Callable[[Rows, Rows, Rows], Rows]


@dataclasses.dataclass(frozen=True)
class Form:
    """A known loss.

    Attributes:
        formula: Its formula, for people.
        value: Its values, ``[n]``, without the factor.
        gradient: The student's gradient, ``[n, classes]``, without the factor; None if
            it is not needed.
        scale: The power of the temperature that belongs before it.
        mistake: Short name of the mistake, or None if the loss is right.
        text: What is wrong.
        remedy: What to change.
    """

    formula: str
    value: Formula
    gradient: Formula | None = None
    scale: int = 2
    mistake: str | None = None
    text: str = ""
    remedy: str = ""


def log_softmax(x: Rows) -> Rows:
    """Compute log-probabilities; -inf stays."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def softmax(x: Rows) -> Rows:
    """Compute probabilities."""
    return np.exp(log_softmax(x))


def _expected(p: Rows, x: Rows) -> Rows:
    """Sum p x over the classes, with 0 times anything = 0."""
    return np.sum(np.where(p > 0.0, p * np.where(p > 0.0, x, 0.0), 0.0), -1)


def divergence(log_p: Rows, log_q: Rows) -> Rows:
    """Compute KL(p || q)."""
    with np.errstate(invalid="ignore"):  # -inf - -inf where p = 0
        return _expected(np.exp(log_p), log_p - log_q)


def _kl(z: Rows, v: Rows, t: Rows) -> Rows:
    return divergence(log_softmax(v / t), log_softmax(z / t))


def _kl_gradient(z: Rows, v: Rows, t: Rows) -> Rows:
    return (softmax(z / t) - softmax(v / t)) / t


def _reverse_kl(z: Rows, v: Rows, t: Rows) -> Rows:
    return _kl(v, z, t)


def _reverse_kl_gradient(z: Rows, v: Rows, t: Rows) -> Rows:
    log_p, log_q = log_softmax(v / t), log_softmax(z / t)
    q = np.exp(log_q)
    with np.errstate(invalid="ignore"):
        log_ratio = np.where(q > 0.0, log_q - log_p, 0.0)
    return q * (log_ratio - _expected(q, log_ratio)[:, None]) / t


def _skewed(share: float) -> tuple[Formula, Formula]:
    """Return KL(p || share p + (1 - share) q) and its gradient."""

    def parts(z: Rows, v: Rows, t: Rows) -> tuple[Rows, Rows, Rows]:
        log_p, log_q = log_softmax(v / t), log_softmax(z / t)
        with np.errstate(invalid="ignore"):
            log_m = np.logaddexp(log_p + np.log(share), log_q + np.log1p(-share))
        return log_p, log_q, log_m

    def value(z: Rows, v: Rows, t: Rows) -> Rows:
        log_p, _, log_m = parts(z, v, t)
        return divergence(log_p, log_m)

    def gradient(z: Rows, v: Rows, t: Rows) -> Rows:
        log_p, log_q, log_m = parts(z, v, t)
        q = np.exp(log_q)
        ratio = np.exp(np.where(np.isneginf(log_p), -np.inf, log_p - log_m))
        return (1.0 - share) * q * (_expected(q, ratio)[:, None] - ratio) / t

    return value, gradient


def _jensen_shannon(z: Rows, v: Rows, t: Rows) -> Rows:
    log_p, log_q = log_softmax(v / t), log_softmax(z / t)
    log_m = np.logaddexp(log_p, log_q) - np.log(2.0)
    return 0.5 * (divergence(log_p, log_m) + divergence(log_q, log_m))


def _jensen_shannon_gradient(z: Rows, v: Rows, t: Rows) -> Rows:
    log_p, log_q = log_softmax(v / t), log_softmax(z / t)
    log_m = np.logaddexp(log_p, log_q) - np.log(2.0)
    q = np.exp(log_q)
    log_ratio = np.where(q > 0.0, log_q - log_m, 0.0)
    return 0.5 * q * (log_ratio - _expected(q, log_ratio)[:, None]) / t


def _cross_entropy(z: Rows, v: Rows, t: Rows) -> Rows:
    return -_expected(softmax(v / t), log_softmax(z / t))


def _hellinger(z: Rows, v: Rows, t: Rows) -> Rows:
    roots = np.exp(0.5 * log_softmax(z / t)) - np.exp(0.5 * log_softmax(v / t))
    return np.sum(roots**2, -1)


def _squared(z: Rows, v: Rows, t: Rows) -> Rows:
    return np.sum((softmax(z / t) - softmax(v / t)) ** 2, -1)


def _correlation(z: Rows, v: Rows, t: Rows) -> Rows:
    q, p = softmax(z / t), softmax(v / t)
    q, p = (x - x.mean(-1, keepdims=True) for x in (q, p))
    lengths = np.linalg.norm(q, axis=-1) * np.linalg.norm(p, axis=-1)
    return 1.0 - np.sum(p * q, -1) / lengths


def _matching(z: Rows, v: Rows, t: Rows) -> Rows:
    return 0.5 * np.mean((z - v) ** 2, -1)


def _matching_gradient(z: Rows, v: Rows, t: Rows) -> Rows:
    return (z - v) / z.shape[-1]


RIGHT: tuple[Form, ...] = (
    Form("KL(p || q)", _kl, _kl_gradient),
    Form("JS(p, q)", _jensen_shannon, _jensen_shannon_gradient),
    Form("KL(p || 0.1 p + 0.9 q)", *_skewed(0.1)),
    Form("the cross-entropy of p and q", _cross_entropy),
    Form("the squared Hellinger distance", _hellinger),
    Form("|p - q|²", _squared),
    Form("1 - correlation of p and q", _correlation, scale=0),
    Form("mean (z - v)² / 2", _matching, _matching_gradient, scale=0),
    Form("var(z - v) / 2", lambda z, v, t: 0.5 * np.var(z - v, axis=-1), scale=0),
)
"""Losses that are right, if the factor is."""


def _log_targets_twice(z: Rows, v: Rows, t: Rows) -> Rows:
    p = softmax(v / t)
    return np.sum(np.exp(p) * (p - log_softmax(z / t)), -1)


def _log_targets_as_weights(z: Rows, v: Rows, t: Rows) -> Rows:
    log_p = log_softmax(v / t)
    return np.sum(log_p * (log_p - log_softmax(z / t)), -1)


def _log_of_log_gradient(z: Rows, v: Rows, t: Rows) -> Rows:
    log_p, q = log_softmax(v / t), softmax(z / t)
    return (q * log_p.sum(-1, keepdims=True) - log_p) / t


def _student_probabilities(z: Rows, v: Rows, t: Rows) -> Rows:
    log_p = log_softmax(v / t)
    return np.sum(np.exp(log_p) * (log_p - softmax(z / t)), -1)


def _undefined(z: Rows, v: Rows, t: Rows) -> Rows:
    return np.full(len(z), np.nan)


def _softened(student: Callable[..., Rows], teacher: Callable[..., Rows]) -> Formula:
    def value(z: Rows, v: Rows, t: Rows) -> Rows:
        return divergence(log_softmax(teacher(v, t)), log_softmax(student(z, t)))

    return value


def _once(x: Rows, t: Rows) -> Rows:
    return x / t


def _unsoftened(x: Rows, t: Rows) -> Rows:
    return x


def _twice_softened_first(x: Rows, t: Rows) -> Rows:
    return softmax(x / t)


def _twice_softened_last(x: Rows, t: Rows) -> Rows:
    return softmax(x) / t


def _softmax_twice() -> tuple[Form, ...]:
    sides = {
        "both": lambda twice: (twice, twice),
        "the student": lambda twice: (twice, _once),
        "the teacher": lambda twice: (_once, twice),
    }
    return tuple(
        Form(
            f"KL after a second softmax of {side}",
            _softened(*pair(twice)),
            mistake="softmax-twice",
            text=f"softmax is applied twice to {side}",
            remedy="pass logits, or remove the softmax of the loss: probabilities lie "
            "in [0, 1], so a softmax of them is nearly uniform",
        )
        for side, pair in sides.items()
        for twice in (_twice_softened_first, _twice_softened_last)
    )


_ONE_SIDE = (
    "divide the logits of both networks by the temperature. If only one should be "
    "softened, as in transformed teacher matching, except form and zero-at-equal"
)
_LOG_TARGET = (
    "pass what the divergence expects: probabilities of the teacher, or "
    "log-probabilities with its option for log targets; and log-probabilities of the "
    "student"
)

WRONG: tuple[Form, ...] = (
    Form(
        "KL(q || p)",
        _reverse_kl,
        _reverse_kl_gradient,
        mistake="swapped-arguments",
        text="the arguments of the divergence are swapped: it is the reverse KL",
        remedy="exchange student and teacher, or except form if the reverse KL is "
        "what you want",
    ),
    Form(
        "KL(p_T || q_1)",
        _softened(_unsoftened, _once),
        scale=0,
        mistake="temperature-on-one-side",
        text="the temperature softens the teacher alone",
        remedy=_ONE_SIDE,
    ),
    Form(
        "KL(p_1 || q_T)",
        _softened(_once, _unsoftened),
        mistake="temperature-on-one-side",
        text="the temperature softens the student alone",
        remedy=_ONE_SIDE,
    ),
    *_softmax_twice(),
    Form(
        "sum exp(p) (p - log q)",
        _log_targets_twice,
        mistake="log-target",
        text="probabilities of the teacher are passed where log-probabilities are "
        "expected, so exp is applied twice",
        remedy=_LOG_TARGET,
    ),
    Form(
        "sum log p (log log p - log q)",
        _undefined,
        _log_of_log_gradient,
        mistake="log-target",
        text="log-probabilities of the teacher are passed where probabilities are "
        "expected, so the log of negative numbers is taken",
        remedy=_LOG_TARGET,
    ),
    Form(
        "sum log p (log p - log q)",
        _log_targets_as_weights,
        mistake="log-target",
        text="log-probabilities of the teacher are used as the weights",
        remedy=_LOG_TARGET,
    ),
    Form(
        "sum p (log p - q)",
        _student_probabilities,
        mistake="log-target",
        text="probabilities of the student are passed where log-probabilities are "
        "expected",
        remedy=_LOG_TARGET,
    ),
)
"""Losses that are mistakes, whatever the factor."""


def top_classes(kept: int) -> Form:
    """Return KL over the teacher's top classes, with both renormalized there."""

    def value(z: Rows, v: Rows, t: Rows) -> Rows:
        top = np.argsort(-v, axis=-1, kind="stable")[:, :kept]
        z, v = (np.take_along_axis(x, top, -1) for x in (z, v))
        return _kl(z, v, t)

    return Form(
        f"KL renormalized over the teacher's top {kept} classes",
        value,
        mistake="top-k-renormalized",
        text=f"both predictions are renormalized over the teacher's top {kept} "
        "classes: mass that the student puts on other classes is not seen",
        remedy="normalize over all classes, and keep the rest of both predictions as "
        "one more class",
    )


def guarded(name: str, epsilon: float) -> Formula:
    """Return KL with a guard in the student's logarithm, one of :data:`GUARDS`.

    A guard of the teacher's changes terms that are as small as itself.
    """
    limit = {"epsilon-in-log": np.add, "clipped-probabilities": np.maximum}[name]

    def value(z: Rows, v: Rows, t: Rows) -> Rows:
        log_p, q = log_softmax(v / t), softmax(z / t)
        return _expected(np.exp(log_p), log_p - np.log(limit(q, epsilon)))

    return value


GUARDS = {
    "epsilon-in-log": "log(q + {:.2g})",
    "clipped-probabilities": "the student's prediction is clipped at {:.2g}",
}
"""Guards against log 0, by the names of the mistakes, with descriptions."""

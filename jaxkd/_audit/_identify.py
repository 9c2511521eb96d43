"""Recognize a loss of logits: which known formula it computes, and with what factor."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxkd._audit import _forms
from jaxkd._audit._cases import MARGINS, Cases
from jaxkd._audit._forms import Form
from jaxkd._audit._measure import Results

# Losses that convert to float32 are exact to its rounding.
_EXACT, _CLOSE, _GUARD = 1e-4, 3e-2, 2e-2
_HIDDEN_TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0)
_FAR = 50.0  # margin in units of T from which on a guard of 1e-19 or more saturates


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a loss computes: a factor times a known form.

    Attributes:
        form: The known form.
        constant: The factor at temperature 1 and the given number of classes.
        power: The power of the temperature in the factor, or None without one.
        hidden: The temperature inside of a loss that has no parameter for it.
        class_power: The power of the number of classes in the factor.
        guard: Name and size of a guard in the logarithm, if there is one.
        exact: Whether the loss agrees with the form on all ordinary inputs.
    """

    form: Form
    constant: float
    power: int | None
    hidden: float | None
    class_power: int = 0
    guard: tuple[str, float] | None = None
    exact: bool = True

    @property
    def text(self) -> str:
        """The formula with its factor."""
        text = self.form.formula
        if self.power not in (None, 0):
            text = f"{power_text(self.power)} {text}"
        if self.class_power == -1:
            text = f"the mean over the classes of {text}"
        elif not np.isclose(self.constant, 1.0, rtol=1e-4):
            text = f"{self.constant:.4g} times {text}"
        if self.hidden not in (None, 1.0):
            text += f" at T = {self.hidden:g}"
        return text

    def factor(self, t: np.ndarray) -> np.ndarray:
        """Return the factor at temperatures of any shape."""
        return self.constant * t ** float(self.power or 0)

    def softening(self, t: np.ndarray) -> np.ndarray:
        """Return the temperature that the form has at a temperature parameter."""
        return t if self.hidden is None else np.full_like(t, self.hidden)

    @property
    def right(self) -> bool:
        """Whether it is a loss without a mistake, so that its form is a reference."""
        return (
            self.exact
            and self.form.mistake in (None, "swapped-arguments")
            and self.class_power == 0
        )

    def reference(self, cases: Cases) -> tuple[np.ndarray, np.ndarray | None]:
        """Return exact values and student gradients, ``[n]`` and ``[n, classes]``."""
        t = cases.temperature[:, None]
        z, v, inner = cases.student[:, 0], cases.teacher[:, 0], self.softening(t)
        with np.errstate(all="ignore"):
            value = self.factor(t)[:, 0] * self.form.value(z, v, inner)
            if self.form.gradient is None:
                return value, None
            return value, self.factor(t) * self.form.gradient(z, v, inner)


def power_text(power: int) -> str:
    """Return a power of the temperature as text."""
    return {-2: "1/T²", -1: "1/T", 0: "1", 1: "T", 2: "T²"}.get(power, f"T^{power}")


def identify(
    cases: Cases,
    wide: Results,
    narrow: Results,
    *,
    has_temperature: bool,
    more_classes: Callable[[], tuple[Cases, np.ndarray]],
) -> Identity | None:
    """Find the known form that a loss is a multiple of.

    Args:
        cases: The inputs, of one example each.
        wide: Results in float64.
        narrow: Results in float32.
        has_temperature: Whether the loss has a temperature parameter.
        more_classes: Evaluates ordinary inputs of another number of classes.

    Returns:
        The form and its factor, or None if the loss is none of them. A loss that is
        the soft-target loss but for a guard in the logarithm is found too.
    """
    classes = cases.student.shape[-1]
    ordinary = cases.of("ordinary")
    forms = [*_forms.RIGHT, *_forms.WRONG]
    forms += [_forms.top_classes(k) for k in range(2, classes)]
    closest, distance = None, _CLOSE
    for form in forms:
        for hidden in (None,) if has_temperature else _HIDDEN_TEMPERATURES:
            found = _match(form, cases, wide, ordinary, hidden)
            if found is None:
                continue
            identity, spread = found
            if spread < _EXACT:
                return _with_classes(identity, more_classes)
            if form is _forms.RIGHT[0] and spread < distance:
                closest, distance = identity, spread
    if closest is None:
        return None
    closest = dataclasses.replace(_with_classes(closest, more_classes), exact=False)
    return with_guard(closest, cases, narrow)


def _match(
    form: Form, cases: Cases, wide: Results, chosen: np.ndarray, hidden: float | None
) -> tuple[Identity, float] | None:
    """Fit a factor c T^k to the ratio of the loss and a form."""
    z, v = cases.student[chosen, 0], cases.teacher[chosen, 0]
    t = cases.temperature[chosen]
    inner = np.full_like(t, hidden) if hidden is not None else t
    with np.errstate(all="ignore"):
        base = form.value(z, v, inner[:, None])
    value = wide.value[chosen]
    if np.isnan(base).all():
        if not np.isnan(value).all() or form.gradient is None:
            return None
        base = form.gradient(z, v, inner[:, None])
        value = wide.student[chosen, 0]
    with np.errstate(all="ignore"):
        ratio = (value / base).reshape(len(chosen), -1)
    if not np.isfinite(ratio).all():
        return None
    levels = np.unique(t)
    mean = np.array([ratio[t == level].mean() for level in levels])
    if np.abs(mean).min() < 1e-12 or np.ptp(np.sign(mean)) > 0.0:
        return None
    spread = max(
        np.abs(ratio[t == level] / m - 1.0).max()
        for level, m in zip(levels, mean, strict=True)
    )
    if hidden is not None:
        return Identity(form, float(mean[0]), None, hidden), float(spread)
    slopes = np.diff(np.log(np.abs(mean))) / np.diff(np.log(levels))
    power = round(float(slopes.mean()))
    if np.abs(slopes - power).max() > 0.05:
        return None
    return Identity(form, float(mean[0]), power, None), float(spread)


def _with_classes(
    identity: Identity, more_classes: Callable[[], tuple[Cases, np.ndarray]]
) -> Identity:
    """Find the power of the number of classes in the factor."""
    if identity.form.mistake == "top-k-renormalized":
        return identity
    cases, value = more_classes()
    t = cases.temperature[:, None]
    with np.errstate(all="ignore"):
        form = identity.form.value(
            cases.student[:, 0], cases.teacher[:, 0], identity.softening(t)
        )
        ratio = value / (identity.factor(t)[:, 0] * form)
    if not np.isfinite(ratio).all() or ratio.mean() <= 0.0:
        return identity
    # The factor was fitted at half as many classes.
    power = float(np.log2(ratio.mean()))
    if abs(power - round(power)) > 1e-3:
        return identity
    return dataclasses.replace(identity, class_power=round(power))


def with_guard(identity: Identity, cases: Cases, narrow: Results) -> Identity | None:
    """Return a KL divergence with the guard that makes its values saturate.

    Args:
        identity: The form that the loss agrees with on ordinary inputs.
        cases: The inputs.
        narrow: Results in float32.

    Returns:
        The identity with a guard, or None if no guard explains the values.
    """
    if identity.form is not _forms.RIGHT[0]:
        return None
    chosen = cases.of("ordinary", "confident")
    t = cases.temperature[chosen][:, None]
    inner = identity.softening(t)
    factor = identity.factor(t)[:, 0]
    if identity.hidden is not None:
        factor = np.full(len(chosen), identity.constant)
    z, v = cases.student[chosen, 0], cases.teacher[chosen, 0]
    value = narrow.value[chosen] / factor
    known, margins = np.isfinite(value), z.max(-1)
    far = known & (cases.group[chosen] == "confident") & (margins >= _FAR * inner[:, 0])
    saturated = value[far]
    if not len(saturated) or np.ptp(saturated) > 1e-3 * abs(saturated[0]):
        return None
    if not 0.0 < saturated[0] < 0.9 * _FAR:
        return None
    # Dropping the largest margins compares the whole course of the loss.
    best, least = None, _GUARD
    for name in _forms.GUARDS:
        epsilon = float(np.exp(-saturated[0]))
        with np.errstate(all="ignore"):
            base = _forms.guarded(name, epsilon)(z, v, inner)
            error = np.abs(value - base) / np.maximum(np.abs(base), 1e-2)
        error = error[known & (margins < MARGINS[-2])].max()
        if error < least:
            best, least = (name, epsilon), error
    return None if best is None else dataclasses.replace(identity, guard=best)

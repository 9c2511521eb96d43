"""The inputs of an audit, in groups: all are evaluated by one compiled program."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxkd._audit._subject import Subject
from jaxkd.losses import Arguments

ORDINARY_TEMPERATURES = (1.0, 2.0, 4.0)
TEMPERATURES = (0.5, 1.0, 4.0, 20.0, 1e2, 1e3, 1e4)
SCALES = tuple(10.0**n for n in range(-4, 5))
MARGINS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 30.0, 50.0, 100.0, 1e3, 1e4)
SATURATED = 1e4
OUTSIDE = 50.0  # margin of a class that the teacher finds unlikely
# The most negative number of float32, a mask in many codebases.
LOWEST = float(np.finfo(np.float32).min)
MASKED = 2  # the class that masks exclude
FEATURES = 6
MAP = (3, 3)


class Case(NamedTuple):
    """One input.

    Attributes:
        group: What it is for.
        text: Description for people.
        student: Logits or features of the student, ``[batch, ...]``.
        teacher: Those of the teacher.
        labels: Class numbers, ``[batch]``.
        temperature: Temperature; 1 if the loss has none.
    """

    group: str
    text: str
    student: np.ndarray
    teacher: np.ndarray
    labels: np.ndarray
    temperature: float


@dataclasses.dataclass(frozen=True)
class Cases:
    """Inputs as arrays, representable in float32."""

    group: np.ndarray
    text: tuple[str, ...]
    student: np.ndarray
    teacher: np.ndarray
    labels: np.ndarray
    temperature: np.ndarray

    def of(self, *groups: str) -> np.ndarray:
        """Return the positions of the cases of these groups."""
        return np.flatnonzero(np.isin(self.group, groups))


def stack(cases: Sequence[Case]) -> Cases:
    """Stack cases of one shape."""
    with np.errstate(over="ignore"):
        wide = lambda x: np.asarray(np.asarray(x, np.float32), np.float64)
        return Cases(
            np.array([case.group for case in cases]),
            tuple(case.text for case in cases),
            wide([case.student for case in cases]),
            wide([case.teacher for case in cases]),
            np.array([case.labels for case in cases], np.int32),
            wide([case.temperature for case in cases]),
        )


class _Draw:
    """Draws pairs of arrays of one shape."""

    def __init__(self, shape: tuple[int, ...], classes: int, seed: int):
        self.shape, self.classes = shape, classes
        self.rng = np.random.default_rng((seed, 20))

    def normal(self, scale: float = 2.0) -> np.ndarray:
        return self.rng.normal(0.0, scale, self.shape)

    def labels(self) -> np.ndarray:
        return self.rng.integers(0, self.classes, self.shape[0])

    def case(
        self,
        group: str,
        text: str,
        student: np.ndarray,
        teacher: np.ndarray,
        temperature: float = 1.0,
    ) -> Case:
        return Case(group, text, student, teacher, self.labels(), temperature)

    def peak(self, margin: float, place: int) -> np.ndarray:
        """Return zeros with one large entry at a class, or channel, of each row."""
        x = np.zeros(self.shape)
        x[..., place] = margin
        return x

    def one_hot(self, place: int) -> np.ndarray:
        """Return ±1e4: one entry of each row is the largest by far."""
        return 2.0 * self.peak(SATURATED, place) - SATURATED


def draw(subject: Subject, *, batch: int, classes: int, seed: int) -> Cases:
    """Draw the inputs for a kind of loss.

    Args:
        subject: The loss.
        batch: Examples of each case: 1 if each example is treated alone.
        classes: Number of classes of logits.
        seed: Seed.
    """
    if subject.of_logits:
        sampler = _Draw((batch, classes), classes, seed)
        has_temperature = subject.temperature is not None
        return stack([*_logits(sampler, has_temperature), *_common(sampler)])
    inner = (*MAP, FEATURES) if subject.arguments is Arguments.FEATURE_MAPS else (6,)
    sampler = _Draw((batch, *inner), FEATURES, seed)
    ordinary = [_pair(sampler, "ordinary", 1.0) for _ in range(8)]
    return stack([*ordinary, *_common(sampler)])


def _pair(sampler: _Draw, group: str, t: float, scale: float = 2.0) -> Case:
    text = f"normal logits of standard deviation {scale:g}, T = {t:g}"
    return sampler.case(group, text, sampler.normal(scale), sampler.normal(scale), t)


def _logits(sampler: _Draw, has_temperature: bool) -> Iterator[Case]:
    """Yield the cases of logits alone."""
    for t in ORDINARY_TEMPERATURES if has_temperature else (1.0,):
        for _ in range(8):
            yield _pair(sampler, "ordinary", t)
    if has_temperature:
        for t in TEMPERATURES:
            for _ in range(4):
                yield _pair(sampler, "temperature", t)
    for margin in MARGINS:
        for place in (1, sampler.classes // 2, sampler.classes - 1):
            text = (
                f"T = 1, teacher sure of class 0 and student of class {place} by "
                f"{margin:g}"
            )
            student, teacher = sampler.peak(margin, place), sampler.peak(margin, 0)
            yield sampler.case("confident", text, student, teacher)
    for place in (sampler.classes // 2, sampler.classes - 1):
        teacher = np.broadcast_to(-np.arange(sampler.classes), sampler.shape)
        teacher = teacher + sampler.peak(OUTSIDE, 0)
        student = teacher + sampler.peak(2.0 * OUTSIDE, place)
        text = (
            f"T = 1, teacher sure of class 0 by {OUTSIDE:g}, and student equal to it "
            f"except for class {place}, which it is sure of"
        )
        yield sampler.case("outside", text, student, teacher)
    yield from _masks(sampler)


def _masks(sampler: _Draw) -> Iterator[Case]:
    def masked(x: np.ndarray, by: float) -> np.ndarray:
        x = x.copy()
        x[..., MASKED] = by
        return x

    for name, by in (("-inf", -np.inf), ("finfo.min", LOWEST)):
        z, v = sampler.normal(), sampler.normal()
        both = masked(z, by), masked(v, by)
        yield sampler.case("mask both", f"{name} in both networks", *both)
        yield sampler.case("mask teacher", f"{name} in the teacher", z, masked(v, by))
        yield sampler.case("mask student", f"{name} in the student", masked(z, by), v)


def _common(sampler: _Draw) -> Iterator[Case]:
    """Yield the cases of logits and of features."""
    for scale in SCALES:
        for _ in range(4):
            yield _pair(sampler, "scale", 1.0, scale)
    for t in (1.0, 4.0):
        for _ in range(2):
            x = sampler.normal()
            yield sampler.case("equal", f"equal inputs, T = {t:g}", x, x, t)
    zeros, x = np.zeros(sampler.shape), sampler.normal()
    first, last = sampler.one_hot(0), sampler.one_hot(sampler.classes - 1)
    for text, student, teacher in (
        ("both zero", zeros, zeros),
        ("a student of zeros", zeros, x),
        ("a teacher of zeros", x, zeros),
        ("equal one-hot inputs of ±1e4", first, first),
        ("opposite one-hot inputs of ±1e4", last, first),
        ("a one-hot student of ±1e4", first, x),
        ("a one-hot teacher of ±1e4", x, first),
    ):
        yield sampler.case("singular", text, student, teacher)
    for distance in (0.1, 2.0):
        for _ in range(4):
            teacher = to_bfloat16(sampler.normal())
            student = to_bfloat16(teacher + sampler.normal(distance))
            text = f"students within about {distance:g} of their teachers, T = 4"
            yield sampler.case("rounded", text, student, teacher, 4.0)


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round to the 8 significant bits of bfloat16."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 256.0) / 256.0, exponent)

"""Hypothesis draws logits: small integers on a grid first, rounded numbers next."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

_LARGEST = 32  # of the integers that logits are made of
_SIGNIFICANDS = {"bfloat16": 8, "float32": 24, "float64": 53}


class Tolerance(NamedTuple):
    """How far floating point may move a result.

    Attributes:
        value: Relative error of a value.
        gradient: Error of a gradient, relative to its largest component.
        slack: Absolute error of either, which forms that cancel need.
    """

    value: float
    gradient: float
    slack: float = 0.0


class Case(NamedTuple):
    """Logits, and what is done with them.

    Attributes:
        student: Logits in any dtype.
        teacher: Likewise.
        temperature: None if the loss has none.
        tolerance: For what comes out.
        direct: Whether to call the loss as it is, not compiled with its gradients.
    """

    student: np.ndarray
    teacher: np.ndarray
    temperature: np.floating | None
    tolerance: Tolerance
    direct: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return {} if self.temperature is None else {"temperature": self.temperature}

    @property
    def classes(self) -> int:
        return self.student.shape[-1]

    @property
    def dtype(self) -> np.dtype:
        return self.student.dtype

    @property
    def compute_dtype(self) -> np.dtype:
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    def moved(self, student: Any, teacher: Any) -> "Case":
        """The case with other logits, given in float64, of its own dtype."""
        return self._replace(
            student=np.asarray(student).astype(self.dtype),
            teacher=np.asarray(teacher).astype(self.dtype),
        )

    def at(self, temperature: float) -> "Case":
        """The case at another temperature."""
        return self._replace(temperature=self.compute_dtype.type(temperature))

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """The same logits in float64."""
        return self.student.astype(np.float64), self.teacher.astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Domain:
    """What cases are drawn from.

    Attributes:
        layouts: Pairs of dtype and shape: few, because each is compiled.
        temperatures: None for losses without one.
        exponents: Of two, smallest and largest: the spacing of the grid.
        largest_shift: In spacings; less if the dtype could not add it exactly.
        rough: Whether logits may also be off the grid, and close to each other.
        tolerances: By dtype.
        direct: Whether values are those of the loss as it is called.
    """

    layouts: tuple[tuple[str, tuple[int, ...]], ...]
    temperatures: st.SearchStrategy[float] | None
    exponents: tuple[int, int]
    largest_shift: int
    rough: bool
    tolerances: dict[str, Tolerance]
    direct: bool = False


EVERYWHERE = Domain(
    layouts=(
        ("float32", (2,)),
        ("float64", (3,)),
        ("bfloat16", (12,)),
        ("float32", (3, 2, 2)),
        ("float32", (12,)),
        ("float32", (100,)),
        ("float64", (1,)),
    ),
    temperatures=st.sampled_from([1.0, 4.0, 0.05, 100.0, 1e4, 1e8, np.inf])
    | st.floats(-1.3, 8.0).map(lambda x: 10.0**x),
    exponents=(-10, 5),
    largest_shift=2**40,
    rough=True,
    tolerances={
        "float32": Tolerance(1e-6, 1e-5),
        "bfloat16": Tolerance(1e-6, 2.0**-8),  # gradients are rounded to bfloat16
        "float64": Tolerance(1e-14, 1e-13),
    },
)
"""All that the losses accept, at the accuracy they promise."""

COMMON = dataclasses.replace(EVERYWHERE, layouts=EVERYWHERE.layouts[:5])
"""Without 100 classes or a single one, to compile fewer programs."""

UNTEMPERED_COMMON = dataclasses.replace(COMMON, temperatures=None)
"""The same for losses without a temperature."""

UNTEMPERED = dataclasses.replace(EVERYWHERE, temperatures=None)
"""The same for losses without a temperature."""

DIRECT = dataclasses.replace(EVERYWHERE, layouts=(("float32", (3, 2, 2)),), direct=True)
"""A single layout: without compilation each takes seconds."""

MODERATE = Domain(
    layouts=(("float64", (3,)), ("float64", (2, 3))),
    temperatures=st.sampled_from([1.0, 4.0, 0.5, 64.0]),
    exponents=(-3, 0),
    largest_shift=1000,
    rough=False,
    tolerances={"float64": Tolerance(1e-6, 1e-5, slack=1e-9)},
)
"""Where formulas that cancel are accurate enough: what fails here is no rounding."""

# With masked classes among them, these become one of the shapes on the right.
_MASKED_CLASSES = {("float32", (2,)): 12, ("float64", (3,)): 6}


def _simple_integers(shape):
    return arrays(np.float64, shape, elements=st.integers(-_LARGEST, _LARGEST))


def _mixed_integers(shape):
    """Of many classes Hypothesis makes most alike: these all differ."""
    draw = lambda seed: np.random.default_rng(seed).integers(
        -_LARGEST, _LARGEST, shape, endpoint=True
    )
    return st.integers(0, 2**32 - 1).map(draw).map(np.float64)


@st.composite
def _cases(draw, domain, *, rough=None):
    """A case and the spacing of its grid."""
    dtype, shape = draw(st.sampled_from(domain.layouts))
    integers = _simple_integers(shape) | _mixed_integers(shape)
    spacings = st.integers(*domain.exponents).map(lambda n: 2.0**n)
    spacing = draw(spacings)
    teacher, student = spacing * draw(integers), spacing * draw(integers)
    if domain.rough if rough is None else rough:
        kind = draw(st.sampled_from(["alike", "apart", "near"]))
        if kind == "apart":
            student = student / spacing * draw(spacings)
        if kind == "near":
            student = teacher + student / 2.0 ** draw(st.integers(4, 16))
        divisor = draw(st.sampled_from([1.0, 3.0]))
        student, teacher = student / divisor, teacher / divisor
    dtype = jnp.dtype(dtype)
    case = Case(
        student.astype(dtype),
        teacher.astype(dtype),
        None,
        domain.tolerances[dtype.name],
        domain.direct,
    )
    if domain.temperatures is not None:
        case = case.at(draw(domain.temperatures))
    return case, spacing


def pairs(domain):
    """Any logits at any temperature."""
    return _cases(domain).map(lambda drawn: drawn[:1])


def grid_pairs(domain):
    """Logits whose sums and differences are not rounded."""
    return _cases(domain, rough=False).map(lambda drawn: drawn[:1])


def pairs_at_infinity(domain):
    """Any logits at infinite temperature."""
    return pairs(dataclasses.replace(domain, temperatures=st.just(np.inf)))


def batches(domain):
    """Any logits with leading axes."""
    layouts = tuple(layout for layout in domain.layouts if len(layout[1]) > 1)
    return pairs(dataclasses.replace(domain, layouts=layouts))


@st.composite
def shifts(draw, domain):
    """Logits on a grid and two constants that can be added to them exactly."""
    case, spacing = draw(_cases(domain, rough=False))
    largest = 2 ** _SIGNIFICANDS[case.dtype.name] - 2 * _LARGEST
    largest = min(domain.largest_shift, largest)
    shift = st.integers(-largest, largest).map(lambda n: n * spacing)
    return case, draw(shift), draw(shift)


@st.composite
def permutations(draw, domain):
    """Any logits and a new order of their classes."""
    (case,) = draw(pairs(domain))
    return case, np.array(draw(st.permutations(range(case.classes))))


@st.composite
def scalings(draw, domain):
    """Any logits and a factor that rounds nothing."""
    (case,) = draw(pairs(domain))
    return case, 2.0 ** draw(st.integers(-4, 4))


@st.composite
def masks(draw, domain):
    """Any logits, and where their classes lie among a number of others."""
    layouts = tuple(layout for layout in domain.layouts if layout in _MASKED_CLASSES)
    (case,) = draw(pairs(dataclasses.replace(domain, layouts=layouts)))
    size = _MASKED_CLASSES[case.dtype.name, case.student.shape]
    kept = draw(st.permutations(range(size)))[: case.classes]
    return case, size, np.array(sorted(kept))

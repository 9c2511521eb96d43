"""Losses between stages and levels."""

import numpy as np
from reference import flow as reference

from jaxkd import losses
from zoo._case import Case


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.2, 1.0, shape) for shape in shapes)


PAIRS = draw((3, 4, 4, 3), (3, 2, 2, 5), (3, 5, 3, 3), (3, 2, 2, 5))
WIDE = draw((3, 2, 2, 7), (3, 2, 1, 6), (3, 3, 2, 7), (3, 2, 2, 6), seed=1)
TALL = draw(*[(2, 3, 3, 5)] * 4, seed=2)
MAPS = draw((3, 3, 2, 4), (3, 3, 2, 4), seed=3)
MARGIN = np.array([-0.3, -1.0, -0.6, 0.0])


def zeros(arrays):
    return tuple(np.zeros_like(x) for x in arrays)


def constant(arrays):
    return tuple(np.ones_like(x) for x in arrays)


def first_example(arrays):
    return tuple(x[:1] for x in arrays)


def examples(*batches):
    """Several batches as one."""
    return tuple(np.concatenate(maps) for maps in zip(*batches, strict=True))


# Orthonormal columns: all singular values are equal.
EQUAL = tuple(np.stack([np.eye(9, 5).reshape(3, 3, 5)] * 2) for _ in TALL)
DUPLICATED = tuple(np.concatenate([x[..., :2], x[..., :3]], axis=-1) for x in TALL)
HALF = (*zeros(TALL[:2]), *TALL[2:])  # of the student's nothing, the teacher's all

CASES: tuple[Case, ...] = (
    Case(
        losses.flow_of_solution,
        reference.flow_of_solution,
        PAIRS,
        student=2,
        label="sizes differ",
        degenerate={
            "zero features": zeros(PAIRS),
            "constant maps": constant(PAIRS),
            "one example": first_example(PAIRS),
        },
    ),
    Case(
        losses.flow_of_solution,
        reference.flow_of_solution,
        TALL,
        student=2,
        label="same sizes",
    ),
    Case(
        losses.singular_value,
        reference.singular_value,
        WIDE,
        student=2,
        label="more channels than positions",
        degenerate={
            "singular values of zero": examples(zeros(WIDE), constant(WIDE)),
        },
    ),
    Case(
        losses.singular_value,
        reference.singular_value,
        TALL,
        student=2,
        settings={"k": 3},
        label="three vectors",
        degenerate={
            "equal singular values": examples(EQUAL, DUPLICATED, constant(TALL)),
            "zero features": examples(zeros(TALL), HALF),
            "tiny and huge features": examples(
                tuple(1e-30 * x for x in TALL), tuple(1e30 * x for x in TALL)
            ),
            "one example": first_example(TALL),
        },
    ),
    Case(
        losses.overhaul,
        reference.overhaul,
        (*MAPS, MARGIN),
        label="a margin for each channel",
        degenerate={
            "zero features": (*zeros(MAPS), MARGIN),
            "both at the margin": (*(np.zeros_like(x) + MARGIN for x in MAPS), MARGIN),
        },
    ),
    Case(
        losses.overhaul,
        reference.overhaul,
        (*MAPS, np.float64(-0.5) * np.ones(4)),
        label="one margin",
    ),
    Case(
        losses.review,
        reference.review,
        draw((2, 6, 5, 3), (2, 6, 5, 3), seed=4),
        label="all levels",
        degenerate={"zero features": zeros(MAPS), "one example": first_example(MAPS)},
    ),
    Case(losses.review, reference.review, MAPS, label="small maps"),
    Case(
        losses.review,
        reference.review,
        draw((3, 1, 1, 4), (3, 1, 1, 4), seed=5),
        label="one position",
    ),
)

import numpy as np
from reference import stage_flow as reference

from jaxkd import losses
from zoo._case import Case
from zoo._stages import draw, first_example, zeros

PAIRS = draw((3, 4, 4, 3), (3, 2, 2, 5), (3, 5, 3, 3), (3, 2, 2, 5))


WIDE = draw((3, 2, 2, 7), (3, 2, 1, 6), (3, 3, 2, 7), (3, 2, 2, 6), seed=1)


TALL = draw(*[(2, 3, 3, 5)] * 4, seed=2)


def constant(arrays):
    return tuple(np.ones_like(x) for x in arrays)


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
        losses.singular_value,
        reference.singular_value,
        WIDE,
        student=2,
        label="more channels than positions",
        degenerate={
            "singular values of zero": examples(zeros(WIDE), constant(WIDE)),
        },
    ),
)

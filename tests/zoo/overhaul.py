import numpy as np
from reference import overhaul as reference

from jaxkd import losses
from zoo._case import Case
from zoo._stages import MAPS, zeros

MARGIN = np.array([-0.3, -1.0, -0.6, 0.0])

CASES: tuple[Case, ...] = (
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
)

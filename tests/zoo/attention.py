from reference import attention as reference

from jaxkd import losses
from zoo._case import Case
from zoo._maps import DEGENERATE, EVEN, ODD, SAME, degenerate_maps, maps

CASES: tuple[Case, ...] = (
    Case(
        losses.attention_transfer,
        reference.attention_transfer,
        SAME,
        degenerate=DEGENERATE,
    ),
    Case(
        losses.attention_transfer,
        reference.attention_transfer,
        EVEN,
        settings={"power": 4},
        label="larger student",
    ),
    Case(
        losses.attention_transfer,
        reference.attention_transfer,
        ODD,
        settings={"power": 1},
        label="odd sizes",
    ),
    Case(
        losses.factor_transfer,
        reference.factor_transfer,
        SAME,
        degenerate=DEGENERATE,
    ),
    Case(
        losses.factor_transfer,
        reference.factor_transfer,
        ODD,
        settings={"power": 3},
        label="odd sizes",
    ),
    # More positions than channels, and fewer: two ways to compute it.
    Case(
        losses.neuron_selectivity,
        reference.neuron_selectivity,
        SAME,
        degenerate=DEGENERATE,
    ),
    Case(
        losses.neuron_selectivity,
        reference.neuron_selectivity,
        EVEN,
        label="larger student",
    ),
    Case(
        losses.neuron_selectivity,
        reference.neuron_selectivity,
        maps((3, 2, 2, 5), (3, 4, 4, 7)),
        degenerate=degenerate_maps(3, 2, 2, 5),
        label="few positions",
    ),
)

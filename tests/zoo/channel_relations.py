import numpy as np
from reference import channel_relations as reference

from jaxkd import losses
from zoo._case import Case
from zoo._embeddings import draw
from zoo._maps import DEGENERATE, SAME

CONSTANT = np.ones((4, 3, 3, 5))

CASES: tuple[Case, ...] = (
    Case(
        losses.inter_channel_correlation,
        reference.inter_channel_correlation,
        draw(10, (4, 3, 3, 5), (4, 3, 3, 5)),
        degenerate={
            "constant maps": (CONSTANT, CONSTANT),
            "maps of zeros": (0.0 * CONSTANT, CONSTANT),
            "teacher of zeros": (CONSTANT, 0.0 * CONSTANT),
            "channels of zeros": (CONSTANT * np.eye(4, 5)[:, None, None], CONSTANT),
            "one channel": (np.ones((3, 2, 2, 1)), np.ones((3, 2, 2, 1))),
        },
    ),
    Case(
        losses.inter_channel_correlation,
        reference.inter_channel_correlation,
        draw(11, (2, 3, 4, 2, 3), (2, 3, 2, 3, 3)),
        label="sizes-and-two-batch-axes",
    ),
    Case(
        losses.channel_distributions,
        reference.channel_distributions,
        SAME,
        degenerate=DEGENERATE,
    ),
    Case(
        losses.channel_distributions,
        reference.channel_distributions,
        draw(12, (3, 4, 2, 3), (3, 2, 3, 3)),
        settings={"temperature": 0.5},
        label="sizes-differ",
    ),
)

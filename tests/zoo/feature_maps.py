import numpy as np
from reference import feature_maps as reference

from jaxkd import losses
from zoo._case import Case
from zoo._maps import DEGENERATE, SAME, degenerate_maps, maps

SCALES = np.array([-1.0, 0.0, 0.5, 2.0])


PREDICTIONS = maps((3, 3, 2, 4), (3, 3, 2, 4))
DEGENERATE_SCALES = {
    name: (*arrays, SCALES) for name, arrays in degenerate_maps(3, 3, 2, 4).items()
} | {"a vanishing variance": (PREDICTIONS[0], PREDICTIONS[1], np.full(4, -200.0))}

CASES: tuple[Case, ...] = (
    Case(losses.hint, reference.hint, SAME, degenerate=DEGENERATE),
    Case(losses.hint, reference.hint, maps((5, 7), (5, 7)), label="embeddings"),
    Case(
        losses.variational_information,
        reference.variational_information,
        (*PREDICTIONS, SCALES),
        trained=(2,),
        degenerate=DEGENERATE_SCALES,
    ),
    Case(
        losses.activation_boundary,
        reference.activation_boundary,
        SAME,
        degenerate=DEGENERATE,
        teacher_gradient=False,
    ),
    Case(
        losses.activation_boundary,
        reference.activation_boundary,
        maps((3, 4, 2, 3), (3, 4, 2, 3), seed=3),
        settings={"margin": 0.4},
        teacher_gradient=False,
        label="narrow margin",
    ),
)

import numpy as np
from reference import features as reference

from jaxkd import losses
from zoo._case import Case


def maps(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.3, 1.0, shape) for shape in shapes)


_SAME = maps((4, 3, 3, 5), (4, 3, 3, 5))
_EVEN = maps((4, 6, 4, 3), (4, 3, 2, 5), seed=1)
_ODD = maps((3, 3, 5, 2), (3, 7, 4, 6), seed=2)
_ZEROS = np.zeros((3, 2, 2, 4))
_ONES = np.ones((3, 2, 2, 4))
_RAMP = np.arange(48.0).reshape(3, 2, 2, 4) - 20.0
_ONE_CHANNEL_ZERO = _RAMP * np.array([1.0, 0.0, 1.0, 1.0])

_DEGENERATE = {
    "a student of zeros": (_ZEROS, _RAMP),
    "a teacher of zeros": (_RAMP, _ZEROS),
    "all zeros": (_ZEROS, _ZEROS),
    "constant maps": (_ONES, -_ONES),
    "student and teacher equal": (_RAMP, _RAMP),
    "a channel of zeros": (_ONE_CHANNEL_ZERO, _ONE_CHANNEL_ZERO[::-1]),
    "one position": (_RAMP[:, :1, :1], _RAMP[::-1, :1, :1]),
    "one example": (_RAMP[:1], _RAMP[1:2]),
    "tiny features": (1e-18 * _RAMP, 1e-30 * _RAMP),
}
_SCALES = np.array([-1.0, 0.0, 0.5, 2.0])
_DEGENERATE_SCALES = {
    name: (*arrays, _SCALES) for name, arrays in _DEGENERATE.items()
} | {"a vanishing variance": (_RAMP, _RAMP[::-1], np.full(4, -200.0))}

CASES: tuple[Case, ...] = (
    Case(losses.hint, reference.hint, _SAME, degenerate=_DEGENERATE),
    Case(losses.hint, reference.hint, maps((5, 7), (5, 7)), label="embeddings"),
    Case(
        losses.attention_transfer,
        reference.attention_transfer,
        _SAME,
        degenerate=_DEGENERATE,
    ),
    Case(
        losses.attention_transfer,
        reference.attention_transfer,
        _EVEN,
        settings={"power": 4},
        label="larger student",
    ),
    Case(
        losses.attention_transfer,
        reference.attention_transfer,
        _ODD,
        settings={"power": 1},
        label="odd sizes",
    ),
    Case(
        losses.factor_transfer,
        reference.factor_transfer,
        _SAME,
        degenerate=_DEGENERATE,
    ),
    Case(
        losses.factor_transfer,
        reference.factor_transfer,
        _ODD,
        settings={"power": 3},
        label="odd sizes",
    ),
    # More positions than channels, and fewer: two ways to compute it.
    Case(
        losses.neuron_selectivity,
        reference.neuron_selectivity,
        _SAME,
        degenerate=_DEGENERATE,
    ),
    Case(
        losses.neuron_selectivity,
        reference.neuron_selectivity,
        _EVEN,
        label="larger student",
    ),
    Case(
        losses.neuron_selectivity,
        reference.neuron_selectivity,
        maps((3, 2, 2, 5), (3, 4, 4, 7)),
        degenerate=_DEGENERATE,
        label="few positions",
    ),
    Case(
        losses.variational_information,
        reference.variational_information,
        (*maps((3, 3, 2, 4), (3, 3, 2, 4)), _SCALES),
        trained=(2,),
        degenerate=_DEGENERATE_SCALES,
    ),
    Case(
        losses.activation_boundary,
        reference.activation_boundary,
        _SAME,
        degenerate=_DEGENERATE,
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

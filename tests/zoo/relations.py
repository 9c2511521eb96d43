"""Losses that compare relations among the examples of a batch, or among channels."""

import numpy as np
from reference import relations as definitions

from jaxkd import losses
from zoo._case import Case


def _draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0.2, 1.0, shape) for shape in shapes)


_SAME_WIDTH = _draw(0, (6, 5), (6, 5))
_WIDTHS = _draw(1, (7, 4), (7, 3))
_MAPS = _draw(2, (5, 4, 4, 3), (5, 2, 2, 6))
_ONE, _ONE_MORE = _draw(3, (1, 4), (1, 3))
_ROW = _draw(4, (1, 4))[0]

_EMBEDDINGS = {
    "zeros": (np.zeros((5, 4)), _WIDTHS[1][:5]),
    "a row of zeros": (np.concatenate([np.zeros((1, 4)), _WIDTHS[0]]), np.eye(8)),
    "identical rows": (np.tile(_ROW, (5, 1)), np.tile(_ROW, (5, 1))),
    "two identical rows": (np.concatenate([_WIDTHS[0], _WIDTHS[0][:1]]), np.eye(8)),
    "opposite rows": (np.concatenate([_ROW, -_ROW]), np.ones((2, 3))),
    "rows almost alike": (
        1.0 + 1e-6 * np.arange(20).reshape(5, 4),
        np.arange(5.0)[:, None],
    ),
    "one example": (_ONE, _ONE_MORE),
}


CASES: tuple[Case, ...] = (
    Case(
        losses.similarity_preserving,
        definitions.similarity_preserving,
        _MAPS,
        degenerate={
            "one example": (_ONE, _ONE_MORE),
            "a row of zeros": _EMBEDDINGS["a row of zeros"],
            "constant maps": (np.ones((4, 2, 2, 3)), np.ones((4, 3, 3, 2))),
            "maps of zeros": (np.zeros((4, 2, 2, 3)), np.zeros((4, 3, 3, 2))),
        },
        label="maps",
    ),
    Case(
        losses.similarity_preserving,
        definitions.similarity_preserving,
        _WIDTHS,
        label="embeddings",
    ),
    Case(
        losses.relational_distance,
        definitions.relational_distance,
        _WIDTHS,
        degenerate=_EMBEDDINGS,
    ),
    Case(
        losses.relational_distance,
        definitions.relational_distance,
        _draw(5, (19, 2), (19, 3)),
        label="more-than-a-chunk",
    ),
    Case(
        losses.relational_angle,
        definitions.relational_angle,
        _WIDTHS,
        degenerate=_EMBEDDINGS,
    ),
    Case(
        losses.relational_angle,
        definitions.relational_angle,
        _draw(6, (18, 2), (18, 3)),
        label="more-than-a-chunk",
    ),
    Case(
        losses.probabilistic_transfer,
        definitions.probabilistic_transfer,
        _WIDTHS,
        degenerate=_EMBEDDINGS,
    ),
    Case(
        losses.probabilistic_transfer,
        definitions.probabilistic_transfer,
        _SAME_WIDTH,
        label="equal-widths",
    ),
    Case(
        losses.correlation_congruence,
        definitions.correlation_congruence,
        _SAME_WIDTH,
        degenerate={
            "equal embeddings": (_SAME_WIDTH[0], _SAME_WIDTH[0]),
            "zeros": (np.zeros((3, 2)), np.zeros((3, 2))),
        },
    ),
    Case(
        losses.correlation_congruence,
        definitions.correlation_congruence,
        _draw(7, (2, 3), (2, 3)),
        label="two-examples",
    ),
    Case(
        losses.correlation_congruence_kernel,
        definitions.correlation_congruence_kernel,
        _WIDTHS,
        degenerate=_EMBEDDINGS,
    ),
    Case(
        losses.correlation_congruence_kernel,
        definitions.correlation_congruence_kernel,
        _WIDTHS,
        settings={"gamma": 1.3, "order": 5},
        label="order-5",
    ),
    Case(
        losses.self_supervised_similarity,
        definitions.self_supervised_similarity,
        _draw(8, (6, 4), (3, 4), (6, 5), (3, 5)),
        student=2,
        settings={"temperature": 0.2},
        degenerate={
            "zeros": tuple(np.zeros((n, 2)) for n in (4, 3, 4, 3)),
            "identical rows": tuple(np.ones((n, 2)) for n in (4, 3, 4, 3)),
            "one original": (np.ones((4, 2)), _ROW[:, :2], np.eye(4), _ROW),
        },
    ),
    Case(
        losses.inter_channel_correlation,
        definitions.inter_channel_correlation,
        _draw(10, (4, 3, 3, 5), (4, 3, 3, 5)),
        degenerate={
            "constant maps": (np.ones((3, 2, 2, 4)), np.ones((3, 2, 2, 4))),
            "maps of zeros": (np.zeros((3, 2, 2, 4)), np.ones((3, 2, 2, 4))),
            "teacher of zeros": (np.ones((3, 2, 2, 4)), np.zeros((3, 2, 2, 4))),
            "a channel of zeros": (
                np.eye(4)[:3, None, None, :],
                np.ones((3, 2, 2, 4)),
            ),
            "one channel": (np.ones((3, 2, 2, 1)), np.ones((3, 2, 2, 1))),
        },
    ),
    Case(
        losses.inter_channel_correlation,
        definitions.inter_channel_correlation,
        _draw(11, (2, 3, 4, 2, 3), (2, 3, 2, 3, 3)),
        label="sizes-and-two-batch-axes",
    ),
)

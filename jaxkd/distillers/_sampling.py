"""Helpers of the methods with a memory bank."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from jaxkd import _checks, memory
from jaxkd._errors import InvalidInputError, InvalidTypeError, unknown_name
from jaxkd.data._labels import UNLABELED
from jaxkd.distillers._base import Spec
from jaxkd.distillers._unlabeled import classes_of_rows

_MOST_NEGATIVES = 16384  # as published; the default where there are so many
_SAMPLERS = {
    "all": memory.all_negatives,
    "sampled": memory.sampled_negatives,
    "shared": memory.shared_negatives,
}


def check_bank_settings(
    *,
    dim: Any,
    temperature: Any,
    bank_momentum: Any,
    bank_dtype: Any,
    chunk_size: Any,
) -> None:
    """Raise unless the settings of a method with a memory bank are in range."""
    _checks.check_width(dim=dim)
    _checks.check_finite_temperature(temperature=temperature)
    _checks.check_in_range(0.0, 1.0, bank_momentum=bank_momentum)
    if chunk_size is not None:
        _checks.check_at_least(1, chunk_size=chunk_size)
    if not _is_floating(bank_dtype):
        raise InvalidTypeError(
            f"bank_dtype must be floating point, such as bfloat16, got {bank_dtype!r}",
            argument="bank_dtype",
        )


def _is_floating(dtype: Any) -> bool:
    try:
        return dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    except (TypeError, ValueError):  # no dtype has this name
        return False


def choose_sampler(
    negatives: str | Callable[..., memory.Negatives], num_negatives: Any
) -> Callable[..., memory.Negatives]:
    """Return the sampler of this name, or the given sampler."""
    if num_negatives is not None:
        _checks.check_at_least(1, num_negatives=num_negatives)
    if callable(negatives):
        return negatives
    if not isinstance(negatives, str) or negatives not in _SAMPLERS:
        raise unknown_name("negatives", negatives, _SAMPLERS)
    sampler = _SAMPLERS[negatives]
    if negatives == "shared":
        # The number of rows to read must be known before there are labels.
        return functools.partial(sampler, num_rows=num_negatives or _MOST_NEGATIVES)
    if negatives == "sampled":
        most = num_negatives or _MOST_NEGATIVES
        return functools.partial(sampler, max_negatives=most)
    return sampler


def contrast_classes(spec: Spec, method: str) -> Integer[np.ndarray, " rows"]:
    """Return the class of each row, its own one for a row without a label.

    Raises:
        InvalidTypeError: If the labels are not integers.
        InvalidInputError: If they are not the student's classes, or only one class.
    """
    labels, num_classes = np.asarray(spec.labels), spec.student.logits.shape[-1]
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidTypeError(
            f"spec.labels must be integers (class numbers), got dtype {labels.dtype}; "
            "convert them with labels.astype(int)",
            argument="spec",
        )
    if labels.min() < UNLABELED or labels.max() >= num_classes:
        raise InvalidInputError(
            f"the student has {num_classes} classes, but the training labels range "
            f"from {labels.min()} to {labels.max()}; give it a class for each label",
            argument="spec",
        )
    classes = classes_of_rows(labels, num_classes)
    if classes.min() == classes.max():
        raise InvalidInputError(
            f"{method} contrasts examples of different classes, but all "
            f"{len(labels)} training labels are {labels[0]}",
            argument="spec",
        )
    return classes


def count_negatives(labels: Integer[np.ndarray, " rows"], requested: int | None) -> int:
    """Return the number of negatives per example that is available to every class."""
    classes, sizes = np.unique(labels, return_counts=True)
    largest = sizes.argmax()
    fewest = int(len(labels) - sizes[largest])
    if requested is None:
        return min(_MOST_NEGATIVES, fewest)
    if requested > fewest:
        raise InvalidInputError(
            f"num_negatives is {requested}, but class {classes[largest]} holds "
            f"{sizes[largest]} of the {len(labels)} training examples, which leaves "
            f"{fewest} of other classes; ask for at most {fewest}",
            argument="num_negatives",
        )
    return requested

"""Negatives: the rows of the bank that each example is contrasted with.

Three samplers and an explicit list return :class:`Negatives`, which
:func:`jaxkd.memory.negative_log_sum_exp` evaluates chunk by chunk. With :math:`N_-` the
number of rows of other classes, all three samplers have the same mean,

.. math::
    E \\sum_{j \\in S_i} w_{ij} f(j) = \\frac{K}{N_-} \\sum_{j: y_j \\ne y_i} f(j).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Integer, PRNGKeyArray

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.memory import _circle, _lists, _random
from jaxkd.memory._labels import checked_labels, class_numbers, class_sizes


class Window(NamedTuple):
    """Interval of a circular order of the candidates, one for each example.

    Attributes:
        position: Position of each candidate in the order.
        first: First position of each example's interval.
        last: Last position of the interval, inclusive; less than ``first`` if the
            interval wraps around.
    """

    position: Int[Array, " candidates"]
    first: Int[Array, " batch"]
    last: Int[Array, " batch"]


class Negatives(NamedTuple):
    """Negatives of each example in a batch, and their weights.

    A candidate is a negative of an example if it has another class and, if there is a
    window, its position lies in the example's interval.

    Attributes:
        labels: Classes of the examples.
        candidate_labels: Classes of the candidates.
        log_weight: Logarithm of the weight of each of an example's negatives.
        rows: Bank rows of the candidates; None if the candidates are all rows of the
            bank in order.
        window: Restricts each example to a part of the candidates.
        lists: Rows of a list for each example, if the candidates are these lists one
            after another; a pass then reads for each example its own list only.
    """

    labels: Int[Array, " batch"]
    candidate_labels: Int[Array, " candidates"]
    log_weight: Float[Array, " batch"]
    rows: Int[Array, " candidates"] | None = None
    window: Window | None = None
    lists: Int[Array, "batch k"] | None = None

    def part(self, start: Int[ArrayLike, ""], size: int) -> "Negatives":
        """Restrict the negatives to ``size`` candidates, beginning with ``start``."""
        return self._of_candidates(
            lambda x: jax.lax.dynamic_slice_in_dim(x, start, size)
        )

    def reordered(self, order: Int[Array, " some"]) -> "Negatives":
        """Restrict the negatives to the candidates with these numbers."""
        return self._of_candidates(lambda x: x[order])

    def _of_candidates(self, take: Callable[[Array], Array]) -> "Negatives":
        return self._replace(
            candidate_labels=take(self.candidate_labels),
            rows=None if self.rows is None else take(self.rows),
            window=self.window
            and self.window._replace(position=take(self.window.position)),
            lists=None,
        )

    def tile(self, times: int) -> "Negatives":
        """Repeat the negatives of the batch, for several anchors per example."""

        def repeat(x):
            return jnp.tile(x, times)

        return self._replace(
            labels=repeat(self.labels),
            log_weight=repeat(self.log_weight),
            window=self.window
            and self.window._replace(
                first=repeat(self.window.first), last=repeat(self.window.last)
            ),
            lists=None,
        )

    def mask(self) -> Bool[Array, "candidates batch"]:
        """Return whether each candidate is a negative of each example."""
        other = self.candidate_labels[:, None] != self.labels[None, :]
        if self.window is None:
            return other
        position, first, last = (x[:, None] for x in self.window)
        # Every position satisfies at least one of these conditions if the interval does
        # not wrap around, and at most one if it does.
        after, before = position >= first.T, position <= last.T
        return other & ((after == before) != (first > last).T)


class Sampler(Protocol):
    """Function that chooses negatives.

    ``labels`` are the classes of the batch, and ``row_labels`` are the classes of all
    rows of the bank.
    """

    def __call__(
        self,
        key: PRNGKeyArray,
        labels: Integer[ArrayLike, " batch"],
        row_labels: Integer[ArrayLike, " rows"],
        *,
        num_negatives: Int[ArrayLike, ""],
        num_classes: int,
    ) -> Negatives:
        """Choose about ``num_negatives`` rows of other classes for each example."""
        ...


def _log_ratio(numerator: ArrayLike, denominator: ArrayLike) -> Float[Array, "..."]:
    """Compute the logarithm of a ratio of counts; a zero denominator counts as one."""
    numerator, denominator = (
        jnp.asarray(x).astype(float) for x in (numerator, denominator)
    )
    return jnp.log(numerator) - jnp.log(jnp.maximum(denominator, 1))


def all_negatives(
    key: PRNGKeyArray,
    labels: Integer[ArrayLike, " batch"],
    row_labels: Integer[ArrayLike, " rows"],
    *,
    num_negatives: Int[ArrayLike, ""],
    num_classes: int,
) -> Negatives:
    r"""Return all rows of other classes, each with weight :math:`K/N_-`.

    Sums over these negatives are the expectations of sums over sampled negatives,
    without sampling variance.

    Args:
        key: Not used.
        labels: Classes of the batch.
        row_labels: Classes of all rows of the bank.
        num_negatives: Total weight :math:`K` of the negatives of an example.
        num_classes: Number of classes; the labels are smaller.

    Returns:
        The negatives.

    Raises:
        TypeError: If labels are not integers.
        ValueError: If a concrete label is not one of the classes, or the number of
            negatives is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> labels = jnp.array([0, 1, 1, 2])
        >>> negatives = memory.all_negatives(
        ...     jax.random.key(0), labels[:1], labels, num_negatives=3, num_classes=3
        ... )
        >>> negatives.mask()[:, 0].tolist()
        [False, True, True, True]
    """
    del key
    labels, row_labels = class_numbers(
        num_classes, labels=labels, row_labels=row_labels
    )
    _checks.check_positive(num_negatives=num_negatives)
    others = row_labels.shape[0] - class_sizes(row_labels, num_classes)[labels]
    return Negatives(labels, row_labels, _log_ratio(num_negatives, others))


def shared_negatives(
    key: PRNGKeyArray,
    labels: Integer[ArrayLike, " batch"],
    row_labels: Integer[ArrayLike, " rows"],
    *,
    num_negatives: Int[ArrayLike, ""],
    num_classes: int,
    num_rows: int | None = None,
) -> Negatives:
    r"""Draw rows once for the whole batch; each example skips the rows of its class.

    Of :math:`R` rows drawn without replacement from :math:`N`, an example keeps about
    :math:`R N_-/N`, each with weight :math:`KN/(RN_-)`. This is the cheapest sampler,
    since only the drawn rows are read.

    Args:
        key: PRNG key.
        labels: Classes of the batch.
        row_labels: Classes of all rows of the bank.
        num_negatives: Expected total weight :math:`K` of the negatives of an example.
        num_classes: Number of classes; the labels are smaller.
        num_rows: Number of rows :math:`R` to draw; all rows if it exceeds :math:`N`. By
            default :math:`K`, which must then be a Python integer.

    Returns:
        The negatives.

    Raises:
        TypeError: If labels are not integers, or the number of rows is not a Python
            integer.
        ValueError: If a concrete label is not one of the classes, or the number of
            negatives or rows is less than 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> labels = jnp.arange(10)
        >>> negatives = memory.shared_negatives(
        ...     jax.random.key(0), labels[:2], labels, num_negatives=4, num_classes=10
        ... )
        >>> negatives.mask().shape
        (4, 2)
    """
    labels, row_labels = class_numbers(
        num_classes, labels=labels, row_labels=row_labels
    )
    if num_rows is None:
        if not isinstance(num_negatives, int):
            raise InvalidTypeError(
                "num_rows must be given if num_negatives is not a Python integer, "
                f"got {num_negatives!r}",
                argument="num_rows",
            )
        num_rows = num_negatives
    _checks.check_at_least(1, num_rows=num_rows)
    _checks.check_positive(num_negatives=num_negatives)
    total = row_labels.shape[0]
    num_rows = min(num_rows, total)
    rows = _random.distinct_rows(key, num_rows, total)
    others = row_labels.shape[0] - class_sizes(row_labels, num_classes)[labels]
    return Negatives(
        labels,
        row_labels[rows],
        _log_ratio(num_negatives, others) + _log_ratio(total, num_rows),
        rows=rows,
    )


def sampled_negatives(
    key: PRNGKeyArray,
    labels: Integer[ArrayLike, " batch"],
    row_labels: Integer[ArrayLike, " rows"],
    *,
    num_negatives: Int[ArrayLike, ""],
    num_classes: int,
    max_negatives: int | None = None,
) -> Negatives:
    r"""Draw exactly ``K`` rows of other classes for each example, without replacement.

    All rows are arranged in one random circular order. Each example draws its own
    starting row among those of other classes and takes this row and the next
    :math:`K - 1` rows of other classes. Its negatives are then uniform among all
    :math:`K`-subsets of its :math:`N_-` rows of other classes. For any fixed order,
    each of these rows is a negative with probability :math:`K/N_-`, so weighted sums
    over the negatives of different examples are uncorrelated, as with independent
    draws.

    On a CPU, if there are at least 20 times as many rows as negatives, each example
    draws its rows independently instead, and a pass reads only these. Its negatives
    have the same distribution, but the cost does not grow with the number of rows.

    Args:
        key: PRNG key.
        labels: Classes of the batch.
        row_labels: Classes of all rows of the bank.
        num_negatives: Number of negatives :math:`K` to draw. An example with fewer
            rows of other classes takes all of them, with weight :math:`K/N_-`.
        num_classes: Number of classes; the labels are smaller.
        max_negatives: Largest number of negatives that an example may have, which must
            be known before compilation to draw independently. By default :math:`K`, if
            it is a Python integer.

    Returns:
        The negatives.

    Raises:
        TypeError: If labels are not integers.
        ValueError: If a concrete label is not one of the classes, or the number of
            negatives is not positive, or their largest number is less than 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> labels = jnp.array([0, 0, 1, 1, 2])
        >>> negatives = memory.sampled_negatives(
        ...     jax.random.key(0), labels, labels, num_negatives=2, num_classes=3
        ... )
        >>> negatives.mask().sum(axis=0).tolist()
        [2, 2, 2, 2, 2]
    """
    labels, row_labels = class_numbers(
        num_classes, labels=labels, row_labels=row_labels
    )
    _checks.check_positive(num_negatives=num_negatives)
    if max_negatives is None and isinstance(num_negatives, int):
        max_negatives = num_negatives
    if max_negatives is not None:
        _checks.check_at_least(1, max_negatives=max_negatives)
        if _lists.are_faster(max_negatives, len(row_labels)):
            drawn = _lists.draw(key, labels, row_labels, max_negatives, num_classes)
            taken = jnp.minimum(jnp.asarray(num_negatives, jnp.int32), drawn.length)
            chosen = listed_negatives(labels, drawn.rows)
            first = chosen.window.first if chosen.window else 0
            return chosen._replace(
                log_weight=_log_ratio(num_negatives, taken),
                window=chosen.window and chosen.window._replace(last=first + taken - 1),
            )
    circle = _circle.draw(key, labels, row_labels, num_classes)
    taken = jnp.minimum(jnp.asarray(num_negatives, jnp.int32), circle.others)
    return Negatives(
        labels,
        row_labels,
        _log_ratio(num_negatives, taken),
        window=Window(circle.position, circle.place(0), circle.place(taken - 1)),
    )


def listed_negatives(
    labels: Integer[ArrayLike, " batch"], rows: Integer[ArrayLike, "batch k"]
) -> Negatives:
    """Return the bank rows of an explicit list, of any class; repetitions count.

    Args:
        labels: Classes of the batch.
        rows: Bank rows of each example's negatives.

    Returns:
        The negatives. A pass over them reads each example's own ``k`` rows; over a
        table that is distributed over several devices, all ``batch * k`` rows.

    Raises:
        TypeError: If labels or rows are not integers.
        ValueError: If the shapes do not fit, or a concrete row number is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import memory
        >>> negatives = memory.listed_negatives(
        ...     jnp.array([0, 1]), jnp.array([[5, 3], [2, 2]])
        ... )
        >>> negatives.mask().sum(axis=0).tolist()  # negatives of each example
        [2, 2]
    """
    labels = checked_labels("labels", labels).astype(jnp.int32)
    rows = _checks.as_row_numbers(rows).astype(jnp.int32)
    _checks.check_not_negative(rows=rows)
    if rows.ndim != 2 or len(rows) != len(labels):
        raise InvalidInputError(
            "rows must be [batch, k], with one list per label, got shapes "
            f"{rows.shape} and {labels.shape}",
            argument="rows",
        )
    batch, k = rows.shape
    ends = k * jnp.arange(1, batch + 1, dtype=jnp.int32)
    return Negatives(
        jnp.zeros_like(labels),
        jnp.ones((batch * k,), labels.dtype),
        jnp.zeros((batch,)),
        rows=rows.reshape(-1),
        window=Window(jnp.arange(batch * k, dtype=jnp.int32), ends - k, ends - 1),
        lists=rows,
    )

"""Losses of merged classes, their gradients and the bounds of T15, case by case."""

from collections.abc import Iterator
from typing import NamedTuple

import chex
import jax
import numpy as np

from jaxkd import losses
from proofs_checks._cases import LogitCases, logit_blocks, oscillation
from proofs_checks._evidence import Settings, distance

_SIZES = (10, 100)
KEPT = 3
"""Number of the teacher's logits that are known, k."""


class Rows(NamedTuple):
    """Results of a block, one row for each case.

    Attributes:
        full, sparse: The losses of all classes and of merged classes.
        full_gradient, sparse_gradient: Their gradients.
        others: The loss among the other classes.
        renormalized: The divergence of both predictions renormalized over the top k.
    """

    full: np.ndarray
    sparse: np.ndarray
    full_gradient: np.ndarray
    sparse_gradient: np.ndarray
    others: np.ndarray
    renormalized: np.ndarray


@jax.jit
def _evaluate(student, teacher, temperature, order, lift):
    """Compute the rows. ``lift`` is added to the logit of the others."""

    def row(z, v, t, order, lift):
        top, rest = order[:KEPT], order[KEPT:]
        remainder = losses.remainder_logit(v, top, temperature=t)

        def sparse(z):
            return losses.sparse_soft_target_kl(
                z, v[top], top, remainder=remainder + lift, temperature=t
            )

        def full(z):
            return losses.soft_target_kl(z, v, temperature=t)

        value, gradient = jax.value_and_grad(full)(z)
        sparse_value, sparse_gradient = jax.value_and_grad(sparse)(z)
        among = (
            losses.soft_target_kl(z[classes], v[classes], temperature=t)
            for classes in (rest, top)
        )
        return value, sparse_value, gradient, sparse_gradient, *among

    return jax.vmap(row)(student, teacher, temperature, order, lift)


class Block(NamedTuple):
    """A block of cases with its results and the numbers of the bounds, in float64.

    Attributes:
        cases: The cases.
        rows: The results.
        mass: The teacher's total probability of the others, m.
        estimate: The same with the logit of the others that was used.
        width: The range w of z - v over the others.
        scaled_width: w / T.
        epsilon: Rounding unit of the losses.
    """

    cases: LogitCases
    rows: Rows
    mass: np.ndarray
    estimate: np.ndarray
    width: np.ndarray
    scaled_width: np.ndarray
    epsilon: float

    @property
    def value_size(self) -> np.ndarray:
        """Size of which rounding errors of the losses are a small part."""
        loss, spread = self.rows.full, self._spread
        return loss + spread * np.sqrt(loss) + self.epsilon * spread**2

    @property
    def gradient_size(self) -> np.ndarray:
        """Size of which rounding errors of the gradients are a small part."""
        return np.abs(self.rows.full_gradient).max(-1) + self._spread

    @property
    def _spread(self) -> np.ndarray:
        return np.abs(np.stack(self.cases.exact[:2])).max((0, -1))

    @property
    def total(self) -> np.ndarray:
        """Sum of the absolute differences of the gradients."""
        rows = self.rows
        return distance(rows.full_gradient, rows.sparse_gradient).sum(-1)

    @property
    def value_bound(self) -> np.ndarray:
        """The bound of L_T - L_K."""
        temperature = self.cases.exact[2]
        with np.errstate(invalid="ignore"):  # infinity times zero
            linear = np.where(self.width > 0, temperature * self.width, 0.0)
        return self.mass * np.minimum(linear, np.square(self.width) / 8)

    @property
    def gradient_bound(self) -> np.ndarray:
        """The bound of the total difference of the gradients."""
        temperature = self.cases.exact[2]
        finite = np.where(np.isinf(temperature), 1.0, temperature)
        bound = 2 * finite * np.tanh(self.scaled_width / 4)
        return self.mass * np.where(np.isinf(temperature), self.width / 2, bound)


def blocks(settings: Settings, cases: int, *, lifted: bool = False) -> Iterator[Block]:
    for block in logit_blocks(settings, cases, sizes=_SIZES):
        student, teacher, temperature = block.exact
        order = np.argsort(-teacher, axis=-1)
        lift = np.zeros_like(temperature)
        if lifted:
            rng = np.random.default_rng((settings.seed, block.first))
            spread = np.abs(teacher).max(-1)
            lift = rng.uniform(-1, 1, len(lift)) * np.minimum(temperature, spread)
        found = _evaluate(*block[1:], order, lift.astype(settings.compute_dtype))
        rows = Rows(*(np.asarray(x, np.float64) for x in found))
        chex.assert_equal_shape((rows.full, rows.sparse, rows.others))
        others = np.take_along_axis(student - teacher, order[:, KEPT:], -1)
        width = oscillation(others)
        mass = _mass(teacher, order, temperature)
        odds = mass / (1 - mass) * np.exp(lift / temperature)
        estimate = np.where(mass < 1, odds / (1 + odds), 1.0)
        epsilon = float(np.finfo(settings.compute_dtype).eps)
        scaled = width / temperature
        yield Block(block, rows, mass, estimate, width, scaled, epsilon)


def _mass(teacher, order, temperature) -> np.ndarray:
    """Compute the teacher's probability outside of the top k."""
    ordered = np.take_along_axis(teacher, order, -1)
    powers = np.exp((ordered - ordered[:, :1]) / temperature[:, None])
    return powers[:, KEPT:].sum(-1) / powers.sum(-1)

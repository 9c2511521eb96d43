"""The stored form of a teacher's outputs: float32, float16, or the top k logits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkd._errors import InvalidInputError
from jaxkd._math import REMAINDER_TEMPERATURES, TopLogits

# Numbers of classes that fit into 16 bits.
_MOST_CLASSES_OF_16_BITS = 1 << 16

DTYPES = ("float32", "float16")
"""Dtypes of stored outputs."""

Arrays = dict[str, np.ndarray]
"""The stored arrays of an output, by suffix: ``""``, or those of the top k logits."""


class Part(NamedTuple):
    """One file of an epoch.

    Attributes:
        file: Name of the file.
        dtype: Dtype of its array.
        shape: Shape of a row.
    """

    file: str
    dtype: np.dtype
    shape: tuple[int, ...]


class Codec(NamedTuple):
    """How one output is stored.

    Attributes:
        name: Name of the output.
        shape: Shape of a row of the output.
        dtype: ``"float32"`` or ``"float16"``.
        top_k: Number of logits that are stored, or None for all.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    top_k: int | None = None

    def parts(self) -> dict[str, Part]:
        """Return the files of an epoch by the suffix of their array."""
        dtype = np.dtype(self.dtype).newbyteorder("<")
        if self.top_k is None:
            return {"": Part(f"{self.name}.npy", dtype, self.shape)}
        row, (classes,) = (self.top_k,), self.shape
        narrow = classes <= _MOST_CLASSES_OF_16_BITS
        index = np.dtype("<u2" if narrow else "<i4")
        return {
            "values": Part(f"{self.name}.values.npy", dtype, row),
            "indices": Part(f"{self.name}.indices.npy", index, row),
            "remainders": Part(
                f"{self.name}.remainders.npy",
                np.dtype("<f4"),
                (len(REMAINDER_TEMPERATURES),),
            ),
        }

    def encode(self, output: Float[np.ndarray, "rows ..."]) -> Arrays:
        """Return the stored arrays of some rows.

        Raises:
            InvalidInputError: If a value does not fit into float16.
        """
        if self.top_k is None:
            return {"": self._narrow(output)}
        order = np.argpartition(output, -self.top_k, axis=-1)[:, -self.top_k :]
        values = np.take_along_axis(output, order, -1)
        by_size = np.argsort(-values, axis=-1, kind="stable")
        order = np.take_along_axis(order, by_size, -1)
        values = np.take_along_axis(values, by_size, -1)
        index = self.parts()["indices"].dtype
        return {
            "values": self._narrow(values),
            "indices": order.astype(index),
            "remainders": self._remainders(output, order).astype(np.float32),
        }

    def _remainders(self, output: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the others' common logit at each temperature, in float64."""
        others = output.astype(np.float64)
        count = others.shape[-1] - order.shape[-1]
        np.put_along_axis(others, order, 0.0, axis=-1)
        mean = others.sum(-1) / count
        np.put_along_axis(others, order, -np.inf, axis=-1)
        columns = [
            mean
            if np.isinf(t)
            else t * (_log_sum_exp(others / t)[:, 0] - np.log(count))
            for t in REMAINDER_TEMPERATURES
        ]
        return np.stack(columns, axis=-1)

    def decode(self, arrays: Mapping[str, Any]) -> Float[Array, "rows ..."]:
        """Return the output in float32; works inside jit."""
        if self.top_k is None:
            return jnp.asarray(arrays[""]).astype(jnp.float32)
        values, indices, remainders = self.decode_top(arrays)
        # The others share the mass that they have at the first temperature, 1.
        dense = jnp.broadcast_to(remainders[:, :1], (len(remainders), *self.shape))
        return jnp.put_along_axis(dense, indices, values, axis=-1, inplace=False)

    def decode_top(self, arrays: Mapping[str, Any]) -> TopLogits:
        """Return the top k logits; works inside jit."""
        return TopLogits(
            jnp.asarray(arrays["values"]).astype(jnp.float32),
            jnp.asarray(arrays["indices"]).astype(jnp.int32),
            jnp.asarray(arrays["remainders"]).astype(jnp.float32),
        )

    def decoded(self, arrays: Arrays) -> np.ndarray:
        """Return the output in float32, computed by NumPy."""
        if self.top_k is None:
            return arrays[""].astype(np.float32)
        dense = np.repeat(arrays["remainders"][:, :1], self.shape[0], axis=1)
        indices, values = arrays["indices"], arrays["values"]
        np.put_along_axis(dense, indices.astype(int), values.astype(np.float32), -1)
        return dense

    def _narrow(self, output: np.ndarray) -> np.ndarray:
        if self.dtype == "float32":
            return output.astype("<f4")
        with np.errstate(over="ignore"):
            narrow = output.astype("<f2")
        lost = np.isinf(narrow) & np.isfinite(output)
        if lost.any():
            raise InvalidInputError(
                f"{self.name} has the value {output[lost][0]:g}, but float16 ends at "
                "65504. Record in float32.",
                argument="dtype",
            )
        return narrow


def deviations(
    codec: Codec, output: Float[np.ndarray, "rows ..."], arrays: Arrays
) -> dict[str, float]:
    """Measure how far the stored form of an output is from the output.

    Returns:
        The largest difference of a value, ``values``. For the top k logits also those
        of a probability at temperatures 1 and 4, ``probabilities`` and
        ``probabilities_at_4``, and the largest total probability of the other classes,
        ``others`` and ``others_at_4``. Empty for float32 and all logits, which lose
        nothing.
    """
    if codec.top_k is None and codec.dtype == "float32":
        return {}
    decoded = codec.decoded(arrays)
    if not len(output):
        return {}
    different = decoded != output  # not where both are -inf
    measured = {"values": _largest(np.abs(decoded[different] - output[different]))}
    if codec.top_k is not None:
        for suffix, temperature in (("", 1.0), ("_at_4", 4.0)):
            found, exact = (_softmax(x, temperature) for x in (decoded, output))
            measured[f"probabilities{suffix}"] = _largest(np.abs(found - exact))
            np.put_along_axis(exact, arrays["indices"].astype(int), 0.0, axis=-1)
            measured[f"others{suffix}"] = _largest(exact.sum(-1))
    return measured


def _largest(differences: np.ndarray) -> float:
    return float(differences.max(initial=0.0))


def _softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    scaled = logits.astype(np.float64) / temperature
    return np.exp(scaled - _log_sum_exp(scaled))


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """Reduce the last axis, which is kept; rows of -inf give -inf."""
    highest = logits.max(-1, keepdims=True)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logits - shift).sum(-1, keepdims=True)) + shift

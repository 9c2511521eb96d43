"""The stored form of a teacher's outputs: float32, float16, or the top k logits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkd._errors import InvalidInputError

# Numbers of classes that fit into 16 bits.
_MOST_CLASSES_OF_16_BITS = 1 << 16
_TEMPERATURES = (1.0, 4.0)

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
            "rest": Part(f"{self.name}.rest.npy", np.dtype("<f4"), ()),
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
        others = output.astype(np.float64)
        np.put_along_axis(others, order, -np.inf, axis=-1)
        count = self.shape[0] - self.top_k
        rest = _log_sum_exp(others)[:, 0] - np.log(count)
        index = self.parts()["indices"].dtype
        return {
            "values": self._narrow(values),
            "indices": order.astype(index),
            "rest": rest.astype(np.float32),
        }

    def decode(self, arrays: Mapping[str, Any]) -> Float[Array, "rows ..."]:
        """Return the output in float32; works inside jit."""
        if self.top_k is None:
            return jnp.asarray(arrays[""]).astype(jnp.float32)
        values = jnp.asarray(arrays["values"]).astype(jnp.float32)
        indices = jnp.asarray(arrays["indices"]).astype(jnp.int32)
        rest = jnp.asarray(arrays["rest"]).astype(jnp.float32)
        dense = jnp.broadcast_to(rest[:, None], (len(rest), *self.shape))
        rows = jnp.arange(len(rest), dtype=jnp.int32)[:, None]
        return dense.at[rows, indices].set(values)

    def decoded(self, arrays: Arrays) -> np.ndarray:
        """Return the output in float32, computed by NumPy."""
        if self.top_k is None:
            return arrays[""].astype(np.float32)
        dense = np.repeat(arrays["rest"][:, None], self.shape[0], axis=1)
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
        The largest difference of a value, ``values``; and for the top k logits, those
        of a probability at temperatures 1 and 4, ``probabilities`` and
        ``probabilities_at_4``. Empty for float32 and all logits, which lose nothing.
    """
    if codec.top_k is None and codec.dtype == "float32":
        return {}
    decoded = codec.decoded(arrays)
    if not len(output):
        return {}
    different = decoded != output  # not where both are -inf
    measured = {"values": _largest(np.abs(decoded[different] - output[different]))}
    if codec.top_k is not None:
        for name, temperature in zip(
            ("probabilities", "probabilities_at_4"), _TEMPERATURES, strict=True
        ):
            both = (_softmax(x, temperature) for x in (decoded, output))
            difference = np.abs(np.subtract(*both))
            measured[name] = _largest(difference)
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

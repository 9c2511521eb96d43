"""An ONNX graph under construction."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxkd._errors import InvalidInputError

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13 (2022), so that older runtimes read the file
INPUT, OUTPUT, BATCH = "images", "logits", "batch"


class Tensor(NamedTuple):
    """A value that is computed from the images.

    Attributes:
        name: Name in the graph.
        order: The axes of the JAX array in the order in which the graph stores them.
            Convolutions of ONNX have the channels first, those of JAX last; the order
            avoids a transposition before and after each.
    """

    name: str
    order: tuple[int, ...]


Value = Tensor | np.ndarray
"""A value of the graph, or a constant."""


class Graph:
    """Nodes and constants of an ONNX graph, and the names of their values."""

    def __init__(self):
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._counts: Counter[str] = Counter()
        self._batch: str | None = None
        self._transposed: dict[tuple[str, tuple[int, ...]], str] = {}

    def add(self, operation: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output, and return the name of the output."""
        return self.add_many(operation, inputs, 1, **attributes)[0]

    def add_many(
        self, operation: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """Append a node, and return the names of its outputs."""
        from onnx import helper

        name = self._new_name(operation)
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(operation, list(inputs), names, name=name, **attributes)
        )
        return names

    def constant(self, array: Any) -> str:
        """Add a constant, and return its name."""
        name = self._new_name("constant")
        self.constants[name] = np.asarray(array)
        return name

    def integers(self, values: Any) -> str:
        """Add an array of int64, the type of shapes and axes in ONNX."""
        return self.constant(np.asarray(values, np.int64))

    def stored(self, value: Value, order: Sequence[int]) -> str:
        """Return the name of a value that is stored in this order of its axes."""
        order = tuple(order)
        if not isinstance(value, Tensor):
            return self.constant(np.ascontiguousarray(np.transpose(value, order)))
        if value.order == order:
            return value.name
        permutation = tuple(value.order.index(axis) for axis in order)
        known = (value.name, permutation)
        if known not in self._transposed:
            self._transposed[known] = self.add(
                "Transpose", [value.name], perm=permutation
            )
        return self._transposed[known]

    def plain(self, value: Value) -> str:
        """Return the name of a value whose axes are stored in the order of JAX."""
        rank = len(value.order) if isinstance(value, Tensor) else value.ndim
        return self.stored(value, range(rank))

    def batch(self) -> str:
        """Return the name of the number of images, a vector of one int64."""
        if self._batch is None:
            self._batch = self.add("Shape", [INPUT], start=0, end=1)
        return self._batch

    def _new_name(self, kind: str) -> str:
        self._counts[kind] += 1
        return f"{kind}_{self._counts[kind]}"


def plain_tensor(name: str, rank: int) -> Tensor:
    """Return a tensor whose axes are stored in the order of JAX."""
    return Tensor(name, tuple(range(rank)))


def channels_first(rank: int) -> tuple[int, ...]:
    """Return the order in which convolutions and pooling of ONNX have their axes."""
    return (0, rank - 1, *range(1, rank - 1))


def static_shape(shape: Sequence[Any]) -> list[int | None]:
    """Return a shape with None for the axes whose size depends on the batch."""
    return [int(n) if isinstance(n, (int, np.integer)) else None for n in shape]


def unsupported(what: str) -> InvalidInputError:
    """Build the error for a network that cannot be written as ONNX."""
    return InvalidInputError(
        f"network uses {what}, which jaxkd cannot write as ONNX. Export it as "
        "StableHLO (--format stablehlo), or write the layer with other operations.",
        argument="network",
    )


def fuse_biases(graph: Graph) -> None:
    """Make the sum of a convolution, or of a product, and a vector one node.

    Runtimes do the same, but quantizers look at the file.
    """
    uses = Counter(name for node in graph.nodes for name in node.input)
    layers = {
        node.output[0]: node
        for node in graph.nodes
        if node.op_type in ("Conv", "MatMul") and node.input[1] in graph.constants
    }
    kept = []
    for node in graph.nodes:
        found = [name for name in node.input if name in layers]
        vectors = [name for name in node.input if name in graph.constants]
        is_sum = node.op_type == "Add" and len(found) == len(vectors) == 1
        if is_sum and uses[found[0]] == uses[vectors[0]] == 1:
            layer, values = layers[found[0]], graph.constants[vectors[0]]
            kernel = graph.constants[layer.input[1]]
            if _is_bias(values, kernel, layer):
                graph.constants[vectors[0]] = values.reshape(-1)
                layer.input.append(vectors[0])
                layer.output[0] = node.output[0]
                if layer.op_type == "MatMul":
                    layer.op_type = "Gemm"
                continue
        kept.append(node)
    graph.nodes = kept


def _is_bias(values: np.ndarray, kernel: np.ndarray, layer: Any) -> bool:
    """Return whether a constant that is added to a layer has a number per channel."""
    if layer.op_type == "Conv":
        expected = (1, kernel.shape[0], *[1] * (kernel.ndim - 2))
        return len(layer.input) == 2 and values.shape == expected
    return kernel.ndim == 2 and values.shape == (1, kernel.shape[1])

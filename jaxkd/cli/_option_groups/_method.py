"""The distillation method."""

import dataclasses
from typing import Annotated, Literal

from jaxkd.cli._option_groups._option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Distillation method."""

    method: Annotated[
        str,
        option(
            "Distillation method; `jaxkd methods` lists all. Add +kd to combine a "
            "method with soft targets, such as crd+kd."
        ),
    ] = "hkd+kd"
    temperature: float = 4.0
    """Temperature of the soft targets (the kd part), from 1.4e-14 to inf."""
    weights: Annotated[
        dict[str, float],
        option(
            "Weights of at least 0 that replace or extend those of the method, such as "
            "ce 1 kd 0.5.",
            default="those of the method",
        ),
    ] = dataclasses.field(default_factory=dict)
    weight_warmup: Annotated[
        dict[str, int],
        option(
            "Numbers of epochs over which the weight of a part rises from the start of "
            "training, such as dkd 20; 0 makes it constant.",
            default="those of the method: dkd 20 and review 20",
        ),
    ] = dataclasses.field(default_factory=dict)
    weight_ramp: Annotated[
        Literal["linear", "cosine", "constant"],
        option(
            "Shape of the rise of weights. constant: no weight rises, in any method."
        ),
    ] = "linear"
    settings: Annotated[
        dict[str, str],
        option(
            "Settings of the method's parts, such as crd.dim 64 rkd.angle_weight 25. "
            "`jaxkd methods` lists all.",
            default="those of the method",
        ),
    ] = dataclasses.field(default_factory=dict)
    student_layers: Annotated[
        tuple[str, ...],
        option(
            "Paths of the student's layers that the method compares in place of its "
            "stages, such as blocks.0 blocks.-1 or stages.*. `jaxkd layers` lists the "
            "paths of a network.",
            default="its stages",
        ),
    ] = ()
    teacher_layers: Annotated[
        tuple[str, ...],
        option("As many paths of the teacher's layers.", default="its stages"),
    ] = ()
    student_embedding: Annotated[
        str | None,
        option(
            "Path of the student's layer that the method compares in place of its "
            "embedding. Of a feature map, the mean over all positions is taken.",
            default="its embedding",
        ),
    ] = None
    teacher_embedding: Annotated[
        str | None,
        option("The same for the teacher.", default="its embedding"),
    ] = None


@dataclasses.dataclass(frozen=True)
class HolisticOptions:
    """Settings of the `hkd` part of a method (holistic knowledge distillation)."""

    neighbors: int = 8
    """Neighbors of a node in the batch graph, including the node itself."""
    hops: int = 1
    """Number of hops in the graph encoder, at most 64."""
    dim: int = 128
    """Dimension of the embeddings and of the memory banks."""
    temperature: float = 0.07
    """Temperature of the contrastive loss."""
    bank_momentum: float = 0.9
    """Weight of the old row when a memory bank is updated."""
    smoothing: float = 0.75
    """Weight of the bank's row in the positive example of a graph term."""
    num_negatives: Annotated[
        int | None, option(default="16384, or all there are if fewer")
    ] = None
    """Negative examples per anchor."""
    negatives: Annotated[
        Literal["sampled", "shared", "all"],
        option(
            "Choice of negative examples. sampled: drawn for each anchor. shared: "
            "drawn once per batch. all: every row of another class."
        ),
    ] = "sampled"
    negatives_from: Annotated[
        Literal["own", "cross"],
        option(
            "Bank that holds the negative examples. own: the anchor's network. cross: "
            "the other network."
        ),
    ] = "own"
    graph_from: Annotated[
        Literal["predictions", "embeddings"],
        option("Outputs whose similarity decides which examples are neighbors."),
    ] = "predictions"
    embedding_weight: float = 1.0
    """Weight of the two terms before the graph encoder."""
    graph_weight: float = 1.0
    """Weight of the two terms after the graph encoder."""
    bank_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the memory banks."""

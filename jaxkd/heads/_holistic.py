"""The four modules that holistic distillation trains with the student."""

from flax import nnx

from jaxkd.heads._embedding import Embedding
from jaxkd.heads._graph_encoder import GraphEncoder


class HolisticHeads(nnx.Module):
    """Embedding and graph encoder for each network.

    Args:
        student_features: Width of the student's embedding.
        teacher_features: Width of the teacher's embedding.
        dim: Width of the space in which the networks are compared.
        hops: Number of hops of the graph encoders.
        rngs: Randomness for the initial parameters.
    """

    def __init__(
        self,
        student_features: int,
        teacher_features: int,
        *,
        dim: int = 128,
        hops: int = 1,
        rngs: nnx.Rngs,
    ):
        self.student_embedding = Embedding(student_features, dim, rngs=rngs)
        self.teacher_embedding = Embedding(teacher_features, dim, rngs=rngs)
        self.student_encoder = GraphEncoder(dim, hops=hops, rngs=rngs)
        self.teacher_encoder = GraphEncoder(dim, hops=hops, rngs=rngs)

"""Modules that exist only during distillation."""

from jaxkd.heads._embedding import Embedding as Embedding
from jaxkd.heads._functional import bind_heads as bind_heads
from jaxkd.heads._functional import init_heads as init_heads
from jaxkd.heads._functional import rest_of as rest_of
from jaxkd.heads._graph_encoder import GraphEncoder as GraphEncoder
from jaxkd.heads._holistic import HolisticHeads as HolisticHeads

"""Flax modules that are trained during distillation and discarded afterwards."""

from jaxkd.heads._connector import Connector as Connector
from jaxkd.heads._embedding import Embedding as Embedding
from jaxkd.heads._factor import Paraphraser as Paraphraser
from jaxkd.heads._factor import Translator as Translator
from jaxkd.heads._functional import bind_heads as bind_heads
from jaxkd.heads._functional import init_heads as init_heads
from jaxkd.heads._functional import rest_of as rest_of
from jaxkd.heads._fusion import AttentionFusion as AttentionFusion
from jaxkd.heads._graph_encoder import GraphEncoder as GraphEncoder
from jaxkd.heads._holistic import HolisticHeads as HolisticHeads
from jaxkd.heads._projection import Projection as Projection
from jaxkd.heads._regressor import Regressor as Regressor
from jaxkd.heads._semantic import CrossLayerProjection as CrossLayerProjection
from jaxkd.heads._semantic import SimilarityEmbedding as SimilarityEmbedding
from jaxkd.heads._variational import VariationalRegressor as VariationalRegressor

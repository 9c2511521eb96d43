"""Numerical kernels that losses, heads and distillers share; none of them is a loss."""

from jaxkd._math._exact_kl import soft_target_divergence as soft_target_divergence
from jaxkd._math._pooling import adaptive_average_pool as adaptive_average_pool
from jaxkd._math._pooling import pool_to_match as pool_to_match
from jaxkd._math._singular_vectors import singular_vectors as singular_vectors
from jaxkd._math._stable import l2_normalize as l2_normalize
from jaxkd._math._top_logits import REMAINDER_TEMPERATURES as REMAINDER_TEMPERATURES
from jaxkd._math._top_logits import TopLogits as TopLogits
from jaxkd._math._top_logits import power_mean as power_mean

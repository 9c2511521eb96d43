"""Distillation losses as pure functions of arrays: one value per example."""

from jaxkd.losses._contrastive import INFO_NCE
from jaxkd.losses._contrastive import info_nce as info_nce
from jaxkd.losses._invariance import Arguments as Arguments
from jaxkd.losses._invariance import Declaration as Declaration
from jaxkd.losses._invariance import Transformation as Transformation
from jaxkd.losses._logits import LOGIT_MATCHING, MEAN_GAP, SOFT_TARGET_KL
from jaxkd.losses._logits import logit_matching as logit_matching
from jaxkd.losses._logits import mean_gap as mean_gap
from jaxkd.losses._logits import soft_target_kl as soft_target_kl

INVARIANCES: tuple[Declaration, ...] = (
    SOFT_TARGET_KL,
    LOGIT_MATCHING,
    MEAN_GAP,
    INFO_NCE,
)
"""What each loss does not see; ``proofs_checks`` verifies it in both directions."""

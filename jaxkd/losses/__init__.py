"""Distillation losses as pure functions of arrays: one value per example."""

from jaxkd.losses._contrastive import info_nce as info_nce
from jaxkd.losses._logits import logit_matching as logit_matching
from jaxkd.losses._logits import mean_gap as mean_gap
from jaxkd.losses._logits import soft_target_kl as soft_target_kl

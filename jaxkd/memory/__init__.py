"""Memory bank, negatives, and fused contrastive sums over the rows of the bank."""

from jaxkd.memory._bank import Bank as Bank
from jaxkd.memory._bank import init_bank as init_bank
from jaxkd.memory._bank import read as read
from jaxkd.memory._bank import update as update
from jaxkd.memory._contrast import negative_log_sum_exp as negative_log_sum_exp
from jaxkd.memory._contrast import negative_softplus_sum as negative_softplus_sum
from jaxkd.memory._negatives import Negatives as Negatives
from jaxkd.memory._negatives import Sampler as Sampler
from jaxkd.memory._negatives import Window as Window
from jaxkd.memory._negatives import all_negatives as all_negatives
from jaxkd.memory._negatives import listed_negatives as listed_negatives
from jaxkd.memory._negatives import sampled_negatives as sampled_negatives
from jaxkd.memory._negatives import shared_negatives as shared_negatives
from jaxkd.memory._statistics import bank_statistics as bank_statistics

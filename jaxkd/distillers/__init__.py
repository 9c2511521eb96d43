"""Distillation methods as composable (init, loss) pairs."""

from jaxkd.distillers._base import Batch as Batch
from jaxkd.distillers._base import Distiller as Distiller
from jaxkd.distillers._base import DistillerState as DistillerState
from jaxkd.distillers._base import Spec as Spec
from jaxkd.distillers._base import require_teacher as require_teacher
from jaxkd.distillers._holistic import HolisticState as HolisticState
from jaxkd.distillers._holistic import holistic as holistic
from jaxkd.distillers._logits import cross_entropy as cross_entropy
from jaxkd.distillers._logits import logit_matching as logit_matching
from jaxkd.distillers._logits import soft_targets as soft_targets
from jaxkd.distillers._recipes import PARTS as PARTS
from jaxkd.distillers._recipes import RECIPES as RECIPES
from jaxkd.distillers._recipes import recipe as recipe
from jaxkd.distillers._weighted import weighted as weighted

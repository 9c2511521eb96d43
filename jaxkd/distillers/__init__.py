"""Distillation methods as composable (init, loss) pairs."""

from jaxkd.distillers._base import Batch as Batch
from jaxkd.distillers._base import Distiller as Distiller
from jaxkd.distillers._base import DistillerState as DistillerState
from jaxkd.distillers._base import Spec as Spec

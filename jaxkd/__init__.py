"""Knowledge distillation for JAX.

Subpackages are imported on first access. ``import jaxkd`` therefore takes almost no
time, and ``jaxkd.losses`` does not import Flax.
"""

import importlib
from typing import TYPE_CHECKING

from jaxkd._errors import DivergenceError as DivergenceError
from jaxkd._errors import Interrupted as Interrupted
from jaxkd._errors import InvalidInputError as InvalidInputError
from jaxkd._errors import InvalidTypeError as InvalidTypeError

if TYPE_CHECKING:
    from jaxkd import data as data
    from jaxkd import distillers as distillers
    from jaxkd import graphs as graphs
    from jaxkd import heads as heads
    from jaxkd import interchange as interchange
    from jaxkd import losses as losses
    from jaxkd import memory as memory
    from jaxkd import models as models
    from jaxkd import recordings as recordings
    from jaxkd import reports as reports
    from jaxkd import runs as runs
    from jaxkd import training as training
    from jaxkd._audit import AuditReport as AuditReport
    from jaxkd._audit import audit as audit

__version__ = "0.1.0"

_SUBPACKAGES = (
    "data",
    "distillers",
    "graphs",
    "heads",
    "interchange",
    "losses",
    "memory",
    "models",
    "recordings",
    "reports",
    "runs",
    "training",
)
_AUDIT = ("AuditReport", "audit")


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"jaxkd.{name}")
    if name in _AUDIT:
        return getattr(importlib.import_module("jaxkd._audit"), name)
    raise AttributeError(f"module 'jaxkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_SUBPACKAGES, *_AUDIT]

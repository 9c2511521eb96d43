"""Reports of one run and of several: pages, tables, figures, event files.

Everything but the improvement loads on first access, because Matplotlib, JAX and Flax
are slow to import.
"""

import importlib
from typing import TYPE_CHECKING

from jaxkd.reports._improvement import (
    average_relative_improvement as average_relative_improvement,
)

if TYPE_CHECKING:
    from jaxkd.reports._comparison import write_comparison as write_comparison
    from jaxkd.reports._figures import draw_comparison as draw_comparison
    from jaxkd.reports._predictions import RunPredictions as RunPredictions
    from jaxkd.reports._predictions import predict_test_set as predict_test_set
    from jaxkd.reports._run_page import rewrite_run_page as rewrite_run_page
    from jaxkd.reports._run_page import write_run_page as write_run_page
    from jaxkd.reports._statistics import confusion_matrix as confusion_matrix
    from jaxkd.reports._temperature_figure import draw_limit_ratios as draw_limit_ratios
    from jaxkd.reports._temperatures import Bounds as Bounds
    from jaxkd.reports._temperatures import HighTemperatures as HighTemperatures
    from jaxkd.reports._temperatures import (
        guaranteed_temperature as guaranteed_temperature,
    )
    from jaxkd.reports._temperatures import (
        high_enough_temperatures as high_enough_temperatures,
    )
    from jaxkd.reports._temperatures import limit_bounds as limit_bounds
    from jaxkd.reports._temperatures import limit_ratios as limit_ratios
    from jaxkd.reports._tensorboard import (
        write_confusion_matrix as write_confusion_matrix,
    )
    from jaxkd.reports._tensorboard import (
        write_training_images as write_training_images,
    )
    from jaxkd.reports._training_charts import draw_history as draw_history
    from jaxkd.reports._wandb import WandbWriter as WandbWriter
    from jaxkd.reports._wandb import require_wandb as require_wandb

_MODULES = {
    "Bounds": "_temperatures",
    "HighTemperatures": "_temperatures",
    "RunPredictions": "_predictions",
    "WandbWriter": "_wandb",
    "confusion_matrix": "_statistics",
    "draw_comparison": "_figures",
    "draw_history": "_training_charts",
    "draw_limit_ratios": "_temperature_figure",
    "guaranteed_temperature": "_temperatures",
    "high_enough_temperatures": "_temperatures",
    "limit_bounds": "_temperatures",
    "limit_ratios": "_temperatures",
    "predict_test_set": "_predictions",
    "require_wandb": "_wandb",
    "rewrite_run_page": "_run_page",
    "write_comparison": "_comparison",
    "write_confusion_matrix": "_tensorboard",
    "write_run_page": "_run_page",
    "write_training_images": "_tensorboard",
}


def __getattr__(name: str):
    if name in _MODULES:
        module = importlib.import_module(f"jaxkd.reports.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'jaxkd.reports' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]

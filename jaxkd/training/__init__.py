"""Training: one compiled step, the loop around it, and its checkpoints."""

import importlib
import warnings

from jaxkd._errors import DivergenceError as DivergenceError
from jaxkd._errors import Interrupted as Interrupted
from jaxkd.models._mode import inference_view as inference_view
from jaxkd.training._back_off import BackOff as BackOff
from jaxkd.training._back_off import backing_off as backing_off
from jaxkd.training._back_off import fit_backing_off as fit_backing_off
from jaxkd.training._devices.processes import all_or_none as all_or_none
from jaxkd.training._devices.processes import first_alone as first_alone
from jaxkd.training._devices.processes import is_first as is_first
from jaxkd.training._evaluate import Evaluation as Evaluation
from jaxkd.training._evaluate import evaluate as evaluate
from jaxkd.training._evaluate import make_evaluator as make_evaluator
from jaxkd.training._fit import fit as fit
from jaxkd.training._history import History as History
from jaxkd.training._hooks import Hook as Hook
from jaxkd.training._hooks import Run as Run
from jaxkd.training._optimizers import OPTIMIZERS as OPTIMIZERS
from jaxkd.training._optimizers import accumulated as accumulated
from jaxkd.training._optimizers import clipped as clipped
from jaxkd.training._optimizers import decayed_sgd as decayed_sgd
from jaxkd.training._optimizers import learning_rate_schedule as learning_rate_schedule
from jaxkd.training._optimizers import make_optimizer as make_optimizer
from jaxkd.training._optimizers import published_sgd as published_sgd
from jaxkd.training._own_loop import Step as Step
from jaxkd.training._own_loop import make_step as make_step
from jaxkd.training._predict import ClassResults as ClassResults
from jaxkd.training._predict import class_results as class_results
from jaxkd.training._predict import predict_logits as predict_logits
from jaxkd.training._program import Program as Program
from jaxkd.training._program import compile_program as compile_program
from jaxkd.training._record import record as record
from jaxkd.training._shown import training_views as training_views
from jaxkd.training._stage import Stage as Stage
from jaxkd.training._state import LoopState as LoopState
from jaxkd.training._state import TrainState as TrainState
from jaxkd.training._step import Average as Average
from jaxkd.training._step import Examples as Examples
from jaxkd.training._step import FrozenNetwork as FrozenNetwork
from jaxkd.training._step import averaged as averaged
from jaxkd.training._step import freeze as freeze
from jaxkd.training._step import freeze_teacher as freeze_teacher
from jaxkd.training._step import init_train_state as init_train_state
from jaxkd.training._step import make_train_step as make_train_step
from jaxkd.training._step import skip_nonfinite as skip_nonfinite
from jaxkd.training._storage.checkpoints import CheckpointError as CheckpointError
from jaxkd.training._storage.checkpoints import Checkpoints as Checkpoints
from jaxkd.training._storage.checkpoints import Damage as Damage
from jaxkd.training._validation import EarlyStopping as EarlyStopping
from jaxkd.training._validation import KeepBest as KeepBest
from jaxkd.training._validation import best_records as best_records

_MOVED = {
    "LoadedNetwork": "runs",
    "MetricsWriter": "runs",
    "NetworkConfig": "runs",
    "average_relative_improvement": "reports",
    "load_run": "runs",
    "read_config": "runs",
    "read_metrics": "runs",
}


def __getattr__(name: str):
    if name not in _MOVED:
        raise AttributeError(f"module 'jaxkd.training' has no attribute {name!r}")
    home = f"jaxkd.{_MOVED[name]}"
    warnings.warn(
        f"jaxkd.training.{name} has moved: use {home}.{name}",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(importlib.import_module(home), name)

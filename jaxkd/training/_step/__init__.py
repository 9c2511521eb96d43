"""The training step, and the functions that wrap it."""

from jaxkd.training._step.frozen import FrozenNetwork as FrozenNetwork
from jaxkd.training._step.frozen import freeze as freeze
from jaxkd.training._step.frozen import freeze_teacher as freeze_teacher
from jaxkd.training._step.moving_average import Average as Average
from jaxkd.training._step.moving_average import averaged as averaged
from jaxkd.training._step.skip_nonfinite import skip_nonfinite as skip_nonfinite
from jaxkd.training._step.step import Examples as Examples
from jaxkd.training._step.step import Lesson as Lesson
from jaxkd.training._step.step import init_train_state as init_train_state
from jaxkd.training._step.step import make_learn as make_learn
from jaxkd.training._step.step import make_prepare as make_prepare
from jaxkd.training._step.step import make_train_step as make_train_step
from jaxkd.training._step.verify import (
    verify_inference_mode as verify_inference_mode,
)

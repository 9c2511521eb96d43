"""The three ways to train: one student, several side by side, or several in turns.

:func:`choose_strategy` is the only place that decides between them.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.training._devices.placement import Placement
from jaxkd.training._evaluate import Evaluation, make_evaluators
from jaxkd.training._experiment import Experiment
from jaxkd.training._stage import Stage, Steps, in_one_call, in_turns, in_two_calls
from jaxkd.training._state import TRIAL_AXES, LoopState, stack, take, unstack


class One:
    """One student, whose state has no axis of trials.

    Args:
        experiment: The functions of one student.
        placement: The devices of its arrays.
        compile_stage: :func:`in_one_call` or :func:`in_two_calls`.
    """

    trials = None

    def __init__(
        self,
        experiment: Experiment,
        placement: Placement,
        compile_stage: Callable[[Steps], Stage],
    ):
        self._placement, self._compile_stage = placement, compile_stage
        self._start = _compiled_once(experiment.start, placement)
        self._begin = _compiled_once(experiment.begin_training, placement)
        self._evaluations = _Evaluations(experiment, placement)

    def start(self, seed: int, data_seed: int) -> LoopState:
        """Return the state before the first stage."""
        return self._start(seed, data_seed)

    def begin(self, loop: LoopState) -> LoopState:
        """Return the state at the beginning of training."""
        return self._begin(loop)

    def like(self, *, begun: bool) -> LoopState:
        """Return an abstract state, before or after the beginning of training."""
        loop = jax.eval_shape(self._start, 0, 0)
        if begun:
            loop = jax.eval_shape(self._begin, loop)
        return self._placement.abstract(loop, stacked=False)

    def compile(self, steps: Steps) -> Stage:
        """Compile the steps of a stage."""
        return self._compile_stage(_placed(steps, self._placement, stacked=False))

    def spread(self, loop: LoopState) -> LoopState:
        """Return the state as ``advance`` takes it."""
        return loop

    def gather(self, state: LoopState) -> LoopState:
        """Return the state from the form that ``advance`` takes."""
        return state

    def evaluate(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the test set."""
        return self._evaluations.test(loop)

    def validate(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the validation images."""
        return self._evaluations.validation(loop)

    def take(self, loop: LoopState, trial: int) -> LoopState:
        """Return the state of one student."""
        return loop


class SideBySide:
    """Several students as an axis of the arrays of one compiled function.

    Args:
        experiment: The functions of one student.
        placement: The devices of its arrays.
        trials: Number of students.
    """

    def __init__(self, experiment: Experiment, placement: Placement, trials: int):
        self.trials, self._placement = trials, placement
        begin = _over_trials(experiment.begin_training, placement, shared=())
        self._start = _compiled_once(experiment.start, placement)
        self._begin = _compiled_once(begin, placement, stacked=True)
        self._stack = jax.jit(_within(stack, placement, stacked=True))
        self._evaluations = _Evaluations(experiment, placement, trials)

    def start(self, seed: int, data_seed: int) -> LoopState:
        """Return the state before the first stage; trial ``i`` has ``seed + i``."""
        seeds = range(seed, seed + self.trials)
        return self._stack([self._start(each, data_seed) for each in seeds])

    def begin(self, loop: LoopState) -> LoopState:
        """Return the state at the beginning of training."""
        return self._begin(loop)

    def like(self, *, begun: bool) -> LoopState:
        """Return an abstract state, before or after the beginning of training."""
        one = jax.eval_shape(self._start, 0, 0)
        loop = jax.eval_shape(self._stack, [one] * self.trials)
        if begun:
            loop = jax.eval_shape(self._begin, loop)
        return self._placement.abstract(loop, stacked=True)

    def compile(self, steps: Steps) -> Stage:
        """Compile the steps of a stage: all students learn from one lesson."""
        learn = _over_trials(steps.learn, self._placement, shared=(None,))
        steps = steps._replace(learn=learn)
        return in_one_call(_placed(steps, self._placement, stacked=True))

    def spread(self, loop: LoopState) -> LoopState:
        """Return the state as ``advance`` takes it."""
        return loop

    def gather(self, state: LoopState) -> LoopState:
        """Return the state from the form that ``advance`` takes."""
        return state

    def evaluate(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the test set, all at once."""
        return self._evaluations.test(loop)

    def validate(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the validation images, all at once."""
        return self._evaluations.validation(loop)

    def take(self, loop: LoopState, trial: int) -> LoopState:
        """Return the state of one student."""
        return take(loop, trial)


class InTurns:
    """Several students, for each of which one compiled function is called in turn.

    A convolution over several trials' weights is slow on CPU. Here, trial ``i`` has the
    bits of a run alone. A state is one tree of stacked arrays for everyone but
    ``advance``, which takes a tuple of the students' states.

    Args:
        experiment: The functions of one student.
        placement: The devices of its arrays.
        trials: Number of students.
    """

    def __init__(self, experiment: Experiment, placement: Placement, trials: int):
        self.trials, self._placement = trials, placement
        self._start = _compiled_once(experiment.start, placement)
        self._begin = _compiled_once(experiment.begin_training, placement)
        self._stack = jax.jit(_within(stack, placement, stacked=True))
        self._evaluations = _Evaluations(experiment, placement)

        @jax.jit
        def separate(loop):
            each = unstack(loop, trials)
            return tuple(placement.state(trial, stacked=False) for trial in each)

        self._separate = separate

    def start(self, seed: int, data_seed: int) -> LoopState:
        """Return the state before the first stage; trial ``i`` has ``seed + i``."""
        seeds = range(seed, seed + self.trials)
        return self._stack([self._start(each, data_seed) for each in seeds])

    def begin(self, loop: LoopState) -> LoopState:
        """Return the state at the beginning of training."""
        return self._stack([self._begin(each) for each in self._separate(loop)])

    def like(self, *, begun: bool) -> LoopState:
        """Return an abstract state, before or after the beginning of training."""
        one = jax.eval_shape(self._start, 0, 0)
        if begun:
            one = jax.eval_shape(self._begin, one)
        loop = jax.eval_shape(self._stack, [one] * self.trials)
        return self._placement.abstract(loop, stacked=True)

    def compile(self, steps: Steps) -> Stage:
        """Compile the steps of a stage."""
        return in_turns(_placed(steps, self._placement, stacked=False))

    def spread(self, loop: LoopState) -> tuple[LoopState, ...]:
        """Return the state as ``advance`` takes it, and delete the given one."""
        each = self._separate(loop)
        jax.tree.map(lambda leaf: leaf.delete(), loop)
        return each

    def gather(self, state: tuple[LoopState, ...]) -> LoopState:
        """Return the state from the form that ``advance`` takes."""
        return self._stack(state)

    def evaluate(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the test set, one after another."""
        each = (take(loop, trial) for trial in range(self.trials))
        return [result for one in each for result in self._evaluations.test(one)]

    def validate(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the validation images, one after another."""
        each = (take(loop, trial) for trial in range(self.trials))
        return [result for one in each for result in self._evaluations.validation(one)]

    def take(self, loop: LoopState, trial: int) -> LoopState:
        """Return the state of one student."""
        return take(loop, trial)


Strategy = One | SideBySide | InTurns


def choose_strategy(
    experiment: Experiment,
    placement: Placement,
    *,
    trials: int | None,
    fused: bool | None,
    steps_per_call: int | None,
    default_steps: int,
) -> tuple[Strategy, int]:
    """Choose how to train, and how many steps to take in one call.

    Args:
        experiment: The functions of one student.
        placement: The devices of its arrays.
        trials: Number of students, or None for one without an axis of trials.
        fused: Whether a step is one compiled function; None chooses by the backend.
        steps_per_call: Steps in one call; None chooses.
        default_steps: The number of steps to choose, unless ``fused`` is False.

    Returns:
        The strategy and the number of steps in one call.

    Raises:
        ValueError: If the settings exclude each other.
    """
    if trials is not None:
        _checks.check_at_least(1, trials=trials)
    if steps_per_call is None:
        usual = 1 if fused is False else default_steps
        steps_per_call = min(usual, experiment.epoch_steps)
    _checks.check_at_least(1, steps_per_call=steps_per_call)
    if fused is None:
        fused = jax.default_backend() != "cpu" or steps_per_call > 1
        fused |= placement.trial_devices > 1
    if steps_per_call > 1 and not fused:
        raise InvalidInputError(
            f"steps_per_call is {steps_per_call}, but fused is False: only fused steps "
            "can share a call. steps_per_call must be 1, or fused True.",
            argument="steps_per_call",
        )
    if placement.trial_devices > 1 and not fused:
        raise InvalidInputError(
            "fused must not be False on a mesh with an axis trial: trials in turns are "
            "not divided over devices. Leave fused out.",
            argument="fused",
        )
    if trials is None:
        compile_stage = in_one_call if fused else in_two_calls
        return One(experiment, placement, compile_stage), steps_per_call
    strategy = SideBySide if fused else InTurns
    return strategy(experiment, placement, trials), steps_per_call


def _within(function: Any, placement: Placement, *, stacked: bool) -> Any:
    """Trace a function with the mesh in use, and place the state that it returns."""

    def placed(*given):
        return placement.state(function(*given), stacked=stacked)

    return placement.within(placed)


def _compiled_once(
    function: Any, placement: Placement, *, stacked: bool = False
) -> Any:
    """Compile a function that returns a state and runs once in a run.

    XLA:CPU would take longer to optimize the many random draws of initialization than a
    small run takes for its first epoch.
    """
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    placed = _within(function, placement, stacked=stacked)
    return jax.jit(placed, compiler_options=options)


def _over_trials(function: Any, placement: Placement, *, shared: tuple) -> Any:
    """Map a function of a state over its trials.

    Args:
        function: ``(state, *shared) -> state``, or ``-> (state, output)``.
        placement: The devices of the trials.
        shared: None for each further argument: all trials are given the same.
    """
    return jax.vmap(
        function,
        in_axes=(TRIAL_AXES, *shared),
        out_axes=(TRIAL_AXES, 0) if shared else TRIAL_AXES,
        spmd_axis_name=placement.vmap_axis,
    )


def _placed(steps: Steps, placement: Placement, *, stacked: bool) -> Steps:
    """Place the results of a student's part of a step."""

    def learn(loop, lesson):
        loop, report = steps.learn(loop, lesson)
        return placement.state(loop, stacked=stacked), placement.everywhere(report)

    return steps._replace(learn=learn)


class _Evaluations:
    """The evaluation of a state on the test set, and on validation images if any.

    Args:
        experiment: The functions of one student.
        placement: The devices of its arrays.
        trials: Number of students that a state has, or None for one without an axis.
    """

    def __init__(
        self, experiment: Experiment, placement: Placement, trials: int | None = None
    ):
        dataset = experiment.dataset
        splits = [dataset.test]
        if dataset.validation is not None:
            splits.append(dataset.validation)
        self._evaluators = make_evaluators(
            experiment.frozen.apply, splits, trials=trials, placement=placement
        )
        normalization: Any = experiment.normalization
        if trials is not None:
            normalization = jax.tree.map(
                lambda x: np.stack([x] * trials), normalization
            )
        self._normalization = placement.put(normalization)

    def test(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate each student on the test set."""
        return self._evaluators[0](self._variables(loop))

    def validation(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate each student on the validation images, which must exist."""
        return self._evaluators[1](self._variables(loop))

    def _variables(self, loop: LoopState) -> Any:
        variables = nnx.merge_state(loop.train.student, loop.train.rest)
        return {"state": variables, "normalization": self._normalization}

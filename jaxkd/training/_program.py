"""An experiment, compiled: ``compile_program`` builds it, ``fit`` runs it."""

import contextlib
import dataclasses
from typing import Any

import jax
import optax
from flax import nnx

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data import Augmentation, ImageDataset, Normalization, Streamed
from jaxkd.distillers import Distiller
from jaxkd.recordings import Recording
from jaxkd.training._devices.batches import Batches, Order
from jaxkd.training._devices.placement import Placement
from jaxkd.training._devices.processes import meet
from jaxkd.training._evaluate import Evaluation
from jaxkd.training._experiment import Build, Experiment
from jaxkd.training._recorded import check_state
from jaxkd.training._stage import Stage, make_steps
from jaxkd.training._state import LoopState, check_not_donated
from jaxkd.training._step import FrozenNetwork
from jaxkd.training._step.moving_average import check_decay
from jaxkd.training._step.remat import compiler_options
from jaxkd.training._trials import Strategy, choose_strategy


@dataclasses.dataclass(frozen=True, repr=False)
class Program:
    """The compiled functions of one experiment, for any number of seeds.

    A distiller with a pretraining stage has two stages. Their states differ in the
    parameters that are trained; both count in the same steps and epochs.

    Attributes:
        experiment: The functions of one student, not compiled.
        strategy: How students are trained: one, side by side, or in turns.
        batches: The source of batches.
        training: The steps of training.
        pretraining: The steps of the stage before training, or None.
        steps_per_call: Steps that ``advance_many`` takes.
    """

    experiment: Experiment
    strategy: Strategy
    batches: Batches
    training: Stage
    pretraining: Stage | None
    steps_per_call: int

    def __repr__(self) -> str:
        experiment, teacher = self.experiment, None
        if experiment.recording is not None:
            teacher = "recording"
        elif experiment.teacher is not None:
            teacher = "network"
        shown = {
            "dataset": experiment.dataset.name,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "pretraining_epochs": self.pretraining_epochs or None,
            "trials": self.trials,
            "teacher": teacher,
        }
        given = (f"{k}={v!r}" for k, v in shown.items() if v is not None)
        return f"Program({', '.join(given)})"

    def start(self, seed: int, data_seed: int = 0) -> LoopState:
        """Return the state before the first stage.

        Args:
            seed: The seed of the student. Trial ``i`` has the seed ``seed + i``.
            data_seed: The seed of order and augmentation, which trials share.

        Raises:
            TypeError: If a seed is not an integer.
            ValueError: If a seed does not fit into 32 bits, or into 64 with
                ``jax_enable_x64``; or if the teacher is a recording with another data
                seed, or without an output that the distiller reads.
        """
        _checks.check_seed(self.trials or 1, seed=seed)
        _checks.check_seed(data_seed=data_seed)
        self.experiment.check_recording(data_seed=data_seed)
        return self.strategy.start(seed, data_seed)

    def begin_training(self, loop: LoopState) -> LoopState:
        """Return the state between pretraining and training: a new optimizer state."""
        check_not_donated(loop)
        return self.strategy.begin(loop)

    def check_recording(self, loop: LoopState, epochs: int) -> None:
        """Check that a recorded teacher has seen the images of a run.

        Args:
            loop: The state that the run begins with.
            epochs: Epochs of training, excluding a pretraining stage.

        Raises:
            InvalidInputError: If it has not; the message names both values.
        """
        if (recording := self.experiment.recording) is not None:
            check_state(recording, loop)
            self.experiment.check_recording(epochs=epochs)

    def stage(self, step: int) -> Stage:
        """Return the stage that follows after ``step`` steps."""
        if self.pretraining is not None and step < self.pretraining_steps:
            return self.pretraining
        return self.training

    def order(self, loop: LoopState) -> Order:
        """Return the order of the current epoch, as ``advance`` takes it."""
        return self.batches.order(loop.train.data_key, loop.train.step)

    def feeding(self) -> contextlib.AbstractContextManager:
        """Return a context around training: at its end, workers are stopped."""
        return self.batches.feeding()

    def spread(self, loop: LoopState) -> Any:
        """Return the state as ``advance`` takes it. The given one may be deleted."""
        check_not_donated(loop)
        return self.strategy.spread(loop)

    def gather(self, state: Any) -> LoopState:
        """Undo :meth:`spread`. The given state can still be used."""
        return self.strategy.gather(state)

    def like(self, step: int) -> LoopState:
        """Return an abstract state after ``step`` steps, to restore a checkpoint to."""
        begun = self.pretraining is not None and step >= self.pretraining_steps
        return self.strategy.like(begun=begun)

    def evaluate(self, loop: LoopState) -> Evaluation:
        """Evaluate the student, or that of the first trial, on the whole test set."""
        return self.evaluate_trials(loop)[0]

    def evaluate_trials(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the whole test set.

        This and :meth:`student` read the student that is trained. Pass them
        :func:`averaged` of the state to read its moving average.
        """
        check_not_donated(loop)
        return self.strategy.evaluate(loop)

    def validate_trials(self, loop: LoopState) -> list[Evaluation]:
        """Evaluate every student on the validation images of the dataset.

        Raises:
            InvalidInputError: If the dataset has none (:func:`jaxkd.data.hold_out`).
        """
        check_not_donated(loop)
        if not self.validates:
            raise InvalidInputError(
                f"{self.experiment.dataset.name} has no validation images. Hold some "
                "of the training images out: data.hold_out(dataset, 0.1).",
                argument="dataset",
            )
        return self.strategy.validate(loop)

    def student(self, loop: LoopState, trial: int = 0) -> nnx.Module:
        """Return the network of a student, with copies of its variables."""
        check_not_donated(loop)
        return self.experiment.student(self.strategy.take(loop, trial).train)

    @property
    def validates(self) -> bool:
        """Whether the dataset has validation images."""
        return self.experiment.dataset.validation is not None

    @property
    def trials(self) -> int | None:
        """The number of students, or None for one without an axis of trials."""
        return self.strategy.trials

    @property
    def batch_size(self) -> int:
        """The number of examples in a batch."""
        return self.experiment.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch, including the last, filled-up one."""
        return self.experiment.epoch_steps

    @property
    def pretraining_epochs(self) -> int:
        """The number of epochs before training; 0 without a pretraining stage."""
        return self.experiment.pretraining_epochs

    @property
    def pretraining_steps(self) -> int:
        """The number of steps before training."""
        return self.pretraining_epochs * self.steps_per_epoch

    @property
    def normalization(self) -> Normalization:
        """The normalization of the student's images."""
        return self.experiment.normalization


def compile_program(
    build: Build,
    dataset: ImageDataset,
    distiller: Distiller,
    *,
    optimizer: optax.GradientTransformation,
    pretraining_optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 64,
    teacher: FrozenNetwork | nnx.Module | Recording | None = None,
    normalization: Normalization | None = None,
    augmentation: Augmentation | None = None,
    steps_per_call: int | None = None,
    fused: bool | None = None,
    trials: int | None = None,
    max_skipped: int = 0,
    ema_decay: float | None = None,
    remat: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Program:
    """Prepare an experiment: put its data on the device and compile its functions.

    Functions are compiled at their first call. They are traced once for all seeds.

    Args:
        build: Builds the student from its randomness.
        dataset: Training and test images. They are kept on the device, unless they are
            streamed (:class:`jaxkd.data.Streamed`); the results are the same.
        distiller: The objective.
        optimizer: An optax optimizer.
        pretraining_optimizer: The optimizer of the distiller's pretraining stage, if it
            has one. By default it is ``optimizer``. Each stage begins with a new
            optimizer state.
        batch_size: Examples in a batch. The last batch of an epoch is filled up with
            the epoch's first examples.
        teacher: The frozen teacher (:func:`freeze_teacher`), if the distiller needs
            one. A module is frozen with the student's normalization; a message on
            stderr prints the normalization. Or a recording of a teacher's outputs
            (:func:`jaxkd.recordings.open`), which takes the place of its network. Its
            images must be those of this run; on CPU, float32 outputs train the same
            student, bit for bit.
        normalization: The normalization of the student's images. By default it is that
            of the training set.
        augmentation: The augmentation of both networks' images. By default it is the
            dataset's.
        steps_per_call: Steps in one dispatch. By default 1 on CPU or if images are
            streamed, and 16 otherwise.
        fused: Whether a step is one compiled function, with trials as an axis of it.
            The default is True, except for single steps on CPU. If False, the teacher's
            forward pass is a function of its own, followed by one call of the student's
            step for each trial: a convolution over several trials' weights is slow on
            CPU, and trial ``i`` has the bits of a run alone.
        trials: The number of students to train, from consecutive seeds. They see the
            same images, including augmentation, and share the teacher's forward pass.
            None trains one student, whose state has no axis of trials.
        max_skipped: How many steps in a row may be skipped because their loss, or the
            state after them, is not finite. By default none, and only the loss is
            checked.
        ema_decay: The decay of an exponential moving average of the student, for
            example 0.999. The average is evaluated beside the student, and checkpoints
            store it as the network to load (:func:`averaged` returns it). By default
            there is none. It begins with the training stage and does not change in
            skipped steps.
        remat: Whether to compute the student's activations again in the backward pass,
            block by block, which saves memory and costs time. Its blocks are those that
            it calls with :func:`jaxkd.models.call_block`. Gradients, batch statistics
            and dropout are the same up to rounding.
        mesh: The devices, with axes ``data`` (which divides batches and the rows of
            banks) and ``trial`` (which divides trials), or one of them. By default one
            device. The program is the same: statistics, graphs and losses are of the
            whole batch.

    Returns:
        The compiled functions.

    Raises:
        ValueError: If the batch is larger than the dataset, ``build`` is a network
            instead of a function, a network's output is not a valid ``ModelOutput``, a
            network of yours is not in inference mode when it teaches or is evaluated
            (its answer for an image depends on the others of the batch), the mesh does
            not divide the batch and the trials evenly, a recording is of other images,
            or a setting is out of range. Errors of the distiller come later:
            :meth:`Program.start` raises them if the distiller does not support these
            networks or labels.
    """
    _checks.check_at_least(0, max_skipped=max_skipped)
    check_decay(ema_decay)
    placement = Placement(mesh, batch_size, trials)
    if placement.mesh is not None:
        meet(placement.mesh)
    experiment = Experiment(
        build,
        dataset,
        distiller,
        optimizer=optimizer,
        pretraining_optimizer=pretraining_optimizer,
        batch_size=batch_size,
        teacher=teacher,
        normalization=normalization,
        augmentation=augmentation,
        max_skipped=max_skipped,
        ema_decay=ema_decay,
        remat=remat,
    )
    streamed = isinstance(dataset.train.images, Streamed)
    strategy, steps_per_call = choose_strategy(
        experiment,
        placement,
        trials=trials,
        fused=fused,
        steps_per_call=steps_per_call,
        default_steps=1 if streamed else default_steps_per_call(),
    )
    batches = Batches(
        *(dataset.train, batch_size, placement),
        recording=experiment.recording,
        steps_per_call=steps_per_call,
    )
    frozen = experiment.teacher
    teacher_variables = None if frozen is None else placement.put(frozen.variables)

    def stage(learn) -> Stage:
        steps = make_steps(
            experiment.prepare,
            learn,
            teacher_variables=teacher_variables,
            batches=batches,
            placement=placement,
            epoch_steps=experiment.epoch_steps,
            steps_per_call=steps_per_call,
            max_skipped=max_skipped,
        )._replace(compiler_options=compiler_options(remat=remat))
        return batches.supply(strategy.compile(steps))

    return Program(
        experiment=experiment,
        strategy=strategy,
        batches=batches,
        training=stage(experiment.learn),
        pretraining=(
            stage(experiment.learn_first) if experiment.pretraining_epochs else None
        ),
        steps_per_call=steps_per_call,
    )


def default_steps_per_call() -> int:
    """Return 1 on CPU, where XLA is slow at convolutions inside a loop, else 16."""
    return 1 if jax.default_backend() == "cpu" else 16

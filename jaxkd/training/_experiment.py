"""One student's run as pure functions, before anything is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.errors import ModifyScopeVariableError

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd._messages import say
from jaxkd.data import (
    Augmentation,
    ImageDataset,
    Normalization,
    channel_statistics,
    normalize,
    steps_per_epoch,
)
from jaxkd.distillers import Distiller, Spec
from jaxkd.models._capture import output_of
from jaxkd.models._mode import mode_arguments
from jaxkd.recordings import Recording
from jaxkd.training._recorded import check_images
from jaxkd.training._state import (
    LoopState,
    Metrics,
    Monitor,
    TrainState,
    data_key_of,
)
from jaxkd.training._step import (
    Examples,
    FrozenNetwork,
    freeze,
    freeze_teacher,
    init_train_state,
    make_learn,
    make_prepare,
    skip_nonfinite,
)
from jaxkd.training._step.frozen import check_classes
from jaxkd.training._step.moving_average import begin_average, with_moving_average
from jaxkd.training._step.remat import check_blocks
from jaxkd.training._step.step import Learn
from jaxkd.training._step.verify import (
    UNTRACEABLE,
    untraceable,
    verify_inference_mode,
)

Build = Callable[[nnx.Rngs], nnx.Module]


class Experiment:
    """The parts of a run: networks, data, objective, optimizers and steps.

    The arguments are those of :func:`compile_program`.

    Attributes:
        dataset: The images.
        batch_size: Examples in a batch.
        epoch_steps: Batches in an epoch.
        normalization: The normalization of the student's images.
        teacher: The frozen teacher, or None.
        recording: The recorded teacher, or None.
        pretraining_epochs: Length of the pretraining stage; 0 without one.
        max_skipped: How many steps in a row may be skipped.
        frozen: The student in inference mode, for any variables.
        prepare: The part of a step that all students share.
        learn: A student's part of a training step.
        learn_first: The same for the first stage, which is pretraining if there is one.
    """

    def __init__(
        self,
        build: Build,
        dataset: ImageDataset,
        distiller: Distiller,
        *,
        optimizer: optax.GradientTransformation,
        pretraining_optimizer: optax.GradientTransformation | None,
        batch_size: int,
        teacher: FrozenNetwork | nnx.Module | Recording | None,
        normalization: Normalization | None,
        augmentation: Augmentation | None,
        max_skipped: int,
        ema_decay: float | None,
        remat: bool,
    ):
        build = _checked_builder(build)
        check_kind("dataset", dataset, ImageDataset, "data.load(name)")
        check_kind("distiller", distiller, Distiller, "distillers.recipe('kd')")
        for name, given in {
            "optimizer": optimizer,
            "pretraining_optimizer": pretraining_optimizer or optimizer,
        }.items():
            kind = optax.GradientTransformation
            check_kind(name, given, kind, "optax.adam(1e-3)")
        self.dataset = dataset
        if normalization is None:
            normalization = channel_statistics(dataset.train.images)
        if augmentation is None:
            augmentation = dataset.augmentation
        self.recording = None
        if isinstance(teacher, Recording):
            self.recording, teacher = teacher, None
        elif teacher is not None:
            teacher = frozen_teacher(teacher, normalization)
            teacher = teacher.with_layers(distiller.layers.teacher)
            self._verify(teacher, "teacher")
        self._augmentation = augmentation
        self.batch_size = batch_size
        self.epoch_steps = steps_per_epoch(len(dataset.train.labels), batch_size)
        self.normalization, self.max_skipped = normalization, max_skipped
        self._distiller, self.teacher = distiller, teacher
        self._ema_decay, self._remat = ema_decay, remat
        self.check_recording()
        self._build = build
        self._spec = self._describe(build)
        if (remake := distiller.student) is not None:
            given = self._spec
            self._build = lambda rngs: remake(build(rngs), given, rngs)
            self._spec = self._describe(self._build)
        module = nnx.eval_shape(lambda: self._build(nnx.Rngs(0)))
        self._graphdef = nnx.graphdef(module)
        if remat:
            shape = (batch_size, *dataset.train.images.shape[1:])
            check_blocks(module, jax.ShapeDtypeStruct(shape, jnp.float32))
        self.frozen = freeze(module, normalization)
        self._verify(self._student_to_verify(), "student")

        self.prepare = make_prepare(
            distiller,
            teacher,
            normalization,
            augmentation,
            has_unlabeled=dataset.num_unlabeled > 0,
        )
        self._optimizer = self._first_optimizer = optimizer
        self.learn = self.learn_first = self._make_learn(optimizer)
        self.pretraining_epochs = 0
        if distiller.pretraining is not None:
            self.pretraining_epochs = distiller.pretraining.epochs
            self._first_optimizer = pretraining_optimizer or optimizer
            self.learn_first = self._make_learn(self._first_optimizer, pretraining=True)

    def check_recording(
        self, *, data_seed: int | None = None, epochs: int | None = None
    ) -> None:
        """Check that the recording, if there is one, is of this run's images.

        Args:
            data_seed: The seed of order and augmentation; None if it is not known yet.
            epochs: Epochs of training; None if they are not known yet.

        Raises:
            InvalidInputError: If it is not; the message names both values.
        """
        if self.recording is None:
            return
        check_images(
            self.recording,
            self._distiller,
            self.dataset,
            augmentation=self._augmentation,
            batch_size=self.batch_size,
            data_seed=data_seed,
            epochs=None if epochs is None else self.pretraining_epochs + epochs,
        )

    def _verify(self, network: FrozenNetwork, role: str) -> None:
        """Check that a network of the user is in inference mode."""
        stored = self.dataset.train.images
        shape = tuple(stored.shape[1:])
        verify_inference_mode(network, shape, stored.dtype, role=role)

    def _student_to_verify(self) -> FrozenNetwork:
        """Return the frozen student; ``apply`` builds it with new variables."""

        def apply(variables, images):
            del variables
            return freeze(self._build(nnx.Rngs(0)), self.normalization)(images)

        return self.frozen._replace(apply=apply, variables=None)

    def _describe(self, build: Build) -> Spec:
        """Find the abstract outputs of both networks; nothing is computed."""
        stored, teacher = self.dataset.train.images, self.teacher
        images = jax.ShapeDtypeStruct(
            (self.batch_size, *stored.shape[1:]), stored.dtype
        )

        def student_output(module, images):
            name = f"the student ({type(module).__name__})"
            arguments = mode_arguments(module, train=True)
            inputs = normalize(images, self.normalization)
            paths = self._distiller.layers.student
            try:
                return output_of(module, inputs, paths, name=name, **arguments)
            except UNTRACEABLE as error:
                raise untraceable(name, error, "student") from error
            except ModifyScopeVariableError as error:
                raise InvalidInputError(
                    f"{name} cannot change its statistics in training. Wrap the Linen "
                    "module with models.from_linen, which lets it.",
                    argument="student",
                ) from error

        module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        student = nnx.eval_shape(student_output, module, images)
        labels = np.asarray(self.dataset.train.labels)
        classes = int(labels.max(initial=0)) + 1
        check_classes(student.logits.shape[-1], classes, "the student")
        teacher_output = classifier = None
        if teacher is not None:
            teacher_output = jax.eval_shape(teacher.apply, teacher.variables, images)
            classifier = teacher.classifier
        elif self.recording is not None:
            teacher_output = self.recording.abstract(self.batch_size)
            classifier = self.recording.classifier
        return Spec(
            student=student,
            teacher=teacher_output,
            num_classes=self.dataset.num_classes,
            labels=labels,
            classifier=classifier,
        )

    def _make_learn(
        self, optimizer: optax.GradientTransformation, *, pretraining: bool = False
    ) -> Learn:
        """Build a student's part of a step from its layers, innermost first."""
        learn = make_learn(
            self._graphdef,
            self._distiller,
            optimizer,
            pretraining=pretraining,
            steps_per_epoch=self.epoch_steps,
            remat=self._remat,
        )
        if self._ema_decay is not None and not pretraining:
            learn = with_moving_average(learn, self._ema_decay)
        return skip_nonfinite(learn) if self.max_skipped else learn

    def start(self, seed, data_seed) -> LoopState:
        """Return a student's state before the first stage."""
        student_key, run_key = jax.random.split(jax.random.key(seed))
        train = init_train_state(
            self._build(nnx.Rngs(student_key)),
            self._distiller,
            self._spec,
            self._first_optimizer,
            key=run_key,
            data_key=data_key_of(jax.random.key(data_seed)),
        )
        if self._distiller.pretraining is None:
            train = self._begin_average(train)
        return self._unobserved(train, self.learn_first)

    def begin_training(self, loop: LoopState) -> LoopState:
        """Return a student's state between pretraining and training.

        The optimizer's state is new, and the moving average begins here.
        """
        train = loop.train
        if (stage := self._distiller.pretraining) is not None:
            heads, extra = stage.finish(train.heads, train.extra)
            train = train._replace(heads=heads, extra=extra)
        train = train._replace(opt_state=self._optimizer.init(train.trainable))
        return self._unobserved(self._begin_average(train), self.learn)

    def student(self, train: TrainState) -> nnx.Module:
        """Return the student's network with copies of its variables."""
        return nnx.merge(self._graphdef, train.student, train.rest, copy=True)

    def _begin_average(self, train: TrainState) -> TrainState:
        return train if self._ema_decay is None else begin_average(train)

    def _unobserved(self, train: TrainState, learn: Learn) -> LoopState:
        """Add a monitor that has seen no step yet, of the metrics of a step."""
        stored, size = self.dataset.train, self.batch_size
        shape, dtype = stored.images.shape[1:], stored.images.dtype
        labels = jax.dtypes.canonicalize_dtype(stored.labels.dtype)
        images: Any = jax.ShapeDtypeStruct((size, *shape), dtype)
        numbers: Any = [
            jax.ShapeDtypeStruct((size,), kind) for kind in (labels, jnp.int32)
        ]

        def metrics(train: TrainState, examples: Examples) -> Metrics:
            variables = None if self.teacher is None else self.teacher.variables
            lesson = self.prepare(train.data_key, train.step, variables, examples)
            return learn(train, lesson)[1]

        examples = Examples(images, *numbers)
        if self.recording is not None:
            examples = examples._replace(teacher=self.recording.abstract(size))
        shapes = jax.eval_shape(metrics, train, examples)
        zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), shapes)
        never, skipped = jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32)
        return LoopState(
            train, Monitor(zeros, never, zeros, skipped if self.max_skipped else ())
        )


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
    """Raise unless an argument is of its kind."""
    if not isinstance(value, kind):
        found = getattr(value, "__name__", type(value).__name__)
        raise InvalidTypeError(
            f"{name} must be of class {kind.__name__}, such as {example}, got {found}",
            argument=name,
        )


def _checked_builder(build: Build) -> Build:
    """Return the builder with checks of its results.

    Raises:
        InvalidInputError: If a network is given in place of its builder.
        InvalidTypeError: If the builder is not a function.
    """
    kind = type(build).__name__
    remedy = "a function of nnx.Rngs that returns a new Flax NNX module, such as "
    if isinstance(build, nnx.Module | linen.Module | FrozenNetwork):
        raise InvalidInputError(
            f"build must be {remedy}lambda rngs: {kind}(..., rngs=rngs), got a "
            f"{kind} that is built already. The function is called with the seed of "
            "each run. To begin every run with the weights of this network, pass "
            "lambda rngs: network.",
            argument="build",
        )
    if not callable(build):
        raise InvalidTypeError(
            f"build must be {remedy}lambda rngs: Network(rngs=rngs), got {kind}",
            argument="build",
        )

    def checked(rngs: nnx.Rngs) -> nnx.Module:
        module = build(rngs)
        if not isinstance(module, nnx.Module):
            raise InvalidTypeError(
                f"build must return a Flax NNX module, got {type(module).__name__}; "
                "wrap a Linen module with models.from_linen",
                argument="build",
            )
        return module

    return checked


def frozen_teacher(
    teacher: FrozenNetwork | nnx.Module, normalization: Normalization
) -> FrozenNetwork:
    """Return a frozen teacher; freeze a module with the student's normalization.

    Raises:
        InvalidTypeError: If it is neither.
    """
    if isinstance(teacher, FrozenNetwork):
        return teacher
    if not isinstance(teacher, nnx.Module):
        raise InvalidTypeError(
            "teacher must be a frozen network, a Flax NNX module or a recording, got "
            f"{type(teacher).__name__}. Pass training.freeze_teacher(network, "
            "normalization); for a run folder, network and normalization are the "
            "attributes module and normalization of runs.load_run(folder).",
            argument="teacher",
        )
    mean, std = (" ".join(f"{x:.4g}" for x in np.asarray(y)) for y in normalization)
    say(
        f"the teacher ({type(teacher).__name__}) is frozen with the student's "
        f"normalization: mean {mean}, std {std}. If it was trained with another, pass "
        "teacher=training.freeze_teacher(network, normalization)."
    )
    return freeze_teacher(teacher, normalization)

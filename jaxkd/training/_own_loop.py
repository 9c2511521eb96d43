"""The compiled step alone, for training loops of your own."""

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import ArrayLike

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.distillers import Distiller
from jaxkd.distillers import spec as make_spec
from jaxkd.distillers._objective import check_steps_are_alike
from jaxkd.distillers._spec import Network
from jaxkd.training._experiment import check_kind
from jaxkd.training._state import Metrics, TrainState
from jaxkd.training._step import (
    Examples,
    FrozenNetwork,
    freeze_teacher,
    init_train_state,
    make_train_step,
)


class Step:
    """A compiled training step, built by :func:`make_step`.

    Attributes:
        distiller: The objective.
    """

    def __init__(
        self,
        student: nnx.Module,
        teacher: FrozenNetwork | None,
        distiller: Distiller,
        optimizer: optax.GradientTransformation,
        steps_per_epoch: int | None,
    ):
        self.distiller = distiller
        self._student, self._teacher, self._optimizer = student, teacher, optimizer
        self._graphdef = nnx.graphdef(student)
        self._num_classes: int | None = None  # known from init on
        step = make_train_step(
            self._graphdef,
            distiller,
            optimizer,
            teacher=teacher,
            steps_per_epoch=steps_per_epoch,
        )
        self._compiled = jax.jit(step, donate_argnums=0)

    def init(
        self,
        images: Any,
        labels: ArrayLike,
        *,
        num_classes: int | None = None,
        seed: int = 0,
    ) -> TrainState:
        """Return the state before the first step, which begins with the student.

        Args:
            images: A batch as ``step`` will receive it.
            labels: Labels of the whole training set; those of a batch suffice for
                methods without a bank.
            num_classes: Number of classes; by default the number of the student's
                logits.
            seed: Seed of the heads, and of all random numbers of the steps.

        Raises:
            ValueError: If the distiller does not support these networks or labels.
        """
        _checks.check_seed(seed=seed)
        spec = make_spec(
            self._student,
            self._teacher,
            images,
            labels,
            num_classes=num_classes,
            distiller=self.distiller,
        )
        self._num_classes = spec.num_classes
        key = jax.random.key(seed)
        return init_train_state(
            self._student, self.distiller, spec, self._optimizer, key=key
        )

    def __call__(
        self,
        state: TrainState,
        batch: Examples | tuple[Any, Any] | tuple[Any, Any, Any],
    ) -> tuple[TrainState, Metrics]:
        """Take a step.

        Args:
            state: The state. It is donated: use the returned one afterwards.
            batch: Images as the networks receive them, labels and, for methods with a
                bank, row numbers in the training set.

        Returns:
            The next state, and metrics, which are scalars on the device.
        """
        if not isinstance(state, TrainState) or not isinstance(batch, tuple):
            raise InvalidTypeError(
                "a step takes the state of step.init and a tuple (images, labels) or "
                f"(images, labels, rows), got {type(state).__name__} and "
                f"{type(batch).__name__}",
                argument="batch",
            )
        given: Any = (*batch, None)  # rows may be left out
        examples = Examples(*given[:3])
        self._check(examples)
        variables = None if self._teacher is None else self._teacher.variables
        return self._compiled(state, variables, examples)

    def _check(self, examples: Examples) -> None:
        """Check a batch, as far as no array of a device has to be read."""
        images, labels = examples[:2]
        if len(images) != len(labels):
            raise InvalidInputError(
                f"a batch has {len(images)} images and {len(labels)} labels",
                argument="batch",
            )
        classes = self._num_classes
        if classes is None or not isinstance(labels, np.ndarray) or not labels.size:
            return
        if not 0 <= labels.min() <= labels.max() < classes:
            raise InvalidInputError(
                f"labels of a batch must be class numbers below {classes}, got "
                f"{labels.min()} to {labels.max()}",
                argument="batch",
            )

    def __repr__(self) -> str:
        """Name the student."""
        return f"Step({type(self._student).__name__})"

    def student(self, state: TrainState) -> nnx.Module:
        """Return the student's network, with copies of its variables."""
        return nnx.merge(self._graphdef, state.student, state.rest, copy=True)


def make_step(
    student: nnx.Module,
    teacher: Network | FrozenNetwork | None,
    distiller: Distiller,
    optimizer: optax.GradientTransformation,
    *,
    steps_per_epoch: int | None = None,
) -> Step:
    """Compile a training step for a loop of your own.

    Images are what the networks receive: you load, augment and normalize them. (uint8
    images are divided by 255.) The step computes the teacher's output, the student's
    gradient and the update of student and heads in one compiled function. It is traced
    once for each shape of a batch.

    Args:
        student: The network to train. It is not changed.
        teacher: A module, a function of images, a frozen network
            (:func:`freeze_teacher`), or None if the method needs none.
        distiller: The objective, without a stage of pretraining and without a change of
            the student's network. :func:`fit` has both.
        optimizer: An optax optimizer, for the student and the heads together.
        steps_per_epoch: Number of steps in an epoch, for schedules of weights and
            temperatures.

    Returns:
        The step: ``state = step.init(images, labels)``, then ``state, metrics =
        step(state, (images, labels))`` for each batch, and ``step.student(state)``.

    Raises:
        InvalidInputError: If the distiller is not supported.
        InvalidTypeError: If the student is not a module.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from jaxkd import distillers, models, training
        >>> student, teacher = (
        ...     models.MLP(64, (width,), num_classes=10, rngs=nnx.Rngs(0))
        ...     for width in (8, 32)
        ... )
        >>> objective = distillers.recipe("kd")
        >>> step = training.make_step(student, teacher, objective, optax.adam(1e-3))
        >>> batch = jnp.ones((2, 8, 8, 1)), jnp.array([3, 7])
        >>> state = step.init(*batch)
        >>> for _ in range(3):
        ...     state, metrics = step(state, batch)
        >>> int(state.step), step.student(state)(batch[0]).logits.shape
        (3, (2, 10))
    """
    if not isinstance(student, nnx.Module):
        raise InvalidTypeError(
            f"student must be a Flax NNX module, got {type(student).__name__}; wrap a "
            "Linen module with models.from_linen",
            argument="student",
        )
    check_kind("distiller", distiller, Distiller, "distillers.recipe('kd')")
    kind = optax.GradientTransformation
    check_kind("optimizer", optimizer, kind, "optax.adam(1e-3)")
    check_steps_are_alike(distiller)
    if teacher is not None and not isinstance(teacher, FrozenNetwork):
        teacher = freeze_teacher(teacher)
    if teacher is not None:
        teacher = teacher.with_layers(distiller.layers.teacher)
    return Step(student, teacher, distiller, optimizer, steps_per_epoch)

"""A distiller as a Flax module, for training loops with ``nnx.Optimizer``."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Batch, Distiller, Metrics, Spec
from jaxkd.distillers._spec import Network, call


class Objective(nnx.Module):
    """A distiller with its heads, banks and randomness, as a Flax NNX module.

    Use it in a training loop of your own: put it beside the student, and train both
    with one ``nnx.Optimizer``. A call returns the loss of a batch, and updates banks
    and statistics as layers update theirs. Heads are ``nnx.Param``, all else is not.

    The student is called in training mode, the teacher in inference mode if its call
    has a flag for it. Put the layers of a teacher that is a module into inference mode
    with :func:`jaxkd.training.inference_view`, or freeze it.

    Args:
        distiller: The method, without a stage of pretraining and without a change of
            the student's network. :func:`jaxkd.training.fit` has both.
        spec: The networks and labels (:func:`spec`).
        steps_per_epoch: Number of steps in an epoch, for schedules.
        rngs: Randomness of the heads' initial parameters, and of each step.

    Raises:
        InvalidInputError: If the distiller is not supported, or does not support these
            networks or labels.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import distillers, models
        >>> student, teacher = (
        ...     models.MLP(64, (width,), num_classes=10, rngs=nnx.Rngs(0))
        ...     for width in (8, 32)
        ... )
        >>> images, labels = jnp.ones((2, 8, 8, 1)), jnp.array([3, 7])
        >>> objective = distillers.Objective(
        ...     distillers.recipe("pkt+kd"),
        ...     distillers.spec(student, teacher, images, labels),
        ...     rngs=nnx.Rngs(0),
        ... )
        >>> loss, metrics = objective(student, teacher, images, labels)
        >>> sorted(metrics)
        ['ce', 'kd', 'kd/agreement', 'kd/mean_gap', 'pkt']
    """

    def __init__(
        self,
        distiller: Distiller,
        spec: Spec,
        *,
        steps_per_epoch: int | None = None,
        rngs: nnx.Rngs,
    ):
        check_steps_are_alike(distiller)
        if distiller.views is not None:
            raise InvalidInputError(
                "distiller makes views of the images, which only training.make_step "
                "and training.compile_program support",
                argument="distiller",
            )
        heads = distiller.init(rngs, spec)
        self.distiller = nnx.static(distiller)
        self.steps_per_epoch = steps_per_epoch
        self.heads = nnx.data(jax.tree.map(nnx.Param, heads.params))
        self.extra = nnx.data(jax.tree.map(nnx.Variable, heads.extra))
        self.step = nnx.Variable(jnp.zeros((), jnp.int32))
        self.noise = rngs.objective.fork()

    def __call__(
        self,
        student: nnx.Module,
        teacher: Network | None,
        images: Any,
        labels: Int[Array, " batch"],
        rows: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Compute the loss of a batch.

        Args:
            student: The student.
            teacher: The teacher, or None.
            images: A batch as the networks receive it.
            labels: Class numbers.
            rows: Row numbers in the training set; methods with a bank need them.

        Returns:
            The mean loss, and the distiller's metrics.
        """
        layers = self.distiller.layers
        output = call(student, images, layers.student, train=True)
        known = None
        if teacher is not None:
            known = call(teacher, images, layers.teacher, train=False)
            known = jax.lax.stop_gradient(known)
        batch = Batch(
            images,
            _checks.as_class_numbers(labels),
            rows,
            self.noise(),
            step=self.step[...],
            steps_per_epoch=self.steps_per_epoch,
        )
        values = (_values(self.heads), _values(self.extra))
        per_example, extra, metrics = self.distiller.loss(*values, output, known, batch)
        jax.tree.map(_assign, self.extra, extra, is_leaf=_is_variable)
        self.step[...] += 1
        return jnp.mean(per_example), metrics


def check_steps_are_alike(distiller: Distiller) -> None:
    """Raise if a method needs more than a step that is repeated."""
    does = None
    if distiller.pretraining is not None:
        does = "has a stage of pretraining"
    elif distiller.student is not None:
        does = "changes the student's network"
    if does is not None:
        raise InvalidInputError(
            f"distiller {does}, which only training.compile_program supports",
            argument="distiller",
        )


def _values(tree: Any) -> Any:
    return jax.tree.map(lambda v: v[...], tree, is_leaf=_is_variable)


def _assign(variable: nnx.Variable, value: Any) -> None:
    variable[...] = jax.lax.stop_gradient(value)


def _is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)

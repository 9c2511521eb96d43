"""Networks as functions of their variables."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import ArrayLike

from jaxkd._errors import InvalidInputError
from jaxkd.data import Normalization, normalize
from jaxkd.distillers import Classifier
from jaxkd.models import ModelOutput, fold_batch_norms

# Of the tuple that a function may return in place of a ModelOutput.
_LENGTHS = range(2, len(ModelOutput._fields) + 1)

Apply = Callable[[Any, jax.Array], ModelOutput]


class FrozenNetwork(NamedTuple):
    """A network in inference mode: nothing in it changes or is trained.

    Attributes:
        apply: ``(variables, images) -> ModelOutput``; images are as stored (uint8, or
            floats in ``[0, 1]``), NHWC.
        variables: The network's parameters, statistics and normalisation.
        classifier: The linear layer that makes its logits, if the network has one in
            the attribute ``classifier``: for methods that use it again.
    """

    apply: Apply
    variables: Any
    classifier: Classifier | None = None


def inference_view(network: nnx.Module) -> nnx.Module:
    """The same network and arrays, with running statistics and no dropout."""
    return nnx.view(
        network,
        # To Flax an Rngs, which makes a stream of any name, has the method that a view
        # calls, and would draw a key: no view of an abstract network could be taken.
        only=lambda path, node: not isinstance(node, nnx.Rngs),
        use_running_average=True,
        deterministic=True,
        raise_if_not_found=False,  # a network without such layers is its own view
    )


def freeze(
    network: nnx.Module | Callable[[jax.Array], tuple],
    normalization: Normalization | None = None,
) -> FrozenNetwork:
    """Prepares a network for inference, variables as they are.

    For a teacher, there is :func:`freeze_teacher`. This is for variables that go on
    changing, such as those of a student in training.

    Args:
        network: A Flax NNX module that returns :class:`jaxkd.models.ModelOutput`, or
            any function ``images -> (logits, embedding)`` for methods that read no
            stages.
        normalization: Applied to the images before the network sees them; without
            it, it sees floats in ``[0, 1]``.

    Returns:
        The network as an inference function and its variables. Applied, it raises
        ``InvalidInputError`` if the network does not return what every model must.
    """
    if not isinstance(network, nnx.Module):

        def apply_function(variables, images):
            output = network(network_inputs(images, variables["normalization"]))
            if isinstance(output, tuple) and len(output) in _LENGTHS:
                output = ModelOutput(*output)
            return check_output(output, "a function that is a network")

        return FrozenNetwork(apply_function, {"normalization": normalization})

    graphdef, state = nnx.split(inference_view(network))

    def apply(variables, images):
        # The copy may count what it draws, and does so for itself alone.
        module = nnx.merge(graphdef, variables["state"], copy=True)
        output = module(network_inputs(images, variables["normalization"]))
        return check_output(output, type(network).__name__)

    variables = {"state": state, "normalization": normalization}
    return FrozenNetwork(apply, variables, _classifier(network))


def freeze_teacher(
    network: nnx.Module | Callable[[jax.Array], tuple],
    normalization: Normalization | None = None,
) -> FrozenNetwork:
    """Prepares a network that will not change again: a teacher, or one to evaluate.

    As :func:`freeze`, with the batch norms of the zoo's networks folded into the
    convolutions before them (:func:`jaxkd.models.fold_batch_norms`): the same outputs
    up to rounding, of a smaller program.

    Args:
        network: A Flax NNX module, or any function ``images -> (logits, embedding)``.
        normalization: Applied to the images before the network sees them.

    Returns:
        The network as an inference function and its variables.
    """
    if isinstance(network, nnx.Module):
        network = fold_batch_norms(network)
    return freeze(network, normalization)


def check_output(output: Any, network: str) -> ModelOutput:
    """Returns what a network has returned, if it is what every network must.

    Raises:
        InvalidInputError: If it is not, naming the network and what it was.
    """
    if not isinstance(output, ModelOutput):
        if isinstance(output, tuple | list):
            found = f"a {type(output).__name__} of length {len(output)}"
        elif hasattr(output, "shape"):
            found = f"an array of shape {tuple(output.shape)}"
        else:
            found = f"a {type(output).__name__}"
        raise InvalidInputError(
            f"{network} must return jaxkd.models.ModelOutput(logits, embedding), "
            f"embedding being what the last layer makes the logits of, got {found}; "
            "feature maps may follow as stages=(...)"
        )
    for field, axes in (("logits", "classes"), ("embedding", "features")):
        shape = jnp.shape(getattr(output, field))
        if len(shape) != 2:
            raise InvalidInputError(
                f"{network} must return {field} of shape [batch, {axes}], got "
                f"{list(shape)}; pool or flatten them"
            )
    return output


def _classifier(network: nnx.Module) -> Classifier | None:
    found = getattr(network, "classifier", None)
    if not isinstance(found, nnx.Linear):
        return None
    kernel = found.kernel.get_value()  # perhaps abstract
    bias = found.bias
    if bias is None:
        return Classifier(kernel, jnp.zeros(kernel.shape[-1:], kernel.dtype))
    return Classifier(kernel, bias.get_value())


def network_inputs(images: ArrayLike, normalization: Normalization | None) -> jax.Array:
    """Stored images as a network takes them: floats, in [0, 1] or normalised."""
    if normalization is None:
        channels = jnp.shape(images)[-1:]
        normalization = Normalization(jnp.zeros(channels), jnp.ones(channels))
    return normalize(images, normalization)

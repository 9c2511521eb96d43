"""Networks in inference mode, as functions of their variables."""

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

# Lengths of the tuple that a function may return instead of a ModelOutput.
_LENGTHS = range(2, len(ModelOutput._fields) + 1)

Apply = Callable[[Any, jax.Array], ModelOutput]


class FrozenNetwork(NamedTuple):
    """A network in inference mode: it is not trained, and its variables do not change.

    Attributes:
        apply: ``(variables, images) -> ModelOutput``. Images are as stored (uint8, or
            floats in ``[0, 1]``), NHWC.
        variables: The network's parameters, statistics and normalization.
        classifier: The linear layer that computes the logits, if the network has one
            in the attribute ``classifier``. Some methods reuse it.
    """

    apply: Apply
    variables: Any
    classifier: Classifier | None = None


def inference_view(network: nnx.Module) -> nnx.Module:
    """Return a view of the network with running statistics and without dropout."""
    return nnx.view(
        network,
        # An Rngs creates a stream for any name, so Flax would take it for a layer with
        # a `set_view` method and draw a key. Abstract networks would have no view.
        only=lambda path, node: not isinstance(node, nnx.Rngs),
        use_running_average=True,
        deterministic=True,
        raise_if_not_found=False,  # a network may have no such layers
    )


def freeze(
    network: nnx.Module | Callable[[jax.Array], tuple],
    normalization: Normalization | None = None,
) -> FrozenNetwork:
    """Prepare a network for inference and keep its variables as they are.

    Use :func:`freeze_teacher` for a teacher. This function is for variables that
    continue to change, such as those of a student in training.

    Args:
        network: A Flax NNX module that returns :class:`jaxkd.models.ModelOutput`, or
            any function ``images -> (logits, embedding)`` for methods that read no
            stages.
        normalization: Applied to the images before the network sees them. Without it,
            the network sees floats in ``[0, 1]``.

    Returns:
        The network as an inference function and its variables. The function raises
        ``InvalidInputError`` if the network does not return a valid output.
    """
    if not isinstance(network, nnx.Module):

        def apply_function(variables, images):
            output = network(network_inputs(images, variables["normalization"]))
            if isinstance(output, tuple) and len(output) in _LENGTHS:
                output = ModelOutput(*output)
            return check_output(output, "the network function")

        return FrozenNetwork(apply_function, {"normalization": normalization})

    graphdef, state = nnx.split(inference_view(network))

    def apply(variables, images):
        # Draws of random numbers are counted in this copy alone.
        module = nnx.merge(graphdef, variables["state"], copy=True)
        output = module(network_inputs(images, variables["normalization"]))
        return check_output(output, type(network).__name__)

    variables = {"state": state, "normalization": normalization}
    return FrozenNetwork(apply, variables, _classifier(network))


def freeze_teacher(
    network: nnx.Module | Callable[[jax.Array], tuple],
    normalization: Normalization | None = None,
) -> FrozenNetwork:
    """Prepare a network that will not change again: a teacher, or one to evaluate.

    This is :func:`freeze` with the batch norms of jaxkd's networks folded into the
    convolutions before them (:func:`jaxkd.models.fold_batch_norms`). The outputs are
    the same up to rounding, from a smaller program.

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
    """Return the output of a network if it is a valid :class:`ModelOutput`.

    Args:
        output: The value that the network returned.
        network: The network's name, for the error message.

    Raises:
        ValueError: If the output is of another type, or its logits or embedding are
            not matrices.
    """
    if not isinstance(output, ModelOutput):
        if isinstance(output, tuple | list):
            found = f"a {type(output).__name__} of length {len(output)}"
        elif hasattr(output, "shape"):
            found = f"an array of shape {tuple(output.shape)}"
        else:
            found = f"a {type(output).__name__}"
        raise InvalidInputError(
            f"{network} must return jaxkd.models.ModelOutput(logits, embedding), got "
            f"{found}. The embedding is the input of the layer that computes the "
            "logits; feature maps may follow as stages=(...).",
            argument="network",
        )
    for field, axes in (("logits", "classes"), ("embedding", "features")):
        shape = jnp.shape(getattr(output, field))
        if len(shape) != 2:
            raise InvalidInputError(
                f"{network} must return {field} of shape [batch, {axes}], got "
                f"{list(shape)}. Pool or flatten them.",
                argument="network",
            )
    return output


def _classifier(network: nnx.Module) -> Classifier | None:
    """Return the network's linear classifier, or None if it has none."""
    found = getattr(network, "classifier", None)
    if not isinstance(found, nnx.Linear):
        return None
    kernel = found.kernel.get_value()  # perhaps abstract
    bias = found.bias
    if bias is None:
        return Classifier(kernel, jnp.zeros(kernel.shape[-1:], kernel.dtype))
    return Classifier(kernel, bias.get_value())


def network_inputs(images: ArrayLike, normalization: Normalization | None) -> jax.Array:
    """Convert stored images to a network's input: floats in [0, 1], or normalized."""
    if normalization is None:
        channels = jnp.shape(images)[-1:]
        normalization = Normalization(jnp.zeros(channels), jnp.ones(channels))
    return normalize(images, normalization)

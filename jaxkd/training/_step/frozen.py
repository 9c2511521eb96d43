"""Networks in inference mode, as functions of their variables."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import ArrayLike, DTypeLike

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data import Normalization, normalize
from jaxkd.distillers import Classifier
from jaxkd.distillers._spec import classifier_of
from jaxkd.models import LinenNetwork, ModelOutput, ReusedClassifier, fold_batch_norms
from jaxkd.models._capture import output_of
from jaxkd.models._mode import inference_view, mode_arguments, name_of
from jaxkd.models._output import as_output
from jaxkd.training._step.converted import convert_layers

# Lengths of the tuple that a function may return instead of a ModelOutput: logits and
# embedding, then feature maps.
_LENGTHS = range(2, 5)

Apply = Callable[[Any, jax.Array], ModelOutput]

NetworkFunction = Callable[[jax.Array], ArrayLike | ModelOutput | tuple[Any, ...]]
"""A network as a function of images: it returns logits, or logits and an embedding."""


class FrozenNetwork(NamedTuple):
    """A network in inference mode: it is not trained, and its variables do not change.

    Attributes:
        apply: ``(variables, images) -> ModelOutput``. Images are as stored (uint8, or
            floats in ``[0, 1]``), NHWC.
        variables: The network's parameters, statistics and normalization.
        classifier: The linear layer that computes the logits, if the network has one
            in the attribute ``classifier``. Some methods reuse it.
        unverified: The network's name, if it is not one of jaxkd's. Before it is used,
            :func:`compile_program` verifies that its answer for an image does not
            depend on the rest of the batch.
        capture: Returns the same network with the outputs of layers; None if the
            network itself returns all that it has.
    """

    apply: Apply
    variables: Any
    classifier: Classifier | None = None
    unverified: str | None = None
    capture: Callable[[tuple[str, ...]], "FrozenNetwork"] | None = None

    def __call__(self, images: ArrayLike) -> ModelOutput:
        """Apply the network to images as they are stored."""
        return self.apply(self.variables, jnp.asarray(images))

    def __repr__(self) -> str:
        arrays = jax.tree.leaves(self.variables)
        name = "" if self.unverified is None else f"{self.unverified}, "
        return f"FrozenNetwork({name}variables={sum(map(jnp.size, arrays))})"

    def with_layers(self, paths: Sequence[str]) -> "FrozenNetwork":
        """Return the network whose output also has those of the layers at these paths.

        Args:
            paths: Paths of layers (:func:`jaxkd.models.layers`). An error in a path is
                raised by the call.

        Returns:
            The network, which returns them in :attr:`ModelOutput.layers`.
        """
        if not paths or self.capture is None:
            return self
        return self.capture(tuple(paths))


def freeze(
    network: nnx.Module | NetworkFunction,
    normalization: Normalization | None = None,
) -> FrozenNetwork:
    """Prepare a network for inference and keep its variables as they are.

    Use :func:`freeze_teacher` for a teacher. This function is for variables that
    continue to change, such as those of a student in training.

    Layers are switched to inference mode by their attributes, and the network's call by
    its arguments: a flag such as ``train``, ``training``, ``is_training``,
    ``deterministic``, ``inference`` or ``use_running_average`` is passed with its
    value in inference mode.

    Args:
        network: A Flax NNX module that returns logits or a
            :class:`jaxkd.models.ModelOutput`, or a function of images that returns
            either, or ``(logits, embedding)``.
        normalization: Applied to the images before the network sees them. Without it,
            the network sees floats in ``[0, 1]``.

    Returns:
        The network as an inference function and its variables. The function raises
        ``InvalidInputError`` if the network does not return a valid output.

    Raises:
        InvalidInputError: If the network requires arguments that are not known.
    """
    if not isinstance(network, nnx.Module):
        return _freeze_function(network, normalization)
    arguments = mode_arguments(network, train=False)
    graphdef, state = nnx.split(inference_view(network))
    name, classifier = type(network).__name__, _classifier(network)
    unverified = None if _is_own(network) else name
    variables = {"state": state, "normalization": normalization}

    def with_layers(paths: tuple[str, ...]) -> FrozenNetwork:
        def apply(variables, images):
            # Draws of random numbers are counted in this copy alone.
            module = nnx.merge(graphdef, variables["state"], copy=True)
            inputs = network_inputs(images, variables["normalization"])
            return output_of(module, inputs, paths, name=name, **arguments)

        return FrozenNetwork(apply, variables, classifier, unverified, with_layers)

    return with_layers(())


def _freeze_function(
    network: NetworkFunction, normalization: Normalization | None
) -> FrozenNetwork:
    """Prepare a function of images; its arrays become constants."""
    if isinstance(network, linen.Module) and network.scope is None:
        raise InvalidInputError(
            f"network {type(network).__name__} is a Linen module without its "
            "variables. Wrap both with models.from_linen(module, variables=..., "
            "image_shape=..., rngs=...).",
            argument="network",
        )
    if isinstance(network, FrozenNetwork):
        raise InvalidInputError(
            "network is frozen already. Use it as it is; its images would be "
            "normalized twice.",
            argument="network",
        )
    if any(
        kind.__module__.startswith("torch.") for kind in inspect.getmro(type(network))
    ):
        raise InvalidTypeError(
            f"network must be a JAX network, got a PyTorch {type(network).__name__}. "
            "Save its state_dict(), and use `jaxkd convert`.",
            argument="network",
        )
    if inspect.isclass(network):
        raise InvalidTypeError(
            f"network must be built, got the class {network.__name__}. Call it, such "
            f"as {network.__name__}(..., rngs=rngs).",
            argument="network",
        )
    if not callable(network):
        raise InvalidTypeError(
            "network must be a Flax NNX module or a function of images, got "
            f"{type(network).__name__}",
            argument="network",
        )
    arguments = mode_arguments(network, train=False)

    def apply(variables, images):
        inputs = network_inputs(images, variables["normalization"])
        output: Any = network(inputs, **arguments)
        if type(output) is tuple and len(output) in _LENGTHS:
            fields: Any = output
            output = ModelOutput(*fields)
        return as_output(output, "the network function", rows=jnp.shape(images)[0])

    variables = {"normalization": normalization}
    return FrozenNetwork(apply, variables, unverified=name_of(network))


def _is_own(network: nnx.Module) -> bool:
    """Return whether a network consists of jaxkd's and Flax's modules only."""
    kinds = [type(module) for _, module in nnx.iter_modules(network)]
    return type(network).__module__.startswith("jaxkd.models.") and all(
        kind.__module__.startswith(("jaxkd.models.", "flax.nnx."))
        and not issubclass(kind, LinenNetwork)  # which contains a module of its user
        for kind in kinds
    )


def freeze_teacher(
    network: nnx.Module | NetworkFunction,
    normalization: Normalization | None = None,
    *,
    dtype: DTypeLike | None = None,
) -> FrozenNetwork:
    """Prepare a network that will not change again: a teacher, or one to evaluate.

    This is :func:`freeze` with the batch norms of jaxkd's networks folded into the
    convolutions before them (:func:`jaxkd.models.fold_batch_norms`). The outputs are
    the same up to rounding, from a smaller program.

    With a ``dtype``, convolutions and linear layers compute in it, from weights that
    are converted here, once. Normalizations and the images' normalization keep their
    dtype, and all outputs are float32, as the losses expect them. The classifier that
    some methods reuse keeps its dtype, too.

    Args:
        network: A Flax NNX module, or a function of images, as for :func:`freeze`.
        normalization: Applied to the images before the network sees them.
        dtype: Dtype of the computation, such as ``jnp.bfloat16``. By default the
            network computes in its own.

    Returns:
        The network as an inference function and its variables.

    Raises:
        InvalidInputError: If ``dtype`` is not floating point, or the network has no
            layer of Flax NNX that could compute in it.
    """
    original = network
    if isinstance(network, nnx.Module):
        network = fold_batch_norms(network)
    frozen = freeze(network, normalization)
    if dtype is not None:
        frozen = _computing_in(dtype, network, frozen, normalization)
    if frozen.capture is None:
        return frozen

    def with_layers(paths: tuple[str, ...]) -> FrozenNetwork:
        # A folded convolution returns the output of the normalization after it.
        unfolded = freeze(original, normalization)
        if dtype is not None:
            unfolded = _computing_in(dtype, original, unfolded, normalization)
        return unfolded.with_layers(paths)

    return frozen._replace(capture=with_layers)


def _computing_in(
    dtype: DTypeLike,
    network: Any,
    frozen: FrozenNetwork,
    normalization: Normalization | None,
) -> FrozenNetwork:
    """Return a frozen network whose layers compute in a dtype, with float32 outputs."""
    converted = freeze(convert_layers(network, dtype), normalization)

    def with_layers(paths: tuple[str, ...]) -> FrozenNetwork:
        capturing = converted.with_layers(paths)

        def apply(variables, images):
            # Layers of other dtypes receive the output of those that were converted.
            with jax.numpy_dtype_promotion("standard"):
                output = capturing.apply(variables, images)
            return jax.tree.map(lambda x: x.astype(jnp.float32), output)

        return frozen._replace(
            apply=apply, variables=converted.variables, capture=with_layers
        )

    return with_layers(())


def check_classes(logits: int, classes: int, network: str) -> None:
    """Raise unless a network has a logit for each class of the labels."""
    if logits < classes:
        raise InvalidInputError(
            f"{network} has {logits} logits, but the labels have {classes} classes. "
            "Use a network with a logit for each class, or a dataset of its classes.",
            argument="network",
        )


def _classifier(network: nnx.Module) -> Classifier | None:
    """Return the network's linear classifier, or None if it has none."""
    if isinstance(network, ReusedClassifier):
        return Classifier(network.kernel.get_value(), network.bias.get_value())
    return classifier_of(network)


def network_inputs(images: ArrayLike, normalization: Normalization | None) -> jax.Array:
    """Convert stored images to a network's input: floats in [0, 1], or normalized."""
    if normalization is None:
        channels = jnp.shape(images)[-1:]
        normalization = Normalization(jnp.zeros(channels), jnp.ones(channels))
    return normalize(images, normalization)

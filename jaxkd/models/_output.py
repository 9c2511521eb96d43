"""Output of all networks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkd._errors import InvalidInputError
from jaxkd._math import TopLogits
from jaxkd._text import array_type


class ModelOutput(NamedTuple):
    """Logits of a network, and the features that distillers can read.

    XLA removes features that no distiller reads from the compiled step.

    Attributes:
        logits: Unnormalized log-probabilities of the classes.
        embedding: Input of the classifier, after global pooling. It has no features if
            the network returns logits alone.
        stages: Feature maps (NHWC) from the stem to the last stage, after the
            activation. Empty for networks without stages.
        preactivations: The same maps before their activation. In jaxkd's networks, the
            stem's map is after its activation, as in the published benchmarks. Networks
            of pre-activation blocks have another convention: see :class:`WideResNet`.
        layers: Outputs of the layers that a distiller names
            (:attr:`jaxkd.distillers.Distiller.layers`), by the path that names them:
            several, if the path contains ``*``. A network may also return outputs of
            its own here, under any name.
        top_logits: The logits that were recorded, if a recorded teacher's other logits
            are not known; ``logits`` then has one number for all others.
    """

    logits: Float[Array, "batch classes"]
    embedding: Float[Array, "batch features"]
    stages: tuple[Float[Array, "batch ..."], ...] = ()
    preactivations: tuple[Float[Array, "batch ..."], ...] = ()
    layers: Mapping[str, tuple[Float[Array, "batch ..."], ...]] = {}
    top_logits: TopLogits | None = None

    def __repr__(self) -> str:
        fields = self._asdict().items()
        shown = (f"{k}={_types(x)}" for k, x in fields if not _is_empty(x))
        return f"ModelOutput({', '.join(shown)})"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, tuple | Mapping) and not value)


def _types(value: Any) -> str:
    """Describe an array, or those in a tuple or mapping, by dtype and shape."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {_types(x)}' for k, x in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_types, value))})"
    return array_type(value)


def as_output(output: Any, network: str, *, rows: Any) -> ModelOutput:
    """Return the output of a network as a valid :class:`ModelOutput`.

    Args:
        output: The value that the network returned: a :class:`ModelOutput`, or an array
            of logits.
        network: The network's name, for the error message.
        rows: The number of images; symbolic, if a program for any number is exported.

    Raises:
        InvalidInputError: If the output is of another type, or its logits or embedding
            are not matrices with one row per image.
    """
    if hasattr(output, "shape"):
        output = ModelOutput(output, jnp.zeros((rows, 0), output.dtype))
    if not isinstance(output, ModelOutput):
        found = f"a {type(output).__name__}"
        if isinstance(output, tuple | list):
            found += f" of length {len(output)}"
        raise InvalidInputError(
            f"{network} must return logits or jaxkd.models.ModelOutput(logits, "
            f"embedding), got {found}. The embedding is the input of the layer that "
            "computes the logits; feature maps may follow as stages=(...).",
            argument="network",
        )
    for field, axes in (("logits", "classes"), ("embedding", "features")):
        value = getattr(output, field)
        shape = getattr(value, "shape", None)
        if shape is None or len(shape) != 2:
            found = type(value).__name__ if shape is None else list(shape)
            raise InvalidInputError(
                f"{network} must return {field} of shape [batch, {axes}], got "
                f"{found}. Pool or flatten them.",
                argument="network",
            )
        if shape[0] != rows:
            raise InvalidInputError(
                f"{network} must return one row of {field} for each image, got "
                f"{list(shape)} for {rows} images. Keep the batch as the first axis.",
                argument="network",
            )
    named = {
        name: value if isinstance(value, tuple) else (value,)
        for name, value in output.layers.items()
    }
    return output._replace(layers=named)

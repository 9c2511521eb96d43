"""Write a network as an ONNX file whose logits are those of JAX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import check_free, write_whole
from jaxkd.interchange._to_onnx.graph import BATCH
from jaxkd.interchange._to_onnx.runtime import Session, require_onnx
from jaxkd.interchange._to_onnx.translate import to_onnx
from jaxkd.training import FrozenNetwork
from jaxkd.training._step import verify_inference_mode

# Sums in another order change a logit by some ulps (1e-7) of the largest value that
# they add, which is larger than the largest logit in deep networks.
TOLERANCE = 1e-4
_IMAGES = 8  # that are compared, in batches of one and of the rest


class OnnxCheck(NamedTuple):
    """How well an ONNX file computes a network.

    Attributes:
        deviation: Largest difference of a logit between ONNX Runtime and JAX.
        largest: Largest absolute value of a logit in JAX.
        num_images: Number of random images that were compared.
        size: Size of the file in bytes.
    """

    deviation: float
    largest: float
    num_images: int
    size: int


def export_onnx(
    network: FrozenNetwork,
    image_shape: tuple[int, int, int],
    *,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Export a network's inference function as an ONNX model with its weights.

    The traced program is translated operation by operation. It may have the operations
    of all networks of :func:`jaxkd.models.names`, and most of those of convolutional
    networks and transformers, but no loops.

    Args:
        network: Result of :func:`jaxkd.training.freeze_teacher`, which folds batch
            normalizations, or of :func:`jaxkd.training.freeze`. The normalization of
            the images is part of the model.
        image_shape: Height, width and channels.
        metadata: Strings by name for the file's metadata.

    Returns:
        An ``onnx.ModelProto`` that maps the input ``images``, uint8
        ``[batch, height, width, channels]`` for any batch size, to the output
        ``logits``, float32 ``[batch, classes]``.

    Raises:
        InvalidInputError: If the network does not accept such images, has an operation
            that cannot be translated, computes in 16 bits, or is one of yours and not
            in inference mode; or if the package onnx is not installed.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import interchange, models, training
        >>> model = models.MLP(64, (32,), num_classes=10, rngs=nnx.Rngs(0))
        >>> frozen = training.freeze_teacher(model)
        >>> exported = interchange.export_onnx(frozen, (8, 8, 1))
        >>> [x.name for x in (*exported.graph.input, *exported.graph.output)]
        ['images', 'logits']
    """
    require_onnx()
    verify_inference_mode(network, image_shape, jnp.uint8)
    (batch,) = jax.export.symbolic_shape(BATCH)
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)

    @jax.jit
    def logits(images: jax.Array) -> jax.Array:
        output = network.apply(network.variables, images)
        return output.logits.astype(jnp.float32)

    return to_onnx(logits.trace(images).jaxpr, dict(metadata or {}))


def write_onnx(
    path: Path,
    network: FrozenNetwork,
    image_shape: tuple[int, int, int],
    *,
    description: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> OnnxCheck:
    """Write the model of :func:`export_onnx`, once ONNX Runtime computes its logits.

    Args:
        path: File to write.
        network: As for :func:`export_onnx`.
        image_shape: Height, width and channels.
        description: Entries of the file's metadata, such as classes and training data.
            Other values than strings are written as JSON.
        tolerance: Largest difference of a logit from that of JAX, as a share of the
            largest absolute logit, or of 1 if all are smaller.

    Returns:
        The largest difference that was found on random images.

    Raises:
        InvalidInputError: If the file exists, a package is missing, the network cannot
            be translated, or the logits differ by more than the tolerance. In that
            case, nothing is written.
    """
    path = Path(path)
    check_free(path)
    metadata = {
        name: value if isinstance(value, str) else _json.dumps(value)
        for name, value in (description or {}).items()
        if value is not None
    }
    model = export_onnx(network, image_shape, metadata=metadata)
    content = model.SerializeToString(deterministic=True)
    check = _compare(content, network, image_shape)
    if not check.deviation <= tolerance * max(1.0, check.largest):
        raise InvalidInputError(
            f"network has logits in ONNX Runtime that differ from JAX's by up to "
            f"{check.deviation:.2g}, where the largest is {check.largest:.3g} and the "
            f"tolerance {tolerance:g}. Nothing was written. Export it as StableHLO.",
            argument="network",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return check


def _compare(
    content: bytes, network: FrozenNetwork, image_shape: tuple[int, int, int]
) -> OnnxCheck:
    """Compare the logits of ONNX Runtime and JAX for random images."""
    random = np.random.default_rng(0)
    brightness = np.linspace(32, 256, _IMAGES).reshape(-1, 1, 1, 1)
    images = random.uniform(0, brightness, (_IMAGES, *image_shape)).astype(np.uint8)
    run = jax.jit(lambda variables, images: network.apply(variables, images).logits)
    expected = np.asarray(run(network.variables, images), np.float64)
    session = Session(content)
    # Batches of two sizes: a file for one size would fail here.
    found = np.concatenate([session(images[:1]), session(images[1:])])
    return OnnxCheck(
        float(np.abs(found - expected).max()),
        float(np.abs(expected).max()),
        _IMAGES,
        len(content),
    )

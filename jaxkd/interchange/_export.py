"""Write networks to files that do not need jaxkd: safetensors, StableHLO, Orbax."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import check_free, write_whole
from jaxkd._plain_path import plain_path
from jaxkd.interchange._layout import variables
from jaxkd.interchange._state_dict import to_state_dict
from jaxkd.training import CheckpointError, FrozenNetwork
from jaxkd.training._step import verify_inference_mode

PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(
    network: FrozenNetwork,
    image_shape: tuple[int, int, int],
    *,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """Export a network's inference function as a StableHLO program with its weights.

    Args:
        network: Result of :func:`jaxkd.training.freeze`. The normalization of the
            images is part of the program.
        image_shape: Height, width and channels.
        platforms: Platforms that the program can run on.

    Returns:
        A program that maps uint8 images ``[batch, height, width, channels]``, for any
        batch size, to float32 logits ``[batch, classes]``. ``serialize()`` returns the
        bytes that ``jax.export.deserialize`` reads.

    Raises:
        InvalidInputError: If the network does not accept such images, or is one of
            yours and not in inference mode.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import interchange, models, training
        >>> model = models.MLP(64, (32,), num_classes=10, rngs=nnx.Rngs(0))
        >>> frozen = training.freeze(model)
        >>> exported = interchange.export_stablehlo(frozen, (8, 8, 1))
        >>> exported.call(jnp.zeros((3, 8, 8, 1), jnp.uint8)).shape
        (3, 10)
    """
    verify_inference_mode(network, image_shape, jnp.uint8)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)

    @jax.jit
    def logits(images: jax.Array) -> jax.Array:
        output = network.apply(network.variables, images)
        return output.logits.astype(jnp.float32)

    return jax.export.export(logits, platforms=platforms)(images)


def write_stablehlo(
    path: Path,
    network: FrozenNetwork,
    image_shape: tuple[int, int, int],
    *,
    description: Mapping[str, Any] | None = None,
) -> Path:
    """Write the program of :func:`export_stablehlo` and a JSON description.

    Args:
        path: File to write. The description has the same name with the suffix
            ``.json``.
        network: As for :func:`export_stablehlo`.
        image_shape: Height, width and channels.
        description: Additional entries of the description, such as classes, name and
            training data.

    Returns:
        The path of the description.

    Raises:
        InvalidInputError: If either file exists.
    """
    path = Path(path)
    description_path = path.with_suffix(".json")
    if description_path == path:
        raise InvalidInputError(
            f"path must not be .json, the suffix of the description, got {path}",
            argument="path",
        )
    for file in (path, description_path):
        check_free(file)
    exported = export_stablehlo(network, image_shape)
    (logits,) = exported.out_avals
    content = {
        "file": path.name,
        "input": {
            "shape": ["batch", *image_shape],
            "dtype": "uint8",
            "meaning": "images as stored, 0 to 255, channels last",
        },
        "output": {
            "shape": ["batch", logits.shape[-1]],
            "dtype": "float32",
            "meaning": "logits, unnormalized log-probabilities of the classes",
        },
        "platforms": list(exported.platforms),
        "needs": "pip install jax flatbuffers",
        "load": [
            "from jax import export",
            f"network = export.deserialize(open({path.name!r}, 'rb').read())",
            "logits = network.call(images)",
        ],
        "jax": jax.__version__,
        **(description or {}),
    }
    _write(path, bytes(exported.serialize()))
    _write(description_path, (_json.dumps(content, indent=2) + "\n").encode())
    return description_path


def write_safetensors(
    path: Path, network: nnx.Module, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a network's arrays to a safetensors file.

    They have their names and layout in PyTorch. Networks without published names in
    PyTorch, such as :class:`jaxkd.models.MLP`, are written under their names and layout
    in Flax.

    Args:
        path: File to write.
        network: As for :func:`jaxkd.interchange.to_state_dict`.
        metadata: Strings by name for the file's header.

    Raises:
        InvalidInputError: If the file exists.
    """
    import safetensors.numpy

    path = Path(path)
    check_free(path)
    state = to_state_dict(network)
    _write(path, safetensors.numpy.save(state, metadata=dict(metadata or {})))


def write_orbax(path: Path, network: nnx.Module) -> None:
    """Write a network's arrays by name to a plain Orbax checkpoint.

    ``orbax.checkpoint.StandardCheckpointer().restore(path)`` returns a flat dict with
    names as in the module, such as ``stem.conv.kernel``. Arrays have Flax's layout.

    Args:
        path: Folder to write.
        network: Any Flax NNX module.

    Raises:
        InvalidInputError: If the folder exists.
        CheckpointError: If it cannot be written, for instance on a full disk.
    """
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    path = Path(path)
    check_free(path)
    arrays = {
        ".".join(map(str, name)): variable.get_value()
        for name, variable in variables(network)
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".jaxkd-", dir=path.parent) as folder,
            plain_path(Path(folder)) as plain,
            ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer,
        ):
            saved = plain / "network"
            checkpointer.save(saved, args=ocp.args.StandardSave(arrays))
            saved.rename(path)
    # Orbax and TensorStore raise any of these, depending on where the write fails.
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(f"could not write {path} ({reason})") from error


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)

"""Verify that a network is in inference mode, by what it computes."""

import jax
import numpy as np
from flax.errors import InvalidRngError, ModifyScopeVariableError, TraceContextError

from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput
from jaxkd.training._step.frozen import FrozenNetwork

# Batch statistics and dropout move outputs by about their range, rounding by less than
# a millionth of it: the same program computes the answers that are compared.
_TOLERANCE = 1e-2

# Two batches by the numbers of their images. Image 0 is in different company, in two
# places of each batch.
_BATCHES = np.array([[0, 1, 0, 2], [0, 3, 4, 0]])

_REMEDY = (
    "Its layers must switch by their attributes (use_running_average, deterministic, "
    "training), or its call by an argument with a known name (train, training, "
    "is_training, deterministic, inference, use_running_average). Otherwise, pass a "
    "function of the images that calls it in inference mode."
)


def verify_inference_mode(
    network: FrozenNetwork,
    image_shape: tuple[int, ...],
    dtype: np.dtype | type,
    *,
    role: str = "network",
) -> None:
    """Check that a network's answer for an image does not depend on the others.

    The network computes two small batches of random images in which one image occurs
    in different places and company. Networks of jaxkd are not checked.

    Args:
        network: Result of :func:`freeze`.
        image_shape: Height, width and channels.
        dtype: Dtype of stored images.
        role: What the message calls the network.

    Raises:
        InvalidInputError: If the answers differ.
    """
    if network.unverified is None:
        return
    what = f"{role} {network.unverified} is not in inference mode:"
    images = _random_images(image_shape, np.dtype(dtype))
    run = jax.jit(lambda variables, images: network.apply(variables, images)[:2])
    try:
        first, second = (
            jax.device_get(run(network.variables, images[rows])) for rows in _BATCHES
        )
    except (TraceContextError, ModifyScopeVariableError, InvalidRngError) as error:
        random = isinstance(error, InvalidRngError)
        does = "draws random numbers" if random else "changes its variables"
        raise InvalidInputError(
            f"{what} its call {does}. {_REMEDY} For a module inside of a function, use "
            "training.inference_view(module).",
            argument=role,
        ) from error
    for field, a, b in zip(ModelOutput._fields, first, second, strict=False):
        outputs = np.asarray([a, b], np.float64)
        extent = np.ptp(outputs)
        same = outputs[_BATCHES == 0]
        distance = np.abs(same - same[0]).max()
        if distance > _TOLERANCE * extent:
            raise InvalidInputError(
                f"{what} its {field} for an image change with the other images of the "
                f"batch, or on random numbers (the same image gave values "
                f"{distance:.2g} apart, in a range of {extent:.2g}). {_REMEDY}",
                argument=role,
            )


def _random_images(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return images of different brightness and contrast."""
    rng = np.random.default_rng(0)
    count = _BATCHES.max() + 1
    ends = rng.permutation(np.linspace(0.1, 1, count)).reshape(-1, *[1] * len(shape))
    images = rng.uniform(0, ends, (count, *shape))
    if np.issubdtype(dtype, np.integer):
        images = images * np.iinfo(dtype).max
    return images.astype(dtype)

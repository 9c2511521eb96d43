"""Verify that a network is in inference mode, by what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError, ModifyScopeVariableError, TraceContextError

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.models import ModelOutput
from jaxkd.training._step.frozen import FrozenNetwork

# Batch statistics and dropout move an output by about its range over the images.
# Rounding moves it by less than some ulps of the largest output: the same program
# computes the answers that are compared.
_TOLERANCE, _ULPS = 1e-2, 8

# Two batches by the numbers of their images. Image 0 is in different company, in two
# places of each batch.
_BATCHES = np.array([[0, 1, 0, 2], [0, 3, 4, 0]])

# Errors of a call that needs the values of traced arrays.
UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
)

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
    if not isinstance(network, FrozenNetwork):
        raise InvalidTypeError(
            f"{role} must be frozen, got {type(network).__name__}. Pass training."
            "freeze_teacher(network, normalization).",
            argument=role,
        )
    if network.unverified is None:
        return
    what = f"{role} {network.unverified} is not in inference mode:"
    images = _random_images(image_shape, np.dtype(dtype))
    run = jax.jit(lambda variables, images: network.apply(variables, images)[:2])
    try:
        first, second = (
            jax.device_get(run(network.variables, images[rows])) for rows in _BATCHES
        )
    except UNTRACEABLE as error:
        raise untraceable(f"{role} {network.unverified}", error, role) from error
    except (TraceContextError, ModifyScopeVariableError, InvalidRngError) as error:
        random = isinstance(error, InvalidRngError)
        does = "draws random numbers" if random else "changes its variables"
        raise InvalidInputError(
            f"{what} its call {does}. {_REMEDY} For a module inside of a function, use "
            "training.inference_view(module).",
            argument=role,
        ) from error
    for field, a, b in zip(ModelOutput._fields, first, second, strict=False):
        rounding = _ULPS * float(jnp.finfo(a.dtype).eps) if _is_float(a) else 0.0
        distance, extent = _largest_change(np.asarray([a, b], np.float64), rounding)
        if distance:
            raise InvalidInputError(
                f"{what} its {field} for an image change with the other images of the "
                f"batch, or on random numbers (the same image gave values "
                f"{distance:.2g} apart, in a range of {extent:.2g}). {_REMEDY}",
                argument=role,
            )


def _largest_change(outputs: np.ndarray, rounding: float) -> tuple[float, float]:
    """Return how far apart the answers for the same image are, and the range.

    Each output is compared with its own range: a large constant in one must not hide
    the changes of another. Outputs that are infinite or NaN must be so everywhere.

    Args:
        outputs: Outputs of all images of both batches, ``[2, batch, outputs]``.
        rounding: Share of the largest output that rounding may change.

    Returns:
        The largest distance in an output and the range of this output, or zeros if all
        distances are small.
    """
    if not outputs.size:  # of a network without an embedding
        return 0.0, 0.0
    finite = np.isfinite(outputs)
    same, same_finite = outputs[_BATCHES == 0], finite[_BATCHES == 0]
    kinds = np.where(same_finite, 0.0, np.nan_to_num(same, nan=1.0, posinf=2.0))
    if (kinds != kinds[:1]).any():
        return np.inf, np.inf
    values = np.where(finite, outputs, 0.0)
    distances = np.ptp(values[_BATCHES == 0], axis=0)
    extents = np.ptp(values.reshape(-1, values.shape[-1]), axis=0)
    allowed = np.maximum(_TOLERANCE * extents, rounding * np.abs(values).max(initial=0))
    worst = np.argmax(distances - allowed)
    if distances[worst] <= allowed[worst]:
        return 0.0, 0.0
    return distances[worst], extents[worst]


def _is_float(x: np.ndarray) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def untraceable(what: str, error: Exception, role: str) -> InvalidInputError:
    """Return the error for a network whose call needs concrete values."""
    place = next((x for x in str(error).splitlines() if "tracing" in x), "")
    return InvalidInputError(
        f"{what} cannot be compiled: its call converts traced values to NumPy or "
        f"Python. {place.strip()} Write it with jax.numpy; if the call is compiled "
        "with jax.jit already, declare a flag such as train as static "
        "(static_argnames='train').",
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

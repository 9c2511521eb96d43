"""Find the range of image values, check it, and map other ranges to 0 to 1."""

import math
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data._stream import Streamed, chunks

# Resampling exceeds the range of its input by a little.
OVERSHOOT = 1e-3
# Largest values of images in common use: 4, 8, 12 and 16 bits.
_USUAL_MAXIMA = (16, 255, 4095, 65535)
# A set whose brightest value is a smaller share of the range is probably scaled wrong.
_DARK = 1 / 8


def value_range(
    images: np.ndarray | Streamed,
) -> tuple[float | int, float | int]:
    """Return the smallest and the largest value of images.

    Args:
        images: Images ``[rows, height, width, channels]``. Streamed images are not read
            if their range is known.

    Returns:
        The minimum and the maximum, as stored: 0 to 255 for uint8.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> data.value_range(np.array([3, 7], np.uint8).reshape(2, 1, 1, 1))
        (3, 7)
    """
    lows, highs = channel_ranges(images)
    return lows.min().item(), highs.max().item()


def channel_ranges(images: np.ndarray | Streamed) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of each channel."""
    if isinstance(images, Streamed) and images.ranges is not None:
        return images.ranges
    lows, highs = [], []
    for chunk in chunks(images):
        # Reducing long rows first is many times faster than reducing over all axes.
        flat = chunk.reshape(len(chunk), -1)
        lows.append(flat.min(0).reshape(-1, chunk.shape[-1]).min(0))
        highs.append(flat.max(0).reshape(-1, chunk.shape[-1]).max(0))
    return np.min(lows, axis=0), np.max(highs, axis=0)


def ranges_of_histogram(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute :func:`channel_ranges` of uint8 images from their histogram."""
    found = histogram > 0
    lows, highs = found.argmax(1), 255 - found[:, ::-1].argmax(1)
    return lows.astype(np.uint8), highs.astype(np.uint8)


def doubts_about(images: np.ndarray | Streamed) -> tuple[str, ...]:
    """Return probable mistakes in the values of images: constant or nearly black ones.

    Args:
        images: Images of a validated dataset.

    Returns:
        One sentence for each, with the option that corrects it.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> data.doubts_about(np.zeros((2, 4, 4, 1), np.uint8))
        ('all pixels of all images are 0: the images are blank',)
    """
    lows, highs = channel_ranges(images)
    low, high = lows.min(), highs.max()
    if low == high:
        return (f"all pixels of all images are {low:g}: the images are blank",)
    doubts = [
        f"channel {i} is {lows[i]:g} in all pixels of all images"
        for i in np.flatnonzero(lows == highs)
    ]
    top = 255 if images.dtype == np.uint8 else 1
    if high <= _DARK * top:
        doubts.append(
            f"the largest value is {high:g}, though {top} is white: the images are "
            f"nearly black{_likely_cause(high, top)}"
        )
    return tuple(doubts)


def _likely_cause(high: Any, top: int) -> str:
    if top == 1 and high <= (1 + OVERSHOOT) / 255:
        return ". If they were divided by 255 twice, multiply them by 255"
    if top == 1 or high > _USUAL_MAXIMA[0]:
        return ""
    white = 1 if high <= 1 else _USUAL_MAXIMA[0]
    return (
        f". If {white} is white, load their .npz file with value_range=(0, {white}) "
        f"(--value-range 0 {white})"
    )


def check_unit_range(low: Any, high: Any, name: str) -> None:
    """Raise unless the range of floating-point images lies in 0 to 1.

    Args:
        low: Smallest value.
        high: Largest value.
        name: Name of the images in the error message.

    Raises:
        InvalidInputError: If it does not. The message guesses the intended range.
    """
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        low, high = float(low), float(high)
        raise InvalidInputError(
            f"{name} must lie in 0 to 1 if they are floating point, but they lie in "
            f"{low:g} to {high:g}{_guess(low, high)}",
            argument="images",
        )


def dtype_error(images: np.ndarray, name: str) -> InvalidInputError:
    """Build the error for images that are neither uint8 nor floating point."""
    problem = f"{name} must be uint8 or floating point, got dtype {images.dtype}"
    if images.dtype.kind not in "iub":
        return InvalidInputError(problem, argument="images")
    low, high = int(images.min()), int(images.max())
    if low >= 0 and high <= 255 and images.dtype.kind != "b":
        remedy = (
            ": if 255 is white, convert them with astype(np.uint8), or load the .npz "
            "file with value_range=(0, 255) (--value-range 0 255)"
        )
    else:
        remedy = _guess(low, high)
    return InvalidInputError(
        f"{problem}, values {low} to {high}{remedy}", argument="images"
    )


def _guess(low: float | int, high: float | int) -> str:
    """Return a guess of the intended range, and how to map it to 0 to 1."""
    near = lambda bottom, top: low >= bottom - OVERSHOOT and high <= top + OVERSHOOT
    if low >= 0:
        top = next((top for top in (1, *_USUAL_MAXIMA) if high <= top), None)
        if top is not None:
            return f", which looks like 0 to {top}{_remedy(0, top)}"
    elif near(-0.5, 0.5):
        return f", which looks like -0.5 to 0.5{_remedy(-0.5, 0.5)}"
    elif near(-1, 1):
        return f", which looks like -1 to 1{_remedy(-1, 1)}"
    elif high < 20 and low > -20:
        return (
            ", which looks like standardized images: give them as they were before "
            "normalization, in 0 to 1, because jaxkd normalizes images itself"
        )
    elif near(-128, 127):
        return f", which looks like -128 to 127{_remedy(-128, 127)}"
    return (
        ": say which values are black and white with value_range=(LOW, HIGH) "
        "(--value-range LOW HIGH)"
    )


def _remedy(low: float | int, high: float | int) -> str:
    shifted = "x" if low == 0 else f"(x + {-low:g})"
    by_hand = shifted if high - low == 1 else f"{shifted} / {high - low:g}"
    return (
        f": map them to 0 to 1 with {by_hand}, or load the .npz file with "
        f"value_range=({low:g}, {high:g}) (--value-range {low:g} {high:g})"
    )


def checked_value_range(given: Any) -> tuple[float, float]:
    """Check a setting ``value_range`` and return it as two floats.

    Raises:
        InvalidInputError: If it is not two increasing finite numbers.
    """
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        raise InvalidTypeError(
            f"value_range must be two numbers, the values of black and white, got "
            f"{given!r}",
            argument="value_range",
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInputError(
            "value_range must be two finite numbers, black and then white, such as 0 "
            f"255, got {low:g} {high:g}",
            argument="value_range",
        )
    return low, high


def scale_to_unit(
    images: np.ndarray, limits: tuple[float, float], name: str
) -> np.ndarray:
    """Map images from a given range to 0 to 1, as float32.

    Args:
        images: Images of a real dtype, ``[rows, ...]``.
        limits: Value that becomes 0, and value that becomes 1.
        name: Name of the images in error messages.

    Raises:
        InvalidInputError: If a value lies outside the range.
    """
    if images.dtype.kind not in "iubf":
        raise InvalidInputError(
            f"{name} must be numbers, got dtype {images.dtype}", argument="images"
        )
    if images.size == 0 or images.ndim == 0:
        return images  # Refused by the checks of shapes.
    low, high = limits
    scaled = np.empty(images.shape, np.float32)
    start, span = 0, high - low
    for chunk in chunks(images):
        values = chunk.astype(np.float64)
        smallest, largest = values.min(), values.max()
        slack = OVERSHOOT * span
        # Also refuses NaN, which compares as false.
        if not (smallest >= low - slack and largest <= high + slack):
            raise InvalidInputError(
                f"{name} must lie in {low:g} to {high:g}, the given value_range, but "
                f"contain {smallest:g} to {largest:g}: give the values of black and "
                "white (--value-range)",
                argument="value_range",
            )
        scaled[start : start + len(chunk)] = (values - low) / span
        start += len(chunk)
    return scaled

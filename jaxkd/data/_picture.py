"""Convert an opened image to upright, opaque pixels of 8 bits."""

import io
import re
import warnings
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError

WHITE = "#ffffff"
# Part of the cache key. Change it with the pixels, so that old folders are not read.
DECODING = "pixels 2"

_COLORS = {"white": WHITE, "black": "#000000", "gray": "#808080"}
GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B"})
_TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# Where Pillow may keep the orientation of images that are not TIFF.
_METADATA = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
# Tags of TIFF files.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _SMALLEST, _LARGEST = 258, 262, 339, 340, 341
_ORIENTATION = 274
_MOST_PIXELS = 2**27  # Of an image that is scaled before it is cropped.


class UnusablePictureError(ValueError):
    """A picture is intact, but its values or its size cannot be used."""


def checked_color(color: Any) -> str:
    """Return a color as ``#rrggbb``.

    Raises:
        InvalidInputError: If it is neither a known name nor ``#RRGGBB``.
    """
    if isinstance(color, str):
        if color.lower() in _COLORS:
            return _COLORS[color.lower()]
        if re.fullmatch("#[0-9a-fA-F]{6}", color):
            return color.lower()
    raise InvalidInputError(
        f"background must be white, black, gray or #RRGGBB, got {color!r}",
        argument="background",
    )


def opened(encoded: bytes) -> Any:
    """Open an encoded image with Pillow, without decoding it.

    Pillow refuses images above about 179 megapixels. From half of that it warns, which
    is left to those who set a filter for it.
    """
    from PIL import Image

    warnings.filterwarnings("ignore", "", Image.DecompressionBombWarning, append=True)
    return Image.open(io.BytesIO(encoded))


def upright_size(image: Any) -> tuple[int, int]:
    """Return the height and the width of an opened image when it is upright."""
    turned = _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def has_frames(image: Any) -> bool:
    """Return whether an opened image has several frames or pages.

    The second picture in a phone's JPEG does not count: it is a preview or a depth map.
    """
    return image.format != "MPO" and getattr(image, "is_animated", False)


def flattened(image: Any, mode: str, background: str) -> Any:
    """Return an opened image in a mode of 8 bits, upright and without metadata.

    Args:
        image: An image that Pillow opened.
        mode: ``"L"``, ``"RGB"``, or ``"RGBA"``, which keeps transparency.
        background: Color behind transparent pixels, ``#rrggbb``.

    Raises:
        UnusablePictureError: If the file does not say which values are black and white.
    """
    image.load()
    upright = _upright(_in_8_bits(image), _orientation(image))
    if mode != "RGBA":
        upright = _opaque(upright, background)
    return upright if upright.mode == mode else upright.convert(mode)


def resized(image: Any, size: tuple[int, int], shorter_side: int | None) -> Any:
    """Scale an image bilinearly, smoothed as by Pillow, and cut out its center.

    Args:
        image: An image of 8 bits.
        size: Height and width of the result.
        shorter_side: If None, the image is scaled until it covers the size, like
            ``ImageOps.fit``. Otherwise, its shorter side gets this length and its
            longer side the length that keeps the aspect ratio, rounded down, as by
            torchvision's ``Resize`` and ``CenterCrop``.

    Raises:
        UnusablePictureError: If the image is so long that the scaled one would have
            more than 2^27 pixels.
    """
    from PIL import Image, ImageOps

    height, width = size
    bilinear = Image.Resampling.BILINEAR
    if shorter_side is None:
        if image.size == (width, height):
            return image
        return ImageOps.fit(image, (width, height), bilinear)
    short, long = sorted(image.size)
    longer_side = shorter_side * long // short
    if shorter_side * longer_side > _MOST_PIXELS:
        raise UnusablePictureError(
            f"it is {image.width} by {image.height} pixels, and would have "
            f"{longer_side} by {shorter_side} when it is scaled to a shorter side of "
            f"{shorter_side}; leave it out, or crop it"
        )
    tall = image.height > image.width
    scaled = (shorter_side, longer_side) if tall else (longer_side, shorter_side)
    if image.size != scaled:
        image = image.resize(scaled, bilinear)
    # Python rounds halves to even numbers, as torchvision does.
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _in_8_bits(image: Any) -> Any:
    if image.mode in _DEEP_MODES:
        return _scaled(image)
    tags = getattr(image, "tag_v2", None)
    if tags and 2 in np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1)):
        raise UnusablePictureError("it has signed integers, whose black is not known")
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV", "RGBX"):
        return image.convert("RGB")
    return image


def _scaled(image: Any) -> Any:
    """Return a gray image of more than 8 bits in the 8 bits of modes L and LA."""
    from PIL import Image

    values = np.asarray(image)
    low, high = _black_and_white(image, values)
    scaled = np.floor((values.astype(np.float64) - low) * 255 / (high - low) + 0.5)
    gray = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        return Image.merge("LA", (gray, alpha))
    return gray


def _black_and_white(image: Any, values: np.ndarray) -> tuple[float, float]:
    """Return the values of black and white that a file declares.

    The number of bits determines them for integers of up to 16 bits. For other types,
    the file may declare them. If it does not, only floating-point values in 0 to 1 have
    a usual meaning.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = int(np.atleast_1d(tags.get(_BITS, 16))[0])
        low, high = 0.0, float(2**bits - 1)
    elif image.mode == "I" and image.format in ("PNG", "PPM"):
        low, high = 0.0, 65535.0  # Pillow has no other mode for them.
    elif _SMALLEST in tags and _LARGEST in tags:
        low, high = (
            float(np.atleast_1d(tags[tag])[0]) for tag in (_SMALLEST, _LARGEST)
        )
    else:
        low, high = 0.0, 1.0
    smallest, largest = values.min(), values.max()
    is_within = low <= smallest and largest <= high and low < high
    if not is_within or (image.mode == "I" and high == 1.0):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise UnusablePictureError(
            f"it has {kind} values from {smallest:g} to {largest:g}, and does not "
            "declare which are black and white; convert it to 8 or 16 bits"
        )
    # 0 means that the smallest value is white.
    return (high, low) if tags.get(_PHOTOMETRIC) == 0 else (low, high)


def _orientation(image: Any) -> int:
    """Return the orientation that the metadata give, 1 to 8; 1 if they are broken."""
    # Reading them takes longer than this look, and most images have none.
    if _METADATA.isdisjoint(image.info):
        return 1  # Pillow turns TIFF images itself.
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Broken metadata of any kind; the pixels are intact.
        return 1


def _upright(image: Any, orientation: int) -> Any:
    if orientation not in range(2, 9):
        return image
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turned = image.transpose(turns[orientation])
    if "transparency" in image.info:
        turned.info["transparency"] = image.info["transparency"]
    return turned


def _opaque(image: Any, background: str) -> Any:
    """Return an image on a background, if any of its pixels may be transparent."""
    from PIL import Image

    palette = getattr(image.palette, "mode", None) or ""
    if not (
        image.mode in _TRANSPARENT_MODES
        or "transparency" in image.info
        or palette.endswith("A")
    ):
        return image
    layers = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(layers.convert("RGB"), mask=layers.getchannel("A"))
    return canvas

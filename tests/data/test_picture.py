"""Pixels of image files, compared with values computed by hand."""

import struct

import numpy as np
import pytest
from pictures import encode, png, tiff
from PIL import Image

from jaxkd._errors import InvalidInputError
from jaxkd.data._decode import DecodedRows
from jaxkd.data._picture import WHITE, checked_color

GRAY = np.array([[0, 128, 255]], np.uint8)
COLORS = np.array([[[200, 100, 50], [0, 255, 0], [9, 9, 200]]], np.uint8)
ALPHA = np.array([[255, 128, 0]], np.uint8)
RGBA = np.dstack([COLORS, ALPHA])
# Half-transparent green, and a hidden blue, on white and on black.
ON_WHITE = [[[200, 100, 50], [127, 255, 127], [255, 255, 255]]]
ON_BLACK = [[[200, 100, 50], [0, 128, 0], [0, 0, 0]]]
DEEP = np.array([[0, 128, 129], [257, 32768, 65535]], np.uint16)
DEEP_IN_8_BITS = [[0, 0, 1], [1, 128, 255]]  # round(value / 257)


class Files:
    """Encoded images in memory."""

    def __init__(self, *encoded):
        self._encoded = encoded

    def __len__(self):
        return len(self._encoded)

    def read(self, rows):
        return [(self._encoded[row], 0) for row in rows]

    def where(self, row):
        return f"image {row}"


def decode(encoded, channels=3, background=WHITE):
    rows = DecodedRows(Files(encoded), channels, background=background)
    pixels = rows.read([0])[0][0]
    return pixels[..., 0] if channels == 1 else pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "encoded",
    [
        encode(DEEP, "PNG"),
        encode(DEEP, "TIFF"),
        encode(DEEP, "TIFF", compression="tiff_lzw"),
        encode(DEEP.astype(">u2"), "TIFF"),
        encode(DEEP, "PPM"),
        encode((DEEP / 65535).astype(np.float32), "TIFF"),
    ],
    ids=["png", "tiff", "lzw", "big endian", "pgm", "float in 0 to 1"],
)
def test_deep_gray_images_are_scaled_and_rounded(encoded, channels):
    pixels = decode(encoded, channels)
    gray = pixels if channels == 1 else pixels[..., 1]
    np.testing.assert_array_equal(gray, DEEP_IN_8_BITS)


VALUES = np.array([0, 128, 65535])
LIMITS = {"t340": (12, [0.0]), "t341": (12, [65535.0])}


@pytest.mark.parametrize(
    "encoded, expected",
    [
        # 0, 2048 and 4095 of 12 bits, two values in three bytes.
        (tiff(bytes.fromhex("000800fff000"), bits=12), [0, 128, 255]),
        (tiff(VALUES.astype("<u2").tobytes(), bits=16, photometric=0), [255, 255, 0]),
        (tiff(VALUES.astype("<i4").tobytes(), bits=32, t339=(3, [2]), **LIMITS), None),
        (tiff(VALUES.astype("<u4").tobytes(), bits=32, **LIMITS), None),
        (tiff(VALUES.astype("<f4").tobytes(), bits=32, t339=(3, [3]), **LIMITS), None),
        (tiff(bytes([0, 128, 255]), bits=8, photometric=0), [255, 127, 0]),
    ],
    ids=["12 bits", "white is 0", "int32", "uint32", "float", "8 bits, white is 0"],
)
def test_values_are_scaled_by_what_the_file_declares(encoded, expected):
    np.testing.assert_array_equal(decode(encoded, 1), [expected or [0, 0, 255]])


@pytest.mark.parametrize(
    "encoded",
    [
        encode(DEEP.astype(np.int32), "TIFF"),
        encode(DEEP.astype(np.float32), "TIFF"),
        encode(np.float32([[0, np.nan]]), "TIFF"),
        encode(np.float32([[-1, 1]]), "TIFF"),
        tiff(VALUES.astype("<i2").tobytes(), bits=16, t339=(3, [2])),
        tiff(bytes([0, 128, 255]), bits=8, t339=(3, [2])),
        tiff((2 * VALUES).astype("<i4").tobytes(), bits=32, **LIMITS),
    ],
    ids=["int32", "float", "nan", "-1 to 1", "int16", "int8", "outside its limits"],
)
def test_values_without_a_declared_range_are_refused(encoded):
    says = "image 0 is not a usable image: .*(does not declare|black is not known)"
    with pytest.raises(InvalidInputError, match=says):
        decode(encoded, 1)


def test_deep_color_images_are_scaled():
    row = struct.pack(">9H", 0, 256, 65535, 128 * 257, 0, 0, 9 * 257, 255, 65535)
    expected = [[[0, 1, 255], [128, 0, 0], [9, 0, 255]]]
    np.testing.assert_array_equal(decode(png([row], depth=16, color=2)), expected)


PALETTE = (b"PLTE", COLORS.tobytes())


@pytest.mark.parametrize(
    "encoded, on_white, on_black",
    [
        (encode(RGBA, "PNG"), ON_WHITE, ON_BLACK),
        (encode(RGBA, "TIFF"), ON_WHITE, ON_BLACK),
        (encode(RGBA, "WEBP", lossless=True, exact=True), ON_WHITE, ON_BLACK),
        (
            png(
                [b"\0\1\2"],
                depth=8,
                color=3,
                chunks=[PALETTE, (b"tRNS", b"\xff\x80\0")],
            ),
            ON_WHITE,
            ON_BLACK,
        ),
        (  # One transparent color of a palette: the last.
            encode(
                Image.frombytes("P", (3, 1), b"\0\1\2").convert("P").copy(),
                "GIF",
                transparency=2,
                palette=COLORS.tobytes(),
            ),
            [[[200, 100, 50], [0, 255, 0], [255, 255, 255]]],
            [[[200, 100, 50], [0, 255, 0], [0, 0, 0]]],
        ),
        (  # Premultiplied: 64 of 128 is 127 of 255.
            tiff(
                bytes([200, 100, 50, 255, 0, 128, 0, 128, 0, 0, 0, 0]),
                bits=8,
                photometric=2,
                samples=4,
                t338=(3, [1]),
            ),
            ON_WHITE,
            ON_BLACK,
        ),
        (  # One transparent color of 8 and of 16 bits.
            png(
                [COLORS.tobytes()],
                depth=8,
                color=2,
                chunks=[(b"tRNS", struct.pack(">3H", 9, 9, 200))],
            ),
            [[[200, 100, 50], [0, 255, 0], [255, 255, 255]]],
            [[[200, 100, 50], [0, 255, 0], [0, 0, 0]]],
        ),
        (
            png([RGBA.astype(">u2").tobytes()], depth=16, color=6),
            [[[255] * 3] * 3],  # Alpha of at most 255 in 65535.
            [[[0] * 3] * 3],
        ),
    ],
    ids=[
        "png",
        "tiff",
        "webp",
        "palette",
        "gif",
        "premultiplied",
        "color key",
        "16 bits",
    ],
)
def test_transparent_pixels_show_the_background(encoded, on_white, on_black):
    np.testing.assert_array_equal(decode(encoded), on_white)
    np.testing.assert_array_equal(decode(encoded, background="#000000"), on_black)


@pytest.mark.parametrize(
    "encoded",
    [
        encode(np.dstack([GRAY, ALPHA]), "PNG"),
        encode(np.dstack([GRAY, ALPHA]), "TIFF"),
        tiff(bytes([0, 255, 64, 128, 0, 0]), bits=8, samples=2, t338=(3, [1])),
        png(
            [struct.pack(">6H", 0, 65535, 128 * 257, 128 * 257, 65535, 0)],
            depth=16,
            color=4,
        ),
    ],
    ids=["png", "tiff", "premultiplied", "16 bits"],
)
def test_transparent_gray_pixels_show_the_background(encoded):
    # 128 of 255 at alpha 128 of 255, and a hidden white.
    np.testing.assert_allclose(decode(encoded, 1), [[0, 191, 255]], atol=1)
    np.testing.assert_allclose(decode(encoded, 1, "#000000"), [[0, 64, 0]], atol=1)


def test_the_transparent_value_of_a_deep_gray_image_shows_the_background():
    row = struct.pack(">3H", 0, 32768, 65535)
    encoded = png([row], depth=16, color=0, chunks=[(b"tRNS", struct.pack(">H", 0))])
    np.testing.assert_array_equal(decode(encoded, 1), [[255, 128, 255]])


def test_declared_transparency_is_kept():
    np.testing.assert_array_equal(decode(encode(RGBA, "PNG"), 4), RGBA)


CMYK = np.array([[[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
IN_RGB = [[[255, 0, 0], [0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    "encoded, expected, tolerance",
    [
        (encode(Image.fromarray(CMYK, "CMYK"), "TIFF"), IN_RGB, 0),
        # Adobe's JPEG stores the inverse, which Pillow writes and reads.
        (
            encode(
                Image.fromarray(CMYK.repeat(16, 0).repeat(16, 1), "CMYK"),
                "JPEG",
                quality=100,
            ),
            np.repeat(np.repeat(IN_RGB, 16, 0), 16, 1),
            40,
        ),
        (
            encode(Image.fromarray(COLORS).convert("YCbCr"), "TIFF"),
            COLORS,
            2,
        ),
        (
            # White, black, and sRGB's red in D50: L* 54.3, a* 80.8, b* 69.9.
            tiff(
                bytes([255, 0, 0, 0, 0, 0, 138, 81, 70]),
                bits=8,
                photometric=8,
                samples=3,
            ),
            [[[255] * 3, [0] * 3, [255, 0, 0]]],
            6,
        ),
        (  # A fourth value of unknown meaning.
            tiff(RGBA.tobytes(), bits=8, photometric=2, samples=4, t338=(3, [0])),
            COLORS,
            0,
        ),
        (png([b"\0\1\2"], depth=8, color=3, chunks=[PALETTE]), COLORS, 0),
        (
            encode(Image.fromarray(GRAY > 100), "PNG"),
            [[[0] * 3, [255] * 3, [255] * 3]],
            0,
        ),
        (png([b"\x1b"], depth=2, color=0), [[[0] * 3, [85] * 3, [170] * 3]], 0),
    ],
    ids=["cmyk", "adobe", "ycbcr", "lab", "rgbx", "palette", "1 bit", "2 bits"],
)
def test_every_mode_becomes_the_colors_that_people_see(encoded, expected, tolerance):
    pixels = decode(encoded).astype(int)
    assert pixels.shape == np.shape(expected)
    assert np.abs(pixels - expected).max() <= tolerance


ARROW = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14
# What a camera stores if the upright picture is ARROW, by EXIF's orientation.
STORED = {
    1: ARROW,
    2: ARROW[:, ::-1],
    3: ARROW[::-1, ::-1],
    4: ARROW[::-1],
    5: ARROW.transpose(1, 0, 2),
    6: np.rot90(ARROW, 1),
    7: ARROW[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(ARROW, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    "form, settings",
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
    ],
)
def test_images_are_upright(form, settings, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    stored = np.ascontiguousarray(STORED[orientation])
    pixels = decode(encode(stored, form, exif=exif, **settings))
    assert pixels.shape == ARROW.shape
    tolerance = 12 if form == "JPEG" else 0
    np.testing.assert_allclose(pixels.astype(int), ARROW, atol=tolerance)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_metadata_do_not_spoil_the_pixels(exif):
    pixels = decode(encode(ARROW, "PNG", exif=exif))
    np.testing.assert_array_equal(pixels, ARROW)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_is_used_and_said_once(form, capfd):
    settings = {"lossless": True} if form == "WEBP" else {}
    first, second = (Image.fromarray(np.full((2, 3, 3), v, np.uint8)) for v in (0, 255))
    encoded = encode(first, form, save_all=True, append_images=[second], **settings)
    rows = DecodedRows(Files(encoded, encoded), 3)
    assert (rows.read([0, 1])[0] == 0).all()
    error = capfd.readouterr().err
    assert error.count("image 0 has several frames or pages; the first is used") == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(form, share):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    encoded = encode(pixels, form)
    with pytest.raises(InvalidInputError, match="image 0 is not a"):
        decode(encoded[: int(share * len(encoded))])


@pytest.mark.parametrize(
    "encoded",
    [
        png([b"\0"], depth=1, color=0, width=2**31 - 1),
        png([b"\0" * 4000] * 4, depth=8, color=0, width=300_000_000),
        tiff(b"\0" * 8, bits=8, t256=(4, [2**31]), t257=(4, [2**31])),
    ],
    ids=["width", "pixels", "tiff"],
)
def test_decompression_bombs_are_refused(encoded):
    with pytest.raises(InvalidInputError, match="image 0 is not a"):
        decode(encoded)


@pytest.mark.parametrize(
    "color, expected",
    [
        ("white", "#ffffff"),
        ("black", "#000000"),
        ("gray", "#808080"),
        ("#A0b1C2", "#a0b1c2"),
    ],
)
def test_backgrounds_are_names_or_hexadecimal(color, expected):
    assert checked_color(color) == expected


@pytest.mark.parametrize("color", ["", "red", "#fff", "#gggggg", "ffffff", "#ffffff\n"])
def test_other_backgrounds_are_refused(color):
    with pytest.raises(InvalidInputError, match="white, black, gray or #RRGGBB"):
        checked_color(color)

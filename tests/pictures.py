"""Encode images, in forms that Pillow does not write, too."""

import io
import struct
import zlib

from PIL import Image


def encode(image, form, **settings):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def tiff(pixels, *, bits, photometric=1, samples=1, order="<", **tags):
    """Encode a TIFF file of one row; ``tags`` are numbers after ``t``."""
    entries = {256: (4, [3]), 257: (4, [1]), 258: (3, [bits] * samples)}
    entries |= {259: (3, [1]), 262: (3, [photometric]), 273: (4, [8])}
    entries |= {277: (3, [samples]), 278: (4, [1]), 279: (4, [len(pixels)])}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    start = 8 + len(pixels) + len(pixels) % 2
    count, extra = len(entries), b""
    body = struct.pack(order + "H", count)
    for tag, (kind, values) in sorted(entries.items()):
        code = {3: "H", 4: "I", 11: "f", 12: "d"}[kind]
        data = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(data) > 4:
            place = start + 2 + 12 * count + 4 + len(extra)
            extra, data = extra + data, struct.pack(order + "I", place)
        body += struct.pack(order + "HHI", tag, kind, len(values)) + data.ljust(
            4, b"\0"
        )
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "I", start) + pixels + b"\0" * (len(pixels) % 2)
    return head + body + b"\0" * 4 + extra


def png(rows, *, depth, color, width=3, chunks=()):
    """Encode a PNG file from the bytes of its rows."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0))
    ]
    parts += [*chunks, (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*parts, (b"IEND", b"")]
    )

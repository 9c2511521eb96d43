"""Images on a page: thumbnails, and the graph of a batch."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxkd.reports import _statistics
from jaxkd.reports._figures import COLORS

# Larger images are scaled down: a page of photographs should stay small.
_LARGEST = 64
_CLASS_COLORS = (*COLORS, "#F0E442", "#999999", "#8B5A2B", "#6A3D9A")
_THUMBNAIL = 0.062  # of the graph's side


def pixels(image: np.ndarray) -> np.ndarray:
    """A stored image, [height, width, channels], as uint8 of 1 or 3 channels."""
    if image.dtype != np.uint8:
        scaled = np.clip(np.asarray(image, np.float32), 0, 1) * 255
        image = np.round(scaled).astype(np.uint8)
    if image.shape[-1] in (3, 4):
        return image[..., :3]
    return image[..., :1]


def png(image: np.ndarray) -> str:
    """A stored image as a ``data:`` address."""
    shown = pixels(image)
    picture = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
    picture.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def grid(images: np.ndarray, *, columns: int = 8) -> np.ndarray:
    """Images side by side, a pixel apart, uint8 of 1 or 3 channels."""
    tiles = [np.pad(pixels(x), ((0, 1), (0, 1), (0, 0))) for x in images]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [
        np.concatenate(tiles[i : i + columns], axis=1)
        for i in range(0, len(tiles), columns)
    ]
    return np.concatenate(rows)[:-1, :-1]


def definitions(images: Sequence[np.ndarray]) -> str:
    """The nodes' thumbnails, once for all graphs of the page."""
    symbols = "".join(
        f'<image id="node{i}" width="1" height="1" preserveAspectRatio="none" '
        f'href="{png(image)}"/>'
        for i, image in enumerate(images)
    )
    return f'<svg class="defs" aria-hidden="true"><defs>{symbols}</defs></svg>'


def graph(
    neighbors: np.ndarray,
    positions: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> str:
    """A batch's graph, its nodes being the thumbnails of :func:`definitions`.

    Args:
        neighbors: Row numbers of every node's neighbours.
        positions: Of the nodes, in the unit square.
        labels: Their classes.
        class_names: What the classes are called.
    """
    side, margin = 100 * _THUMBNAIL, 5.0
    points = margin + (100 - 2 * margin) * positions
    lines, nodes = [], []
    for i, j in _statistics.undirected(neighbors):
        kind = "same" if labels[i] == labels[j] else "other"
        (x1, y1), (x2, y2) = points[i], points[j]
        lines.append(
            f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" '
            f'x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )
    lines.sort(reverse=True)  # those between classes, which matter, on top
    for i, (x, y) in enumerate(points):
        left, top = x - side / 2, y - side / 2
        color = "currentColor"
        if len(class_names) <= len(_CLASS_COLORS):
            color = _CLASS_COLORS[labels[i]]
        nodes.append(
            f"<g><title>{html.escape(str(class_names[labels[i]]))}</title>"
            f'<use href="#node{i}" transform="translate({left:.1f} {top:.1f}) '
            f'scale({side:.1f})"/>'
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" '
            f'height="{side:.1f}" fill="none" stroke="{color}"/></g>'
        )
    return (
        '<svg class="graph" viewBox="0 0 100 100" role="img">'
        + "".join(lines)
        + "".join(nodes)
        + "</svg>"
    )

"""Dataset images on a page: thumbnails, and the neighbor graph of a batch."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxkd import data
from jaxkd.reports import _statistics
from jaxkd.reports._escape import for_html
from jaxkd.reports._figures import COLORS

# Larger images are scaled down, so that a page of photographs stays small.
_MAX_SIDE = 64
_CLASS_COLORS = (*COLORS, "#F0E442", "#999999", "#8B5A2B", "#6A3D9A")
_NODE_SIDE = 0.062  # relative to the side of the graph


def stored(dataset: data.ImageDataset, row: int) -> np.ndarray:
    """Return one test image, of an array or a stream."""
    return np.asarray(dataset.test.images[row : row + 1])[0]


def pixels(image: np.ndarray) -> np.ndarray:
    """Convert an image ``[height, width, channels]`` to uint8 of 1 or 3 channels."""
    if image.dtype != np.uint8:
        scaled = np.clip(np.asarray(image, np.float32), 0, 1) * 255
        image = np.round(scaled).astype(np.uint8)
    if image.shape[-1] in (3, 4):
        return image[..., :3]
    return image[..., :1]


def png(image: np.ndarray) -> str:
    """Encode a stored image as a ``data:`` URL."""
    shown = pixels(image)
    picture = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def grid(images: np.ndarray, *, columns: int = 8) -> np.ndarray:
    """Tile images, one pixel apart, into one of uint8 and 1 or 3 channels."""
    tiles = [np.pad(pixels(x), ((0, 1), (0, 1), (0, 0))) for x in images]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [
        np.concatenate(tiles[i : i + columns], axis=1)
        for i in range(0, len(tiles), columns)
    ]
    return np.concatenate(rows)[:-1, :-1]


def definitions(images: Sequence[np.ndarray]) -> str:
    """Return the nodes' thumbnails, which all graphs of the page refer to."""
    symbols = "".join(
        f'<image id="node{i}" width="1" height="1" preserveAspectRatio="none" '
        f'href="{png(image)}"/>'
        for i, image in enumerate(images)
    )
    return f'<svg class="defs" aria-hidden="true"><defs>{symbols}</defs></svg>'


def neighbors(
    node: int, others: Sequence[int], labels: np.ndarray, class_names: Sequence[str]
) -> str:
    """Show a node and its neighbors, with the thumbnails of :func:`definitions`."""
    shown = []
    for i in (node, *others):
        kind = "self" if i == node else _kind(labels[i] == labels[node])
        name = for_html(str(class_names[labels[i]]))
        shown.append(
            f'<figure class="{kind}"><svg viewBox="0 0 1 1" role="img" '
            f'aria-label="{name}"><use href="#node{i}"/></svg>'
            f"<figcaption>{name}</figcaption></figure>"
        )
    return f'<div class="row">{"".join(shown)}</div>'


def graph(
    neighbors: np.ndarray,
    positions: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> str:
    """Draw a neighbor graph as SVG, with the thumbnails of :func:`definitions`.

    Args:
        neighbors: Indices of each node's neighbors.
        positions: Positions of the nodes in the unit square.
        labels: Classes of the nodes.
        class_names: Names of the classes.
    """
    side, margin = 100 * _NODE_SIDE, 5.0
    points = margin + (100 - 2 * margin) * positions
    lines, nodes = [], []
    for i, j in _statistics.undirected(neighbors):
        kind = _kind(labels[i] == labels[j])
        (x1, y1), (x2, y2) = points[i], points[j]
        lines.append(
            f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" '
            f'x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )
    lines.sort(reverse=True)  # draw edges between classes last, on top
    for i, (x, y) in enumerate(points):
        left, top = x - side / 2, y - side / 2
        color = "currentColor"
        if len(class_names) <= len(_CLASS_COLORS):
            color = _CLASS_COLORS[labels[i]]
        nodes.append(
            f"<g><title>{for_html(str(class_names[labels[i]]))}</title>"
            f'<use href="#node{i}" transform="translate({left:.1f} {top:.1f}) '
            f'scale({side:.1f})"/>'
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" '
            f'height="{side:.1f}" fill="none" stroke="{color}"/></g>'
        )
    return (
        '<svg class="graph" viewBox="0 0 100 100" role="img" '
        f'aria-label="graph of {len(points)} images and {len(lines)} edges">'
        + "".join(lines)
        + "".join(nodes)
        + "</svg>"
    )


def _kind(same: np.bool_ | bool) -> str:
    """Return the CSS class of an edge between examples of one class, or of two."""
    return "same" if same else "other"

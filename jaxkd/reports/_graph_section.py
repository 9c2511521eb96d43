"""The neighbor graph of some test images, of a run and of its teacher."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxkd import data, distillers, graphs
from jaxkd._text import count
from jaxkd.reports import _html, _statistics, _thumbnails
from jaxkd.reports._predictions import Predictions

_NEIGHBORS = 8
_NODE_DISTANCE = 0.075  # in the unit square: thumbnails hardly overlap
_EXAMPLES = 4


class Graph(NamedTuple):
    """How the neighbors of an example are chosen.

    Attributes:
        k: Their number, with the example itself.
        compared: ``predictions`` or ``embeddings``.
    """

    k: int
    compared: str


def neighbor_graphs(
    student: Predictions,
    teacher: Predictions | None,
    nodes: np.ndarray,
    dataset: data.ImageDataset,
    config: dict[str, Any],
) -> str:
    """Draw the neighbor graph of some test images, with the teacher's beside it.

    For a run of HKD, it is the graph that HKD would build of these images, and some of
    them are shown with their neighbors.

    Args:
        student: Predictions of the student.
        teacher: Predictions of its teacher; None if there is none.
        nodes: Indices of the test images.
        dataset: The run's dataset.
        config: The run's configuration.

    Returns:
        The section; empty if an image has no neighbors.
    """
    hkd = _graph_of_hkd(config)
    graph = hkd or Graph(_NEIGHBORS, "predictions")
    others = min(graph.k, len(nodes)) - 1
    if others < 1:
        return ""
    labels = dataset.test.labels[nodes]
    positions = _statistics.spread_out(
        _statistics.principal_plane(student.embedding), distance=_NODE_DISTANCE
    )
    neighbors, cards = {}, {}
    for name, predictions in (("This network", student), ("Teacher", teacher)):
        if predictions is None:
            continue
        near = neighbors[name] = _connect(predictions, graph)
        purity = float(np.mean(graphs.neighbor_purity(near, labels)))
        cards[f"{name}: {purity:.0%} of neighbors have the same class"] = (
            _thumbnails.graph(near, positions, labels, dataset.class_names)
        )
    sentences = (
        f"Each of {len(nodes)} test images is connected to the "
        f"{count(others, 'image')} with the most similar {graph.compared}. "
        f"Of neighbors chosen at random, {_chance(labels):.0%} would have the same "
        "class. Positions are the first two principal components of this network's "
        "embeddings; images that would overlap are moved apart. "
    )
    if len(neighbors) == 2:
        shared = float(np.mean(graphs.neighbor_agreement(*neighbors.values())))
        sentences += f"The two networks share {shared:.0%} of the neighbors. "
    title, examples = "Images with similar predictions", ""
    if hkd:
        title = "Neighbors that HKD links"
        sentences += "In training, HKD builds such a graph of every batch. "
        near = neighbors["This network"]
        examples = _html.cards(
            _examples(near, labels, dataset.class_names), narrow=True
        )
    images = [_thumbnails.stored(dataset, row) for row in nodes.tolist()]
    return _html.section(
        title,
        _html.text(sentences),
        _html.NEIGHBOR_KEY,
        _thumbnails.definitions(images),
        _html.cards(cards.items()),
        examples,
    )


def _graph_of_hkd(config: dict[str, Any]) -> Graph | None:
    """Return the graph that the run's method builds; None if it builds none.

    The result is also None if the graph compares embeddings of other layers than those
    of the predictions.
    """
    options = config["options"]
    settings = options.get("hkd") or {}
    recipe = distillers.RECIPES.get(options.get("method"), {})
    weights = recipe | (options.get("weights") or {})
    if not weights.get("hkd") or not settings.get("graph_weight", 1.0):
        return None
    of_embeddings = settings.get("graph_from") == "embeddings"
    named = options.get("student_embedding") or options.get("teacher_embedding")
    if of_embeddings and named:
        return None
    compared = "embeddings" if of_embeddings else "predictions"
    return Graph(settings.get("neighbors", _NEIGHBORS), compared)


def _connect(predictions: Predictions, graph: Graph) -> np.ndarray:
    if graph.compared == "embeddings":
        return np.asarray(graphs.most_similar(predictions.embedding, k=graph.k))
    return np.asarray(graphs.nearest_neighbors(predictions.logits, k=graph.k))


def _chance(labels: np.ndarray) -> float:
    """Return the share of an example's class among the others, averaged."""
    same = np.bincount(labels)[labels] - 1
    return float(np.mean(same) / (len(labels) - 1))


def _examples(
    near: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[tuple[str, str]]:
    """Show some images with their neighbors, from the purest to the least pure."""
    purity = np.asarray(graphs.neighbor_purity(near, labels))
    order = np.argsort(-purity, kind="stable")
    places = np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order)))
    cards = []
    for node in order[places.astype(int)].tolist():
        others = [i for i in near[node].tolist() if i != node]
        same = sum(labels[i] == labels[node] for i in others)
        name = class_names[int(labels[node])]
        title = f"{name}: {same} of {len(others)} neighbors of its class"
        shown = _thumbnails.neighbors(node, others, labels, class_names)
        cards.append((title, shown))
    return cards

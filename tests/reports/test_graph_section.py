"""The neighbors on a run's page: HKD's own graph, and examples of it."""

import dataclasses

import numpy as np
import pytest
from page_support import Page
from support import make_dataset

from jaxkd.reports._graph_section import neighbor_graphs
from jaxkd.reports._predictions import Predictions

pytestmark = pytest.mark.usefixtures("quickly_compiled")
NODES = np.arange(12)


@pytest.fixture(scope="module")
def dataset():
    """Twelve or more test images, of the classes 0 and 1 in turn."""
    made = make_dataset()
    labels = np.arange(len(made.test.labels)) % 2
    test = made.test._replace(labels=labels)
    return dataclasses.replace(made, test=test)


def predictions(by_class, by_half):
    """Logits and embeddings: of two groups each, by class, or by half of the nodes."""
    groups = {"class": NODES % 2, "half": NODES // 6}
    scattered = np.random.default_rng(0).normal(0, 0.05, (12, 4))
    rows = {
        k: (np.eye(4)[v] * 5 + scattered).astype(np.float32) for k, v in groups.items()
    }
    return Predictions(np.full((12, 4), 0.25), rows[by_class], rows[by_half])


def page(dataset, answers, method, teacher=None, **options):
    config = {"options": {"method": method, **options}}
    return Page(neighbor_graphs(answers, teacher, NODES, dataset, config))


def test_hkd_links_the_most_similar_predictions(dataset):
    answers = predictions("class", "half")
    text = page(dataset, answers, "hkd+kd", hkd={"neighbors": 4}).text
    assert "Neighbors that HKD links" in text
    assert "connected to the 3 images with the most similar predictions" in text
    assert "This network: 100% of neighbors have the same class" in text
    assert "Of neighbors chosen at random, 45% would have" in text  # 5 of 11
    assert text.count("3 of 3 neighbors of its class") == 4


def test_hkd_links_similar_embeddings_if_it_was_told_to(dataset):
    answers = predictions("half", "class")
    hkd = {"neighbors": 4, "graph_from": "embeddings"}
    text = page(dataset, answers, "hkd", hkd=hkd).text
    assert "the most similar embeddings" in text
    assert "This network: 100% of neighbors have the same class" in text


@pytest.mark.parametrize(
    "method, options",
    [
        ("kd", {"hkd": {"neighbors": 3}}),  # every run has these options
        ("hkd+kd", {"weights": {"hkd": 0.0}}),
        ("hkd", {"hkd": {"graph_weight": 0.0}}),
        (
            "hkd",
            {"hkd": {"graph_from": "embeddings"}, "student_embedding": "layers.0"},
        ),
        ("unknown", {}),
    ],
)
def test_a_run_without_a_known_graph_shows_none_of_hkd(method, options, dataset):
    text = page(dataset, predictions("class", "half"), method, **options).text
    assert "HKD" not in text
    assert "of its class" not in text
    assert "connected to the 7 images with the most similar predictions" in text


def test_each_example_is_shown_with_its_neighbors(dataset):
    answers = predictions("half", "half")
    found = page(dataset, answers, "hkd", answers, hkd={"neighbors": 4})
    assert found.text.count("neighbors of its class") == 4
    assert found.tags.count("figcaption") == 4 * 4
    assert found.unnamed == []
    assert {x for x in found.addresses if x.startswith("#")} == {
        f"#{name}" for name in found.ids
    }
    assert "share 100% of the neighbors" in found.text


def test_an_example_without_neighbors_has_no_section(dataset):
    hkd = {"neighbors": 1}
    assert page(dataset, predictions("half", "half"), "hkd", hkd=hkd).text == ""

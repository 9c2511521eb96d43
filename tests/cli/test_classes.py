"""Whether a network and a dataset have the same classes."""

import numpy as np
import pytest

from jaxkd import data, runs
from jaxkd._errors import InvalidInputError
from jaxkd.cli._datasets import check_fits

NUMBERS = tuple(map(str, range(12)))
SORTED_AS_TEXT = tuple(sorted(NUMBERS))  # 0, 1, 10, 11, 2, ...
NAMED = tuple("abcdefghijkl")


def fit_together(network_names, dataset_names):
    split = data.Split(np.zeros((12, 8, 8, 1), np.uint8), np.arange(12))
    dataset = data.ImageDataset("mine", split, split, 12, class_names=dataset_names)
    config = runs.NetworkConfig("resnet8", None, "float32", 12, (8, 8, 1))
    normalization = data.Normalization(np.zeros(1), np.ones(1))
    check_fits(
        runs.LoadedNetwork(
            None, config, normalization, None, network_names, 0, load_options={}
        ),
        dataset,
    )


@pytest.mark.parametrize(
    ("network", "dataset"),
    [
        (NUMBERS, NUMBERS),
        (SORTED_AS_TEXT, SORTED_AS_TEXT),
        (NAMED, NUMBERS),
        (NUMBERS, NAMED),
        (None, SORTED_AS_TEXT),
    ],
)
def test_equal_names_and_missing_names_fit(network, dataset):
    fit_together(network, dataset)


@pytest.mark.parametrize(
    ("network", "dataset"),
    [
        (NUMBERS, SORTED_AS_TEXT),
        (SORTED_AS_TEXT, NUMBERS),
        (NAMED, NAMED[::-1]),
        (SORTED_AS_TEXT, NAMED),
    ],
)
def test_the_same_classes_in_another_order_do_not_fit(network, dataset):
    with pytest.raises(InvalidInputError, match="Use the network's classes"):
        fit_together(network, dataset)

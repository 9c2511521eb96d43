import numpy as np
import pytest

from jaxkd import reports

# CIFAR-100 top-1 (%) of five pairs of networks, and the column ARI (%), from Zhou et
# al., Distilling Holistic Knowledge with Graph Neural Networks, arXiv 2108.05507, 2021,
# Table 1. The pairs: resnet32x4 with resnet8x4 and ShuffleNetV2, VGG13 with
# MobileNetV2, ResNet50 with VGG8 and MobileNetV2.
STUDENT = (72.79, 72.63, 65.33, 70.56, 65.33)
HKD_KD = (76.13, 76.92, 70.48, 74.88, 70.72)
METHODS = {
    "KD": ((73.55, 75.38, 68.08, 73.76, 67.83), 126.48),
    "AT+KD": ((74.80, 76.51, 66.37, 73.91, 66.81), 152.84),
    "PKT+KD": ((74.68, 76.16, 68.08, 74.19, 68.42), 55.63),
    "SP+KD": ((73.99, 76.02, 68.46, 73.50, 68.18), 80.89),
    "CC+KD": ((74.44, 75.81, 68.54, 73.48, 68.92), 58.96),
    "RKD+KD": ((74.18, 75.64, 68.24, 73.81, 68.52), 72.15),
    "CRD+KD": ((75.64, 76.41, 69.82, 74.41, 69.86), 15.32),
    "SSKD+KD": ((75.80, 76.36, 69.12, 74.68, 69.53), 18.86),
    "HKD": ((75.63, 76.31, 69.97, 74.86, 69.83), 12.94),
}
# The published column for all methods but CRD+KD is, to its last digit, that of 74.85
# where the table says 74.88 (ResNet50 with VGG8).
HKD_KD_OF_THE_COLUMN = (76.13, 76.92, 70.48, 74.85, 70.72)


@pytest.mark.parametrize("method", METHODS)
def test_gives_the_published_column_from_the_published_means(method):
    means, published = METHODS[method]
    ours = HKD_KD if method == "CRD+KD" else HKD_KD_OF_THE_COLUMN
    actual = 100 * reports.average_relative_improvement(ours, means, STUDENT)
    assert actual == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("method", METHODS)
def test_the_means_as_printed_give_it_within_a_quarter_of_a_point(method):
    means, published = METHODS[method]
    actual = 100 * reports.average_relative_improvement(HKD_KD, means, STUDENT)
    assert actual == pytest.approx(published, abs=0.25)


def test_does_not_see_the_unit_and_the_origin_of_accuracies():
    ours, theirs, student = np.random.default_rng(0).normal(size=(3, 4)).tolist()
    expected = reports.average_relative_improvement(ours, theirs, student)
    moved = [[7 + 100 * x for x in each] for each in (ours, theirs, student)]
    assert reports.average_relative_improvement(*moved) == pytest.approx(expected)


@pytest.mark.parametrize(
    "accuracies, says",
    [
        (([1.0], [2.0], [3.0, 4.0]), "got 1, 1 and 2"),
        (([], [], []), "got 0, 0 and 0"),
        (([3.0, 3.0], [2.0, 1.0], [1.0, 1.0]), "equals the student alone in pair 1"),
    ],
)
def test_refuses_what_has_no_improvement(accuracies, says):
    with pytest.raises(ValueError, match=says):
        reports.average_relative_improvement(*accuracies)

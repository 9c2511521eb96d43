import numpy as np
import pytest

from jaxkd.reports import _statistics

LABELS = np.array([0, 0, 1, 1, 2, 2])
STUDENT = np.array([0, 1, 1, 1, 0, 2])
TEACHER = np.array([0, 0, 1, 2, 0, 1])


def test_the_confusion_matrix_counts_pairs_of_class_and_prediction():
    matrix = _statistics.confusion_matrix(LABELS, STUDENT, 4)
    for i in range(4):
        for j in range(4):
            assert matrix[i, j] == sum((i == LABELS) & (j == STUDENT)), (i, j)


def test_the_most_confused_pairs_come_first_and_none_is_a_hit():
    matrix = np.array([[9, 1, 0], [0, 9, 3], [0, 2, 9]])
    assert _statistics.most_confused(matrix, 5) == [(1, 2, 3), (2, 1, 2), (0, 1, 1)]


def test_teacher_and_student_fall_into_four_groups():
    found = _statistics.agreement(STUDENT, TEACHER, LABELS)
    assert found == (3, 2, 1, 2, 1)


def test_the_calibration_error_weighs_each_bin_by_its_examples():
    confidence = np.array([0.55, 0.55, 0.55, 0.95])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = _statistics.calibration(probabilities, np.array([0, 1, 1, 0]), bins=10)
    expected = 3 / 4 * abs(0.55 - 1 / 3) + 1 / 4 * abs(0.95 - 1)
    np.testing.assert_allclose(found.error, expected)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 3, 0, 0, 0, 1]
    np.testing.assert_allclose(found.accuracy[[5, 9]], [1 / 3, 1])


def test_always_sure_and_always_right_is_calibrated():
    found = _statistics.calibration(np.eye(3)[LABELS], LABELS)
    assert found.error == 0.0
    assert found.counts[-1] == 6


def test_mistakes_come_in_the_order_of_their_confidence():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    rows = _statistics.confident_mistakes(probabilities, np.array([1, 0, 0, 1]), 2)
    assert rows.tolist() == [1, 2]


def test_the_principal_plane_keeps_the_direction_of_greatest_variance():
    rng = np.random.default_rng(0)
    direction = np.array([3.0, 4.0, 0.0]) / 5
    along = rng.normal(0, 10, 40)
    plane = _statistics.principal_plane(
        along[:, None] * direction + rng.normal(0, 0.01, (40, 3))
    )
    assert abs(np.corrcoef(plane[:, 0], along)[0, 1]) > 0.999
    assert plane.min() == 0.0
    assert plane.max() == 1.0


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [5, 20])
def test_points_that_coincide_are_moved_apart(n, where):
    points = _statistics.spread_out(np.full((n, 2), where), distance=0.1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distances[~np.eye(n, dtype=bool)].min() > 0.09
    assert ((points >= 0) & (points <= 1)).all()


def test_edges_have_no_direction_and_no_loops():
    neighbors = np.array([[0, 1], [1, 0], [2, 1]])
    assert _statistics.undirected(neighbors) == [(0, 1), (1, 2)]

"""The accuracy of the student alone on the page of a run."""

import pytest
from comparison_support import make_run

from jaxkd.reports._student_alone import read_student_alone


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, "kd", "kd", [[0.5], [0.8]], temperature=4.0)


def test_is_the_mean_of_the_seeds(run, tmp_path):
    alone = make_run(tmp_path, "a", "student", [[0.5, 0.5], [0.7, 0.72]])
    found = read_student_alone(run, alone)
    assert found.accuracy == pytest.approx(0.71)
    assert found.name == "student alone, mean of 2 seeds"
    assert found.note == ""  # the temperature is not a setting of both


def test_says_which_settings_differ(run, tmp_path):
    alone = make_run(tmp_path, "a", "student", [[0.5], [0.7]], batch_size=7)
    found = read_student_alone(run, alone)
    assert found.name == "student alone"
    assert found.note.endswith("other settings: batch size.")


@pytest.mark.parametrize(
    "method, more, says",
    [
        ("dkd", {}, "was trained with a teacher"),
        ("student", {"model": "mlp"}, "is a run of mlp, but .* of resnet8"),
        ("student", {"dataset": {"fingerprint": "other"}}, "is a run of other, but"),
    ],
)
def test_another_kind_of_run_is_refused(method, more, says, run, tmp_path):
    alone = make_run(tmp_path, "a", method, [[0.5], [0.7]], **more)
    with pytest.raises(ValueError, match=says):
        read_student_alone(run, alone)

"""``jaxkd record`` with options that decide which images the teacher sees, and how."""

import numpy as np
import pytest
from cli_arguments import distill_arguments
from flax import nnx
from PIL import Image
from support import assert_bitwise_equal

from jaxkd import cli, recordings, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def make_both(tmp_path, teacher, monkeypatch):
    """A student of the teacher, and one of its recording without these options."""
    monkeypatch.setenv("JAXKD_CACHE_DIR", str(tmp_path / "cache"))

    def make(*options):
        recorded = tmp_path / "recorded"
        cli.main(
            [
                *("record", "--teacher", str(teacher), "--out", str(recorded)),
                *("--epochs", "2", "--batch-size", "16", *options),
            ]
        )
        cli.main(
            [
                *("distill", "--recorded", str(recorded), "--model", "mlp"),
                *("--width", "8", "--epochs", "2", "--method", "kd", "--no-report"),
                *("--out", str(tmp_path / "student")),
            ]
        )
        method = ("--method", "kd", "--batch-size", "16")
        live = distill_arguments(teacher, tmp_path / "live", *method, *options)
        cli.main(live)
        names = ("live", "student")
        return [nnx.state(runs.load_run(tmp_path / name).module) for name in names]

    return make


@pytest.mark.slow
def test_validation_images_are_held_out_of_both(make_both):
    assert_bitwise_equal(*make_both("--validation", "0.25"))


def test_the_crops_of_both_are_the_same(make_both):
    assert_bitwise_equal(*make_both("--random-resized-crop", "0.5", "1"))


@pytest.mark.slow
def test_unlabeled_images_join_both(make_both, tmp_path):
    (tmp_path / "more").mkdir()
    for shade in (0, 90, 200):
        pixels = np.full((9, 11), shade, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "more" / f"{shade}.png")
    assert_bitwise_equal(*make_both("--unlabeled", str(tmp_path / "more")))


@pytest.mark.slow
def test_the_teacher_of_both_computes_in_the_same_dtype(make_both, tmp_path):
    assert_bitwise_equal(*make_both("--teacher-dtype", "bfloat16"))
    recorded = recordings.open(tmp_path / "recorded")
    assert recorded.teacher["dtype"] == "bfloat16"

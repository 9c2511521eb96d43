import os

import pytest

from jaxkd import cli, runs


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR names no prepared data"
)
def test_trains_and_distills_on_fashion_mnist(tmp_path, capsys):
    small = ("--epochs", "2", "--subset", "2000")
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    cli.main(
        [
            "train",
            *("--dataset", "fashion_mnist", "--model", "resnet8", *small),
            *("--out", str(teacher)),
        ]
    )
    cli.main(
        [
            "distill",
            *("--teacher", str(teacher), "--model", "resnet8", "--width", "4", *small),
            *("--method", "hkd+kd", "--out", str(student)),
        ]
    )
    last = runs.read_metrics(student / "metrics.jsonl")[-1]
    assert last["test/accuracy"] > 0.4
    capsys.readouterr()
    cli.main(["evaluate", str(student)])
    assert "10,000 images" in capsys.readouterr().out

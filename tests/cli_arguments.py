"""What the tests of the CLI share: command lines, datasets on disk, refusals."""

import numpy as np
import pytest

from jaxkd import cli


def save_dataset(path, dataset):
    np.savez(
        path,
        x_train=dataset.train.images,
        y_train=dataset.train.labels,
        x_test=dataset.test.images,
        y_test=dataset.test.labels,
    )
    return path


def train_arguments(dataset, out, *more):
    return [
        "train",
        *("--dataset", str(dataset), "--model", "mlp", "--width", "16"),
        *("--epochs", "3", "--batch-size", "16", "--no-report", "--out", str(out)),
        *more,
    ]


def distill_arguments(teacher, out, *more):
    return [
        "distill",
        *("--teacher", str(teacher), "--model", "mlp", "--width", "8"),
        *("--epochs", "2", "--batch-size", "16", "--no-report", "--out", str(out)),
        *more,
    ]


def refusal(arguments, capsys):
    """Runs a command that must be refused; returns its one line on stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line

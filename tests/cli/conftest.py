"""A small dataset on disk and a teacher trained on it, for the whole session."""

import pytest
from cli_arguments import save_dataset, train_arguments
from support import make_dataset

from jaxkd import cli


@pytest.fixture(scope="session")
def quadrants(tmp_path_factory):
    """A learnable dataset of 4 classes as a .npz file."""
    return save_dataset(tmp_path_factory.mktemp("data") / "q.npz", make_dataset())


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, quadrants):
    """The run folder of a teacher trained on it."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    cli.main(train_arguments(quadrants, out))
    return out

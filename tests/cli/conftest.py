"""A small dataset on disk and a teacher trained on it, for the whole session."""

import pytest
from cli_arguments import save_dataset, train_arguments
from flax import nnx
from support import make_dataset

from jaxkd import cli, training


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


@pytest.fixture
def teacher_of(monkeypatch):
    """The teacher's variables in a command to distil, which ends once it has them."""

    class Reached(Exception):
        pass

    given = []

    def freeze(module, normalization):
        given.append(nnx.state(module))
        raise Reached

    def run(arguments):
        monkeypatch.setattr(training, "freeze_teacher", freeze)
        with pytest.raises(Reached):
            cli.main(arguments)
        return given.pop()

    return run

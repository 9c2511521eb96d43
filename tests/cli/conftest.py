"""What the tests of the commands share."""

import pytest
from flax import nnx

from jaxkd import cli, training


@pytest.fixture
def teacher_of(monkeypatch):
    """The teacher's variables in a command to distill, which ends once it has them."""

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

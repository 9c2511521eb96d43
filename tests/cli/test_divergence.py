"""Runs whose loss stays infinite, whatever `--on-nonfinite` does."""

import pytest
from cli_arguments import train_arguments

from jaxkd import cli

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize(
    "choice, warnings, says",
    [
        ("skip", 0, "again after skipped steps"),
        ("back-off", 5, "halved 5 times already"),
    ],
)
def test_what_keeps_failing_ends_with_code_1(
    tmp_path, quadrants, capsys, choice, warnings, says
):
    more = ("--learning-rate", "1e38", "--epochs", "8", "--on-nonfinite", choice)
    with pytest.raises(SystemExit) as caught:
        cli.main(train_arguments(quadrants, tmp_path / "run", *more))
    assert caught.value.code == 1
    *warned, last = capsys.readouterr().err.splitlines()
    assert len(warned) == warnings
    assert says in last

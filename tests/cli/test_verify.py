from pathlib import Path

import pytest

import proofs_checks
from jaxkd import cli


@pytest.fixture
def given(monkeypatch):
    """What the command hands on; the checks themselves are replaced."""
    given = {"code": 0}

    def main_from_options(**options):
        given.update(options)
        return given["code"]

    monkeypatch.setattr(
        proofs_checks, "main_from_options", main_from_options, raising=False
    )
    return given


def test_by_default_checks_everything_in_float64(given):
    cli.main(["verify"])
    assert given == {
        "code": 0,
        "only": (),
        "cases": 100_000,
        "dtype": "float64",
        "seed": 0,
        "out": None,
        "kernel": False,
    }


def test_every_option_reaches_the_checks(given, tmp_path):
    out = str(tmp_path / "certificate")
    cli.main(
        [
            *("verify", "--only", "T3", "T10", "--cases", "500"),
            *("--dtype", "bfloat16", "--seed", "7", "--out", out, "--kernel"),
        ]
    )
    assert given == {
        "code": 0,
        "only": ("T3", "T10"),
        "cases": 500,
        "dtype": "bfloat16",
        "seed": 7,
        "out": Path(out),
        "kernel": True,
    }


def test_a_failed_check_exits_with_1(given):
    given["code"] = 1
    with pytest.raises(SystemExit) as caught:
        cli.main(["verify"])
    assert caught.value.code == 1


def test_without_coq_the_command_says_so_before_it_checks(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit) as caught:
        cli.main(["verify", "--kernel"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxkd: --kernel needs bash, coqc, coqchk, which cannot be")
    assert "apt-get install coq" in line

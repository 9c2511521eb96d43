"""Names from files and arguments reach the terminal as text, through every door."""

import re
import sys

import numpy as np
import pytest
from cli_arguments import save_dataset
from comparison_support import make_run
from safetensors.numpy import save_file
from support import make_dataset

from jaxkd import cli
from jaxkd._text import printable
from jaxkd.reports import _figures
from proofs_checks import _console

# Each may be in a path: it has no null.
NAMES = {
    "escape sequence": "a\x1b[2J\x1b]0;x\x07b",
    "C1 and delete": "a\x9b31m\x7fb",
    "line breaks": "a\nb\rc\u2028d",
    "reversed": "a\u202eb",
    "not UTF-8": "a\udcff\udc9bb",
    "closed markup": "a[/b]b",
    "markup": "[red]a[link=x]",
    "emoji code": ":bee:",
}
hostile = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
utf8 = pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8", reason="file names are not UTF-8"
)


@pytest.fixture
def shown(capsys):
    """Runs a command; returns what reached the terminal, which must be harmless."""

    def run(arguments, *, fails):
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        assert code == (2 if fails else 0)
        captured = capsys.readouterr()
        text = captured.out + captured.err
        for line in text.split("\n"):
            assert printable(line) == line
        if fails:
            assert captured.err.count("\n") == 1
        return text

    return run


@hostile
@pytest.mark.parametrize("command", ["evaluate", "show", "export", "report"])
def test_an_error_about_a_path(command, name, tmp_path, shown):
    more = {
        "export": ["--format", "orbax", "--out", tmp_path / "o"],
        "report": ["--out", tmp_path / "o"],
    }
    text = shown([command, tmp_path / name, *more.get(command, [])], fails=True)
    # A message of several lines becomes one, as do those of other libraries.
    assert printable(re.sub(r"[\r\n]", " ", name)) in text


@utf8
@hostile
def test_a_report_in_a_folder_of_any_name(name, tmp_path, shown, monkeypatch):
    monkeypatch.setattr(_figures, "comparison_image", lambda *_, **__: b"")
    out = tmp_path / name
    run = make_run(tmp_path, f"run {name}", "kd", [[0.5], [0.6]])
    alone = make_run(tmp_path, f"alone {name}", "student", [[0.5], [0.6]], model="mlp")
    text = shown(["report", run, alone, "--out", out], fails=False)
    assert f"Table and curves are in {tmp_path}/{printable(name)}\n" in text
    assert "has the network and dataset of" in text
    assert (out / "report.csv").is_file()


@hostile
def test_class_names_of_a_dataset(name, tmp_path, shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = save_dataset(tmp_path / "x.npz", make_dataset())
    arrays = dict(np.load(path))
    names = np.array([name, "b", "c", "d"])
    np.savez(path, **arrays, class_names=names)
    # Class names must be UTF-8; the message shows the name in the same way.
    assert printable(name) in shown(["data", path], fails="\udcff" in name)


@hostile
def test_tensor_names_of_a_checkpoint(name, tmp_path, shown):
    if "\udcff" in name:
        pytest.skip("the format has only UTF-8 names")
    save_file({name: np.zeros((2, 3), np.float32)}, tmp_path / "x.safetensors")
    arguments = ["convert", tmp_path / "x.safetensors", "--out", tmp_path / "out"]
    shown([*arguments, "--model", "mlp"], fails=True)


@hostile
def test_lines_of_the_certificate(name, capsys):
    _console.say(f"Wrote the certificate to {name}.")
    line = f"Wrote the certificate to {printable(name)}.\n"
    assert capsys.readouterr().out == line


@hostile
def test_arguments_that_the_command_does_not_have(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["report", "run", f"--{name}", "x", "--out", "o"])
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert printable(text.replace("\n", "")) == text.replace("\n", "")

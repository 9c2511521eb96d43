"""What a command shows on a terminal, and does not write to a pipe."""

import io
import subprocess
import sys
import types

import pytest
from cli_arguments import distill_arguments, train_arguments
from terminal_support import on_terminal, screen, shown

from jaxkd import _messages, cli
from jaxkd.cli import _next_steps
from jaxkd.cli._options import COMMANDS, parse

MAIN = "from jaxkd import cli\ncli.main({})"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal as stderr."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    # pytest sets sys.stderr itself between a fixture and its test.
    monkeypatch.setattr(_messages, "sys", types.SimpleNamespace(stderr=stream))
    monkeypatch.setattr(_messages, "_announced", False)
    return stream


def test_what_is_announced_is_erased_by_the_next_message(terminal):
    _messages.announce("loading digits")
    assert screen(terminal.getvalue()) == ["jaxkd: loading digits ..."]
    _messages.say("warning: few")
    assert screen(terminal.getvalue()) == ["jaxkd: warning: few"]


def test_what_is_announced_replaces_what_was(terminal):
    _messages.announce("loading a dataset with a long name")
    _messages.announce("compiling")
    assert screen(terminal.getvalue()) == ["jaxkd: compiling ..."]
    _messages.withdraw()
    assert screen(terminal.getvalue()) == []


@pytest.mark.parametrize("columns", ["30", "40", "80"])
def test_what_is_announced_fits_the_terminal(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    _messages.announce("loading " + "a/long/path/" * 20)
    (line,) = screen(terminal.getvalue())
    assert len(line) < int(columns)


def test_a_terminal_that_erases_nothing_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    _messages.announce("loading JAX")
    _messages.withdraw()
    assert terminal.getvalue() == "jaxkd: loading JAX ...\n"


def test_nothing_is_announced_off_a_terminal(capsys):
    _messages.announce("loading JAX")
    assert capsys.readouterr().err == ""


def test_every_command_announces_itself_before_its_code_is_imported(
    monkeypatch, terminal
):
    seen = []

    def stop(module):
        seen.append(screen(terminal.getvalue()))
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", stop)
    monkeypatch.setattr(cli, "_end_at_once", lambda code: None)
    minimal = {
        "train": ["--dataset", "d", "--model", "m", "--out", "o"],
        "distill": ["--teacher", "t", "--model", "m", "--out", "o"],
        "record": ["--teacher", "t", "--out", "o"],
        "convert": ["c", "--out", "o"],
        "export": ["r", "--format", "orbax", "--out", "o"],
        "report": ["r", "--out", "o"],
        "predict": ["r", "i", "--out", "o.csv"],
    }
    one = {
        "evaluate": ["r"],
        "temperature": ["r"],
        "show": ["r"],
        "layers": ["r"],
        "data": ["d"],
        "audit": ["module:function"],
    }
    names = [kind.__name__.lower() for kind in COMMANDS]
    for name in names:
        cli.main([name, *minimal.get(name, one.get(name, []))])
        seen[-1] = seen[-1][-1]
    assert len(seen) == len(names)
    assert set(seen) == {"jaxkd: loading JAX ...", "jaxkd: reading the runs ..."}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_a_command_leaves_its_output_alone_on_the_screen():
    output = on_terminal(MAIN.format(["layers", "resnet8"]))
    assert shown(output)[0] == "jaxkd: loading JAX ..."
    assert screen(output)[0].split() == ["path", "class", "output", "parameters"]


def test_an_error_replaces_what_was_announced():
    output = on_terminal(MAIN.format(["evaluate", "nothing"]))
    assert screen(output) == ["jaxkd: there is no run folder nothing. Check the path."]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quadrants):
    """What a run of three epochs wrote to a terminal, and its folder."""
    out = tmp_path_factory.mktemp("terminal") / "run"
    return on_terminal(MAIN.format(train_arguments(quadrants, out))), out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_a_run_says_that_it_compiles(trained):
    lines = shown(trained[0])
    (compiling,) = [i for i, x in enumerate(lines) if "compiling  0:00" in x]
    (first,) = [i for i, x in enumerate(lines) if x.startswith("mlp  epoch 1/3")]
    assert compiling < first


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_the_bar_of_a_run_fits_80_columns_and_stays(trained):
    bars = [line for line in shown(trained[0]) if "━" in line]
    assert bars
    assert max(map(len, bars)) < 80
    (bar,) = [line for line in screen(trained[0]) if "━" in line]
    assert "epoch 3/3" in bar
    assert "test " in bar
    assert " in 0:" in bar


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
def test_a_run_ends_with_the_next_commands_once(trained):
    output, out = trained
    lines = screen(output)
    place = lines.index("next:")
    # The terminal may break the lines.
    assert "".join(lines[place:]).count(f"jaxkd evaluate {out}"[:40]) == 1
    assert output.count("jaxkd distill --teacher") == 1


@pytest.mark.slow
def test_a_pipe_gets_no_bar_and_no_next_commands(tmp_path, quadrants):
    arguments = train_arguments(quadrants, tmp_path / "run")
    result = subprocess.run(
        [sys.executable, "-c", MAIN.format(arguments)], capture_output=True, text=True
    )
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[:3]] == [
        "mlp"
    ] * 3
    assert "next:" not in result.stdout
    assert "compiling" not in result.stdout


def next_of(arguments):
    first, *lines = _next_steps.after(parse(arguments))
    assert first == "next:"
    return [line.split() for line in lines]


@pytest.mark.parametrize("report", [(), ("--report",)])
@pytest.mark.parametrize("make", [train_arguments, distill_arguments])
def test_the_next_commands_are_three_that_can_be_parsed(make, report):
    commands = next_of(make("data.npz", "a run", *report))
    assert len(commands) == 3
    for line in _next_steps.after(parse(make("d", "run", *report)))[1:]:
        program, *words = line.split()
        assert program == "jaxkd"
        assert type(parse(words)) in COMMANDS


def test_a_teacher_is_distilled_next_and_a_student_exported():
    teacher = [words[1] for words in next_of(train_arguments("d", "run", "--report"))]
    student = [words[1] for words in next_of(distill_arguments("t", "run", "--report"))]
    assert teacher == ["evaluate", "distill", "export"]
    assert student == ["evaluate", "report", "export"]


def test_a_run_without_a_page_is_shown_next():
    assert [w[1] for w in next_of(train_arguments("d", "run"))][1] == "show"


def test_a_path_in_a_next_command_is_quoted():
    assert "'a run'" in _next_steps.after(parse(train_arguments("d", "a run")))[1]

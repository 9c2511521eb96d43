"""What comes before a command: start-up, help, completion, the pipe to the reader."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import jaxkd
from jaxkd import cli

HEAVY = {"jax", "flax", "numpy", "matplotlib"}
MAIN = "from jaxkd import cli\ncli.main({})"


def modules_after(code):
    """The names of the modules that a fresh interpreter has loaded after some code."""
    program = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


def words_of_help(capsys, *command):
    """The help text without its boxes and line breaks."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    page = re.sub("[│─╭╮╰╯]|-{5,}", " ", capsys.readouterr().out)
    return " ".join(page.split())


def test_parsing_help_and_the_version_import_no_jax():
    code = "from jaxkd import cli\ncli.main(['--version'])\n"
    for command in ([], ["distill"], ["convert"], ["verify"]):
        code += f"try:\n    cli.main({[*command, '--help']})\nexcept SystemExit: pass\n"
    assert not HEAVY & modules_after(code)


def test_the_help_is_printed_in_any_encoding():
    process = subprocess.run(
        [sys.executable, "-c", MAIN.format(["--help"])],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert process.returncode == 0
    assert process.stderr == b""
    assert b"quickstart" in process.stdout


def test_the_version_is_printed(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"jaxkd {jaxkd.__version__}\n"


def test_importing_the_package_imports_nothing_else():
    assert not {"jax", "flax", "optax", "numpy"} & modules_after("import jaxkd")


def test_losses_need_no_flax():
    loaded = modules_after("from jaxkd import losses")
    assert "jax" in loaded
    assert not {"flax", "optax", "orbax"} & loaded


def test_help_groups_the_options_and_begins_with_those_most_people_need(capsys):
    page = words_of_help(capsys, "distill")
    groups = ("network", "method", "data", "run", "optimizer", "output", "hardware")
    places = [page.index(f" {group} options ") for group in (*groups, "hkd")]
    assert places == sorted(places)
    for first, group in zip(
        ("--model", "--method", "--dataset", "--epochs", "--optimizer", "--out"),
        groups,
        strict=False,
    ):
        box = page[page.index(f" {group} options ") :]
        flags = [word for word in box.split() if word.startswith("--")]
        assert flags[0] == first


def test_every_option_has_a_help_text_and_a_default(capsys):
    for command in (
        "train",
        "distill",
        "record",
        "evaluate",
        "convert",
        "show",
        "data",
    ):
        page = words_of_help(capsys, command)
        assert "(default: None)" not in page
        assert "{None}" not in page.replace("--flip {None,True,False}", "")


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "Expected one of"),
        (["nothing"], "nothing"),
        (["train"], "--out"),
        (["distill", "--temperature", "hot"], "expected a number, got 'hot'"),
        (["train", "--epochs", "1.5"], "expected an integer, got '1.5'"),
        (["train", "--width", "x"], "expected an integer, got 'x'"),
        (["distill", "--weights", "ce"], "expected pairs of a part and its weight"),
        (["distill", "--weights", "ce", "x"], "expected a number, got 'x'"),
        (["distill", "--settings", "a.b"], "expected pairs of a name and a value"),
        (["distill", "--settings", *("kd.temperature", "1") * 2], "is given twice"),
        (["train", "--randaugment", "2"], "expected the number of operations"),
        (["verify", "--dtype", "int8"], "int8"),
        (["--tyro-print-completion", "ksh"], "got 'ksh'"),
    ],
)
def test_a_malformed_command_line_exits_with_2_and_says_why(arguments, says, capsys):
    if arguments[:1] in (["train"], ["distill"]) and len(arguments) > 1:
        arguments += ["--out", "o", "--model", "m", "--dataset", "d"]
        arguments += ["--teacher", "t"] if arguments[0] == "distill" else []
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert says in " ".join(captured.err.split())
    assert captured.out == ""


def completion(shell, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--tyro-print-completion", shell])
    assert caught.value.code in (None, 0)
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_flags(shell, capsys):
    script = completion(shell, capsys)
    for word in ("quickstart", "--hkd.bank-dtype", "warmup-cosine"):
        assert word in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_flag(tmp_path, capsys):
    script = tmp_path / "jaxkd"
    script.write_text(completion("bash", capsys))
    program = f"""
source {script}
COMP_WORDS=(jaxkd distill --tempe); COMP_CWORD=2
COMP_LINE="jaxkd distill --tempe"; COMP_POINT=${{#COMP_LINE}}
$(complete -p jaxkd | sed 's/.*-F \\([^ ]*\\).*/\\1/') jaxkd --tempe distill
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert result.stdout.split() == ["--temperature"], result.stderr


@pytest.mark.parametrize("arguments", [["methods"], ["train", "--help"]])
def test_a_reader_that_has_ended_ends_a_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-c", MAIN.format(arguments)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert process.returncode == 141
    assert process.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_head_of_a_pipe_is_all_that_is_printed():
    command = f'"{sys.executable}" -c "{MAIN.format(["methods"])}" | head -1'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "jaxkd distill --method" in result.stdout
    assert (result.returncode, result.stderr) == (0, "")

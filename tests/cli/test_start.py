import subprocess
import sys

import pytest

import jaxkd
from jaxkd import cli


def modules_after(code):
    """The names of the modules that a fresh interpreter has loaded after some code."""
    program = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["distill", "convert", "verify"])
def test_help_imports_no_jax(command):
    code = (
        "from jaxkd import cli\n"
        f"try:\n    cli.main(['{command}', '--help'])\nexcept SystemExit: pass"
    )
    assert not {"jax", "flax", "numpy", "matplotlib"} & modules_after(code)


def test_the_version_is_printed_without_jax(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"jaxkd {jaxkd.__version__}\n"
    code = "from jaxkd import cli\ncli.main(['--version'])"
    assert not {"jax", "flax", "numpy", "matplotlib"} & modules_after(code)


def test_importing_the_package_imports_nothing_else():
    assert not {"jax", "flax", "optax", "numpy"} & modules_after("import jaxkd")


def test_losses_need_no_flax():
    loaded = modules_after("from jaxkd import losses")
    assert "jax" in loaded
    assert not {"flax", "optax", "orbax"} & loaded


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["train"],
        ["distill", "--temperature", "hot"],
        ["verify", "--dtype", "int8"],
    ],
)
def test_a_malformed_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2

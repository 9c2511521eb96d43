"""``jaxkd audit``."""

import json

import pytest

from jaxkd import cli

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SOURCE = """
import jax
import jax.numpy as jnp


def matching(student, teacher):
    d = student - jax.lax.stop_gradient(teacher)
    return 0.5 * jnp.square(d.astype(jnp.float32)).mean(-1)


def summed(student, teacher, weight=1.0):
    return weight * matching(student, teacher).sum()


number = 3
"""
EXCEPT = ("--except", "zero-sum")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "my_losses.py"
    path.write_text(SOURCE)
    return path


def exit_code(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", *map(str, arguments)])
    return caught.value.code


def test_a_clean_loss_exits_with_0_and_a_table(source, capsys):
    cli.main(["audit", f"{source}:matching", *EXCEPT])
    out = capsys.readouterr().out
    assert "Audit of matching" in out
    assert "matching is clean" in out.splitlines()[-1]


def test_a_faulty_loss_exits_with_1_and_its_fix(source, capsys):
    assert exit_code(f"{source}:summed", *EXCEPT) == 1
    out = capsys.readouterr().out
    assert "FAULT batch-sum: the loss is summed over the batch" in out
    assert "fix: return one value per example" in out
    assert "summed has 1 fault" in out


def test_except_may_be_repeated(source):
    cli.main(["audit", f"{source}:summed", *EXCEPT, "--except", "batch"])


def test_a_module_of_the_current_folder_is_found(source, monkeypatch, capsys):
    monkeypatch.chdir(source.parent)
    monkeypatch.delitem(__import__("sys").modules, "my_losses", raising=False)
    cli.main(["audit", "my_losses:matching", *EXCEPT])
    assert "matching is clean" in capsys.readouterr().out


def test_json_on_stdout_is_all_that_is_printed(source, capsys):
    settings = ("--settings", "weight", "0.5")
    assert exit_code(f"{source}:summed", *EXCEPT, *settings, "--json", "-") == 1
    content = json.loads(capsys.readouterr().out)
    assert [x["mistake"] for x in content["findings"]] == ["batch-sum"]
    assert content["excepted"] == ["zero-sum", "masks"]


def test_out_gets_the_report_and_the_plot(source, tmp_path):
    out = tmp_path / "new" / "audit"
    cli.main(["audit", f"{source}:matching", *EXCEPT, "--out", str(out)])
    assert sorted(x.name for x in out.iterdir()) == [
        *("audit.json", "audit.md", "audit.png")
    ]
    assert json.loads((out / "audit.json").read_text())["clean"] is True
    assert "![Errors in float32](audit.png)" in (out / "audit.md").read_text()
    assert (out / "audit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["{}:matchin"], "did you mean 'matching'"),
        (["{}:number"], "is int, not a function"),
        (["{}"], "must be module:function or path/to/file.py:function"),
        (["{}x.py:f"], "there is no file"),
        (["no_such_module:f"], "cannot import no_such_module: ModuleNotFoundError"),
        (["{}:matching", "--except", "zero"], "--except: unknown check 'zero'"),
        (["{}:matching", "--temperature", "tau"], "--temperature is 'tau', but"),
        (["{}:matching", "--kind", "labeled"], "cannot be called as"),
        (["{}:matching", "--classes", "0"], "--classes must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_audited_exits_with_2_and_one_line(
    source, capsys, arguments, says
):
    assert exit_code(*(x.format(source) for x in arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert says in line


def test_a_file_with_an_error_exits_with_2(tmp_path, capsys):
    path = tmp_path / "broken.py"
    path.write_text("import jax\n1 / 0\n")
    assert exit_code(f"{path}:f") == 2
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err

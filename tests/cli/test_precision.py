"""The teacher's dtype and the memory of a step, on the command line."""

import pytest
from cli_arguments import distill_arguments

from jaxkd import cli, runs


@pytest.mark.slow
def test_a_run_records_both_options_and_remat_may_change_on_resume(tmp_path, teacher):
    out = tmp_path / "run"
    given = ("--teacher-dtype", "bfloat16", "--remat", "--epochs", "1")
    cli.main(distill_arguments(teacher, out, *given))
    options = runs.read_config(out)["options"]
    assert options["teacher_dtype"] == "bfloat16"
    assert options["remat"] is True
    again = ("--teacher-dtype", "bfloat16", "--epochs", "1", "--resume")
    cli.main(distill_arguments(teacher, out, *again))


def test_another_dtype_of_the_teacher_is_refused_by_the_flag(tmp_path, capsys):
    arguments = distill_arguments(tmp_path, tmp_path / "run", "--teacher-dtype", "int8")
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "--teacher-dtype" in " ".join(capsys.readouterr().err.split())

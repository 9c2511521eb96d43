"""The commands that are most useful after a run."""

from jaxkd._text import shell_line
from jaxkd.cli._options import Distill, Train


def after(options: Train | Distill) -> list[str]:
    """Return the lines that name the next commands.

    A teacher's next steps are to evaluate it and to distill it; a student's are to
    compare it and to export it. `jaxkd show` takes a place only if the run has not
    written its report.

    Args:
        options: The options of the run that has ended.
    """
    out = str(options.out)
    commands = [["evaluate", out]]
    if not options.report:
        commands.append(["show", out])
    if isinstance(options, Distill):
        if options.report:
            commands.append(["report", out, "--out", f"{out}-report"])
    else:
        student = ["--method", "kd", "--out", f"{out}-student"]
        commands.append(["distill", "--teacher", out, "--model", "resnet8", *student])
    if len(commands) < 3:
        commands.append(
            ["export", out, "--format", "safetensors", "--out", f"{out}.safetensors"]
        )
    return ["next:", *(f"  {shell_line(['jaxkd', *words])}" for words in commands)]

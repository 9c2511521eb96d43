"""The command line: ``jaxkd --help``.

Parsing imports no JAX; a command's code is imported when it runs.

Exit codes: 0 done; 1 training diverged, or a theorem's check failed; 2 the input cannot
be used, or a file cannot be read or written; 75 a run was asked to end (SIGTERM,
SIGINT), has saved its state, and can be continued; 128 + n ended at once by signal n,
so 130 by Ctrl-C before there is anything to save.
"""

import contextlib
import importlib
import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxkd import __version__
from jaxkd._errors import DivergenceError, Interrupted, InvalidInputError
from jaxkd._messages import say
from jaxkd.cli._options import COMMANDS, parse

RESUMABLE = 75
"""The exit code of a run that was interrupted and can be continued (EX_TEMPFAIL)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command.

    Where the exit code is not 0, one line on stderr says why, and how to continue if
    that is possible. Set ``JAXKD_TRACEBACK=1`` to see the whole traceback of an error
    instead.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"jaxkd {__version__}")
        return
    options = parse(arguments)
    try:
        command = importlib.import_module(COMMANDS[type(options)])
        command.run(options, arguments)
    except (InvalidInputError, OSError, DivergenceError) as error:
        if os.environ.get("JAXKD_TRACEBACK"):
            raise
        say(str(error))
        sys.exit(1 if isinstance(error, DivergenceError) else 2)
    except Interrupted as interruption:
        resume = [] if "--resume" in arguments else ["--resume"]
        command = shlex.join(["jaxkd", *arguments, *resume])
        say(f"{interruption}; continue with: {command}")
        sys.exit(RESUMABLE)
    except KeyboardInterrupt:
        say("interrupted")
        _end_at_once(128 + signal.SIGINT)


def _end_at_once(code: int) -> NoReturn:
    """Ends the process without taking the interpreter apart.

    XLA may be compiling in threads of its own, which crash when what they use is taken
    from under them.
    """
    for process in multiprocessing.active_children():
        process.terminate()
    with contextlib.suppress(OSError):  # a pipe whose reader has ended as well
        sys.stdout.flush()
    os._exit(code)

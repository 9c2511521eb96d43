"""The command line: ``jaxkd --help``.

Parsing imports no JAX; a command's code is imported when it runs.

Exit codes: 0 done; 1 training diverged, a theorem's check failed, or a loss has a
fault; 2 the input cannot be used, or a file cannot be read or written; 75 a run was
asked to end (SIGTERM, SIGINT), has saved its state, and can be continued; 128 + n ended
at once by signal n, so 130 by Ctrl-C and 143 by SIGTERM before there is anything to
save, and 141 if the reader of stdout has ended. In that case, training continues
without its display.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxkd import __version__
from jaxkd._errors import (
    DivergenceError,
    Interrupted,
    InvalidInputError,
    InvalidTypeError,
)
from jaxkd._messages import accept_any_text, announce, say, withdraw
from jaxkd._text import shell_line
from jaxkd.cli import _pipes, _signals
from jaxkd.cli._options import COMMANDS, Report, parse

RESUMABLE = 75
"""Exit code of a run that was interrupted and can be continued (EX_TEMPFAIL)."""

PIPE_CLOSED = 141
"""Exit code if the reader of stdout has ended (128 + SIGPIPE, as shells report it)."""

_COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")
_SHELLS = ("bash", "zsh", "fish", "tcsh")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    If the exit code is not 0, one line on stderr says why, and how to continue if that
    is possible. Set ``JAXKD_TRACEBACK=1`` to see the traceback of an error instead.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _pipes.open_missing()
    with _signals.ending_at_once(_end_at_once):
        try:
            try:
                _run(arguments)
            finally:
                withdraw()
                _pipes.flush_stdout()
        except BrokenPipeError:
            _pipes.discard_stdout()
            sys.exit(PIPE_CLOSED)
        except OSError as error:  # others end in a message about their flag or file
            _pipes.discard_stdout()
            say(f"cannot write stdout ({error.strerror or error})")
            sys.exit(2)


def _run(arguments: list[str]) -> None:
    """Parse a command line and run its command; exit with its code if that is not 0."""
    accept_any_text(sys.stdout)
    if arguments == ["--version"]:
        print(f"jaxkd {__version__}")
        return
    if len(arguments) > 1 and arguments[0] in _COMPLETION:
        _check_shell(arguments[1])
    options = parse(arguments)
    _announce_start(options)
    try:
        importlib.import_module(COMMANDS[type(options)]).run(options, arguments)
    except BrokenPipeError:
        raise
    except (InvalidInputError, InvalidTypeError, OSError, DivergenceError) as error:
        if os.environ.get("JAXKD_TRACEBACK", "0") not in ("", "0"):
            raise
        _fail(error, options)
    except Interrupted as interruption:
        resumes = "--resume" in arguments or not hasattr(options, "resume")
        resume = [] if resumes else ["--resume"]
        command = shell_line(["jaxkd", *arguments, *resume])
        say(f"{interruption}; continue with: {command}")
        sys.exit(RESUMABLE)
    except KeyboardInterrupt:
        say("interrupted")
        _end_at_once(128 + signal.SIGINT)


def _announce_start(options: Any) -> None:
    """Say on a terminal what takes the first seconds of a command: mostly imports."""
    reads_files_only = type(options) is Report
    announce("reading the runs" if reads_files_only else "loading JAX")


def _fail(error: Exception, options: Any) -> NoReturn:
    """Print an error with the flag it is about, and exit with its code."""
    from jaxkd.cli._errors import message_for

    message = message_for(error, options)
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror
        if error.filename is not None:
            message = f"cannot read or write {error.filename}: {message}"
    say(message)
    sys.exit(1 if isinstance(error, DivergenceError) else 2)


def _check_shell(shell: str) -> None:
    if shell not in _SHELLS:
        say(f"completion is available for {', '.join(_SHELLS)}, got {shell!r}")
        sys.exit(2)


def _end_at_once(code: int) -> NoReturn:
    """End the process without finalizing the interpreter.

    XLA may be compiling in threads of its own, which crash when the objects they use
    are destroyed.
    """
    for process in multiprocessing.active_children():
        process.terminate()
    # The reader may have ended as well, or a write to the buffer is interrupted.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        _pipes.flush_stdout()
    os._exit(code)

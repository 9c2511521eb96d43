"""The command line: ``jaxkd --help``.

Parsing imports no JAX; a command's code is imported when it runs.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from jaxkd._errors import DivergenceError, InvalidInputError
from jaxkd.cli._options import COMMANDS, parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command.

    Exits with 0, with 1 if training diverged or a theorem's check failed, and with 2 if
    the input cannot be used or a file cannot be read or written: then one line on
    stderr says why. Set ``JAXKD_TRACEBACK=1`` to see the whole traceback instead.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(arguments)
    command = importlib.import_module(COMMANDS[type(options)])
    try:
        command.run(options, arguments)
    except (InvalidInputError, OSError, DivergenceError) as error:
        if os.environ.get("JAXKD_TRACEBACK"):
            raise
        message = " ".join(str(error).split())
        print(f"jaxkd: {message}", file=sys.stderr)
        sys.exit(1 if isinstance(error, DivergenceError) else 2)
    except KeyboardInterrupt:
        print("jaxkd: interrupted; --resume continues", file=sys.stderr)
        sys.exit(130)

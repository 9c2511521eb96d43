"""Output of the commands on stdout."""

from pathlib import Path
from typing import Any

from rich.console import Console as _Console
from rich.text import Text

from jaxkd._files import naming
from jaxkd._messages import accept_any_text, withdraw
from jaxkd._text import printable


class Console(_Console):
    """A console for text that may come from files.

    Strings, also those in tables, are shown as they are: they cannot contain markup,
    emoji codes or control characters. A line break counts as a control character, so
    print one line at a time. If the reader of stdout has ended, the command ends
    quietly.
    """

    def __init__(self, **settings: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **settings)
        accept_any_text(self.file)

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print text, tables and others; an error names stdout."""
        withdraw()
        with naming(Path("stdout")):
            super().print(*objects, **settings)

    def on_broken_pipe(self) -> None:
        """Let :func:`jaxkd.cli.main` handle the error."""
        raise BrokenPipeError

    def render_str(self, text: str, **settings: Any) -> Text:
        """Convert a string of any renderable to rich's text."""
        return super().render_str(printable(text), **settings)

    def tell(self, text: str) -> None:
        """Print a line, however long."""
        self.print(text, soft_wrap=True)

"""Output of the commands on stdout."""

from rich.console import Console as _Console


class Console(_Console):
    """A console that ends the command quietly if the reader of stdout has ended."""

    def on_broken_pipe(self) -> None:
        """Let :func:`jaxkd.cli.main` handle the error."""
        raise BrokenPipeError

    def tell(self, text: str) -> None:
        """Print a line as it is, without markup, highlights or line breaks."""
        self.print(text, highlight=False, soft_wrap=True, markup=False)

r"""Escape text from run folders, so that no format reads it as syntax.

A run folder may come from somebody else: its method, class names and dataset can be
``\input{x}``, ``<script>`` or ``=cmd|...``. Each format has one function here.
"""

import html

from jaxkd._text import printable

_MARKDOWN = str.maketrans(
    {
        **{character: f"\\{character}" for character in "\\`*[]|~$"},
        **{"&": "&amp;", "<": "&lt;", ">": "&gt;"},
    }
)
# LaTeX reads [ and * after the end of a row as arguments of the line break.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "%&#_{}$"},
        **{character: f"{{{character}}}" for character in "[]*"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "→": r"$\rightarrow$",
        "±": r"$\pm$",
    }
)
# A spreadsheet evaluates a cell that begins with one of these or their full-width
# forms, even after spaces.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_LONGEST_LABEL = 60  # characters; longer ones leave no room for the chart


def for_html(text: str) -> str:
    """Escape text for the content of an element, or a quoted attribute."""
    return html.escape(printable(text))


def for_markdown(text: str) -> str:
    """Escape text for Markdown, including cells of tables."""
    return printable(text).translate(_MARKDOWN).replace("://", "&#58;//")


def for_latex(text: str) -> str:
    """Escape text for LaTeX, including the start of a row of a table."""
    return printable(text).translate(_LATEX)


def for_csv(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would evaluate."""
    text = printable(text)
    return f"'{text}" if text.strip().startswith(_FORMULA) else text


def for_figure(text: str, *, longest: int = _LONGEST_LABEL) -> str:
    """Shorten text, and escape it for Matplotlib.

    Matplotlib reads text between two dollars as a formula, and leaves labels that begin
    with an underscore out of a legend.
    """
    text = printable(text)
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    if text.startswith("_"):
        text = f" {text}"
    return text.replace("$", r"\$")

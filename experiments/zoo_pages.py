"""The tables of the methods and of the invariances, from the code's own metadata.

    python -m experiments.zoo_pages

Run it after a loss or a method has been added or changed. It rewrites the table in
docs/methods.md and the page docs/invariances.md; a test compares them with the code.
"""

import inspect
import re
from pathlib import Path

from jaxkd import distillers
from proofs_checks import invariances

DOCS = Path(__file__).parents[1] / "docs"
HEADER = (
    "| recipe | weights | compares | function | source | name in RepDistiller |\n"
    "|---|---|---|---|---|---|\n"
)
_TABLE = re.compile(r"^\| recipe \|.*?(?=^$)", flags=re.MULTILINE | re.DOTALL)
# "Hinton et al., `Title <URL>`_, 2015": the authors, the address and the year.
_REFERENCE = re.compile(r"(?:After )?(.+?), `[^`]*<(\S+)>`_.*?, (\d{4})", re.DOTALL)


def methods_page() -> str:
    """The page of the methods, with the table as the code has it."""
    rows = "".join(map(row, distillers.METHODS))
    page = (DOCS / "methods.md").read_text()
    return _TABLE.sub(lambda _: HEADER + rows, page, count=1)


def row(method: distillers.Method) -> str:
    """A method's row of the table."""
    weights = ", ".join(f"{part} {weight:g}" for part, weight in method.weights.items())
    functions = ", ".join(f"`{loss.__name__}`" for loss in method.losses)
    cells = (
        f"`{method.recipe}`",
        weights,
        method.compares,
        functions,
        reference(method),
        method.repdistiller,
    )
    return f"| {' | '.join(cells)} |\n"


def reference(method: distillers.Method) -> str:
    """A link to the method's paper, which its docstring cites first."""
    *_, cited = (inspect.getdoc(method.build) or "").partition("References:\n")
    if not cited:
        return ""
    found = _REFERENCE.match(" ".join(cited.split()))
    if found is None:
        raise ValueError(
            f"the references of {method.build.__name__} do not begin with "
            f"'Authors, `Title <URL>`_, year': {cited!r}"
        )
    authors, address, year = found.groups()
    return f"[{authors.replace(' and ', ' & ')} {year}]({address})"


def pages() -> dict[str, str]:
    """The text of each page, by its name."""
    return {"methods.md": methods_page(), "invariances.md": invariances.page()}


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)

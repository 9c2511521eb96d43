"""Write the tables of methods, invariances and proofs from the code's metadata.

    python -m experiments.zoo_pages

Run this after you add or change a loss, a method or a proof in Coq. It rewrites the
table in docs/methods.md and the pages docs/invariances.md and docs/proofs.md. A test
compares them with the code.
"""

import inspect
import re
from pathlib import Path

from jaxkd import distillers
from proofs_checks import invariances, proofs_page

DOCS = Path(__file__).parents[1] / "docs"
HEADER = (
    "| recipe | weights | compares | unlabeled images | function | source | name in "
    "RepDistiller |\n"
    "|---|---|---|---|---|---|---|\n"
)
UNLABELED = {"all": "yes", "negatives": "own class", "part": "in part", "zero": "no"}
_TABLE = re.compile(r"^\| recipe \|.*?(?=^$)", flags=re.MULTILINE | re.DOTALL)
# "Hinton et al., `Title <URL>`_, 2015": the authors, the address and the year.
_REFERENCE = re.compile(r"(?:After )?(.+?), `[^`]*<(\S+)>`_.*?, (\d{4})", re.DOTALL)


def methods_page() -> str:
    """Return the page of the methods, with the table from the code."""
    rows = "".join(map(row, distillers.METHODS))
    page = (DOCS / "methods.md").read_text()
    return _TABLE.sub(lambda _: HEADER + rows, page, count=1)


def row(method: distillers.Method) -> str:
    """Return a method's row of the table."""
    weights = ", ".join(_weight(*each) for each in method.weights.items())
    functions = ", ".join(f"`{loss.__name__}`" for loss in method.losses)
    cells = (
        f"`{method.recipe}`",
        weights,
        method.compares,
        UNLABELED[method.unlabeled],
        functions,
        reference(method),
        method.repdistiller,
    )
    return f"| {' | '.join(cells)} |\n"


def _weight(part: str, weight: float) -> str:
    epochs = distillers.WARMUP_EPOCHS.get(part)
    return f"{part} {weight:g}" + (f", rising for {epochs} epochs" if epochs else "")


def reference(method: distillers.Method) -> str:
    """Return a link to the paper that the method's docstring cites first."""
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
    """Return the text of each page, by its file name."""
    return {
        "methods.md": methods_page(),
        "invariances.md": invariances.page(),
        "proofs.md": proofs_page.page(),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)

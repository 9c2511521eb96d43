from pathlib import Path

from jaxkd import losses
from proofs_checks import invariances

PAGE = Path(__file__).parents[2] / "docs" / "invariances.md"


def test_the_page_is_what_the_code_declares():
    assert PAGE.read_text() == invariances.page()


def test_the_page_has_a_mark_or_a_blank_for_every_transformation():
    rows = {
        row.split("`")[1]: row.count("|") - 2
        for row in invariances.page().splitlines()
        if row.startswith("| `")
    }
    assert rows == {d.loss.__name__: len(d.transformations) for d in losses.INVARIANCES}

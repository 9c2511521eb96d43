"""The site's hooks: docstrings, formulas, and links out of the pages."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

HOOKS = Path(__file__).parents[2] / "docs" / "_hooks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"hook_{name}", HOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def to_markdown():
    pytest.importorskip("griffe")
    return load("docstrings").to_markdown


@pytest.mark.parametrize(
    "text, expected",
    [
        (r"With :math:`z^s/T`.", r"With `#!math z^s/T`."),
        ("a :math:`x\n    + y` b", "a `#!math x + y` b"),
        ("See :func:`~jaxkd.losses.hint`.", "See `jaxkd.losses.hint`."),
        ("`A Title\n    <https://a.org>`_, 1", "[A Title](https://a.org), 1"),
        ("Example:\n    >>> 1", "Examples:\n    >>> 1"),
        ("``x <= 0.5`` and `y <https://b.c>`_", "``x <= 0.5`` and [y](https://b.c)"),
    ],
)
def test_roles_links_and_sections_become_markdown(to_markdown, text, expected):
    assert to_markdown(text) == expected


def test_a_displayed_formula_becomes_a_fence_and_ends_before_the_next_text(to_markdown):
    text = "Before\n\n.. math::\n    a = b, \\\\\n    c = d.\n\nAfter"
    expected = "```math\na = b, \\\\\nc = d.\n```"
    before, formula, after = to_markdown(text).partition(expected)
    assert (before.strip(), formula, after.strip()) == ("Before", expected, "After")


@pytest.fixture
def site():
    pytest.importorskip("latex2mathml")
    return load("site")


def test_a_formula_that_cannot_be_shown_is_refused(site):
    assert site.inline_formula(r"\frac{1}{2}").startswith("<math")
    with pytest.raises(ValueError, match="cannot be shown"):
        site.inline_formula(r"\nosuchcommand x")


def test_a_wide_formula_is_shown_in_lines(site):
    assert site.displayed_formula(r"a = b, \qquad c = d").count("<math") == 2
    assert site.displayed_formula("a = b, \\\\\nc = d").count("<math") == 2


def test_the_rows_of_cases_stay_together(site):
    cases = r"h = \begin{cases} a & b \\ c & d \end{cases}"
    formula = site.displayed_formula(cases)
    assert (formula.count("<math"), formula.count("<mtr>")) == (1, 2)


@pytest.mark.parametrize(
    "page, text, expected",
    [
        ("faq.md", "[code](../jaxkd/_json.py)", "code (`jaxkd/_json.py`)"),
        ("faq.md", "[`tests/a.py`](../tests/a.py#L3)", "`tests/a.py`"),
        ("faq.md", "[a](../experiments/1_a.ipynb)", "[a](notebooks/1_a.md)"),
        ("api/data.md", "[a](../../x/1_a.ipynb)", "[a](../notebooks/1_a.md)"),
        ("api/data.md", "[data](../data.md)", "[data](../data.md)"),
        ("map.md", "[how](../CONTRIBUTING.md)", "[how](contributing.md)"),
        ("api/data.md", "[log](../../CHANGELOG.md)", "[log](../changelog.md)"),
        ("faq.md", "```\n[a](../b.py)\n```", "```\n[a](../b.py)\n```"),
    ],
)
def test_a_link_out_of_the_pages_becomes_the_name_of_the_file(
    site, page, text, expected
):
    stub = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert site.on_page_markdown(text, stub, None, None) == expected


@pytest.fixture
def notebook(tmp_path):
    """A notebook with a formula in prose, one in a text output, and a picture."""
    nbformat = pytest.importorskip("nbformat")
    new = nbformat.v4
    picture = {"image/png": "UE5H"}  # PNG
    outputs = [
        new.new_output("stream", text="costs $1 and $2\n"),
        new.new_output("display_data", data=picture),
    ]
    cells = [
        new.new_markdown_cell("# Title\n\nHere $x_1$, `$y$` and [a](../../docs/a.md)"),
        new.new_markdown_cell("Then $$a = b.$$ Done."),
        new.new_code_cell("print('$z$')", execution_count=1, outputs=outputs),
        new.new_markdown_cell("At last $w$."),
    ]
    path = tmp_path / "1_title.ipynb"
    nbformat.write(new.new_notebook(cells=cells), path)
    return path


def test_a_notebook_becomes_a_page_of_the_site(notebook):
    pytest.importorskip("nbconvert")
    page, pictures = load("notebooks").to_page(notebook)
    assert page.startswith("# Title\n\n*The notebook `experiments/notebooks/1_title")
    assert "Here `#!math x_1`, `$y$` and [a](../a.md)" in page
    assert "```math\na = b.\n```" in page
    assert "print('$z$')" in page
    assert "    costs $1 and $2" in page
    assert "At last `#!math w`." in page
    ((name, content),) = pictures.items()
    assert content == b"PNG"
    assert f"]({name})" in page

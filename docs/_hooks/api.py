"""The API pages of losses and distillers: one section for each family of methods.

The sections are read from the sources, so that a new function needs no line here:
the families from the tuple `_FAMILIES`, their functions from the `__init__`.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACEHOLDER = "<!-- one section for each family -->"
# The file of each package that lists its families.
LISTED_IN = {"losses": "__init__.py", "distillers": "_recipes.py"}


def on_page_markdown(markdown, page, config, files):
    """Fills in the sections where a page asks for them."""
    return expand(markdown, Path(page.file.src_uri).stem)


def expand(markdown: str, package: str) -> str:
    """The page with a heading, a sentence and the functions of each family."""
    if PLACEHOLDER not in markdown:
        return markdown
    return markdown.replace(PLACEHOLDER, "\n\n".join(sections(package)))


def sections(package: str) -> list[str]:
    """The section of each family, in the order of the tables."""
    folder = ROOT / "jaxkd" / package
    exported = _exports(folder)
    parts = []
    for family in _families(folder / LISTED_IN[package]):
        source = ast.parse((folder / f"{family}.py").read_text())
        names = [
            node.name
            for node in source.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and (family, node.name) in exported
        ]
        title = family.strip("_").replace("_", " ").capitalize()
        entries = "\n\n".join(f"::: jaxkd.{package}.{name}" for name in names)
        parts.append(f"## {title}\n\n{ast.get_docstring(source)}\n\n{entries}")
    return parts


def _families(path: Path) -> list[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_FAMILIES":
            return [ast.unparse(element) for element in node.value.elts]
    raise ValueError(f"{path} has no tuple _FAMILIES")


def _exports(folder: Path) -> set[tuple[str, str]]:
    """The modules and names that the package re-exports."""
    return {
        (node.module.rpartition(".")[2], alias.name)
        for node in ast.parse((folder / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }

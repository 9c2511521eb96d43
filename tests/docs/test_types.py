"""The Python of the documentation has the types that jaxkd declares."""

import ast
import doctest
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
NOTEBOOKS = sorted(ROOT.glob("experiments/notebooks/*.ipynb"))
MODULES = sorted(ROOT.glob("jaxkd/**/*.py"))
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
SETTINGS = {
    "pythonVersion": "3.11",
    "typeCheckingMode": "standard",
    "extraPaths": [str(ROOT)],
    "reportMissingImports": False,  # frameworks that only users have
}


def blocks_of(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each block of a page, on the lines that it has there."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(2))
        code = re.sub(rf"^{match[1]}", "", match[2], flags=re.MULTILINE)
        yield f"{page.stem}_{line}", "\n" * line + code


def cells_of(notebook: Path) -> Iterator[tuple[str, str]]:
    """Yield the code of a notebook, whose last cell sees what the others define."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(x["source"]) for x in cells if x["cell_type"] == "code")
    yield notebook.stem, re.sub(r"^%", "# %", code, flags=re.MULTILINE)


def examples_of(module: Path) -> Iterator[tuple[str, str]]:
    """Yield the example of each docstring of a module."""
    definitions = ast.FunctionDef | ast.ClassDef | ast.Module
    for node in ast.walk(ast.parse(module.read_text())):
        text = ast.get_docstring(node) if isinstance(node, definitions) else None
        examples = doctest.DocTestParser().get_examples(text or "")
        if examples:
            name = f"{module.stem}_{getattr(node, 'name', '')}"
            yield name, "".join(example.source for example in examples)


def all_code() -> Iterator[tuple[Path, str, str]]:
    """Yield all of the documentation's Python, with where it is from and a name."""
    for extract, sources in (
        (blocks_of, PAGES),
        (cells_of, NOTEBOOKS),
        (examples_of, MODULES),
    ):
        for source in sources:
            for name, code in extract(source):
                yield source.relative_to(ROOT), name, code


def errors_in(folder: Path, code: dict[str, str]) -> dict[str, list[str]]:
    """Return the errors that pyright finds in each of some files."""
    for name, text in code.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
    result = subprocess.run(
        [sys.executable, "-m", "pyright", "-p", str(folder), "--outputjson"],
        capture_output=True,
        text=True,
    )
    errors: dict[str, list[str]] = {}
    for found in json.loads(result.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            line = 1 + found["range"]["start"]["line"]
            name = Path(found["file"]).stem
            errors.setdefault(name, []).append(f"line {line}: {found['message']}")
    return errors


def test_a_block_of_a_page_keeps_its_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n  ```python\n  x = 1\n  ```\n\n```sh\nls\n```\n")
    assert list(blocks_of(page)) == [("page_3", "\n\n\nx = 1\n")]


def test_blocks_cells_and_examples_are_found():
    kinds = {source.suffix for source, _, _ in all_code()}
    assert kinds == {".md", ".ipynb", ".py"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_pyright_finds_errors(tmp_path):
    code = {
        "right": "from jaxkd import data\nx: int = data.load('digits').num_classes\n",
        "wrong": "from jaxkd import data\nx: str = data.load('digits').num_classes\n",
    }
    assert list(errors_in(tmp_path, code)) == ["wrong"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_pyright_finds_no_error_in_the_documentation(tmp_path):
    places = {}
    for number, (source, name, code) in enumerate(all_code()):
        places[f"n{number}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"] = (source, code)
    found = errors_in(tmp_path, {name: code for name, (_, code) in places.items()})
    shown = [f"{places[name][0]} ({name}): {x}" for name in found for x in found[name]]
    assert not shown, "\n".join(shown)

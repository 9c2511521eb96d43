"""Limits on the length of functions and files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("jaxkd", "proofs_checks", "experiments")
LONGEST_FUNCTION = 80  # lines from `def` to the end, without the docstring
LONGEST_FILE = 400  # lines


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """The name, first line and length of every function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                length -= docstring.end_lineno - docstring.lineno + 1
            yield node.name, node.lineno, length


def test_the_length_of_a_function_leaves_out_its_docstring():
    source = 'def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n    return x\n'
    assert list(functions(source)) == [("f", 1, 4)]


@pytest.mark.parametrize("package", PACKAGES)
def test_there_are_files_to_check(package):
    assert any((ROOT / package).rglob("*.py"))


def test_no_function_is_longer_than_80_lines():
    long = [
        f"{path.relative_to(ROOT)}:{line}: {name} has {length} lines"
        for path in sources()
        for name, line, length in functions(path.read_text())
        if length > LONGEST_FUNCTION
    ]
    assert not long, (
        f"functions with more than {LONGEST_FUNCTION} lines, docstring aside; move "
        "parts into functions of their own:\n" + "\n".join(long)
    )


def test_no_file_is_longer_than_400_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    long = [
        f"{path.relative_to(ROOT)}: {length} lines"
        for path, length in lengths.items()
        if length > LONGEST_FILE
    ]
    assert not long, (
        f"files with more than {LONGEST_FILE} lines; split them by topic:\n"
        + "\n".join(long)
    )

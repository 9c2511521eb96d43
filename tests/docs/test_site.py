"""The documentation site: every name and page is there, and every command parses."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jaxkd
from jaxkd.cli import _options

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
ELLIPSES = {"…", "...", "COMMAND"}
# Answered before a command is parsed.
OF_THE_PROGRAM = ("--version", "--tyro-")


def public_names(subpackage: str) -> set[str]:
    """What a subpackage re-exports as itself, and what it defines."""
    source = Path(importlib.import_module(f"jaxkd.{subpackage}").__file__).read_text()
    return set(re.findall(r"\b(\w+) as \1\b", source)) | set(
        re.findall(r"^([A-Za-z]\w*)\b[^=\n]*=", source, flags=re.MULTILINE)
    )


def command_lines(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"(srun )?jaxkd ", line)]


COMMANDS = [
    pytest.param(line, id=f"{page.name}-{number}")
    for page in PAGES
    for number, line in enumerate(command_lines(page))
]


@pytest.mark.parametrize("subpackage", jaxkd._SUBPACKAGES)
def test_every_public_name_has_a_place_in_the_api_pages(subpackage):
    text = (DOCS / "api" / f"{subpackage}.md").read_text()
    page = runpy.run_path(str(DOCS / "_hooks" / "api.py"))["expand"](text, subpackage)
    shown = re.findall(rf"^::: jaxkd\.{subpackage}\.(\w+)$", page, flags=re.MULTILINE)
    assert sorted(shown) == sorted(public_names(subpackage))


def test_every_error_that_the_package_exports_has_a_place_in_the_api_pages():
    source = Path(jaxkd.__file__).read_text()
    errors = re.findall(r"from jaxkd\._errors import (\w+) as", source)
    page = (DOCS / "api" / "index.md").read_text()
    assert sorted(re.findall(r"^::: jaxkd\.(\w+)$", page, re.MULTILINE)) == errors


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = re.findall(r": ([\w/-]+\.md)\b|- (api/index\.md)", menu)
    listed = [first or second for first, second in listed]
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert len(listed) == len(set(listed))
    assert set(pages) <= set(listed)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_on_the_pages_can_be_parsed(line):
    words = shlex.split(line, comments=True)
    arguments = words[words.index("jaxkd") + 1 :]
    if ELLIPSES & set(arguments):
        pytest.skip("left open on the page")
    if arguments[0].startswith(OF_THE_PROGRAM):
        pytest.skip("not a command")
    assert _options.parse(arguments) is not None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_on_the_page_can_be_written(shell, tmp_path):
    page = (DOCS / "completion.md").read_text()
    assert f"jaxkd --tyro-write-completion {shell} " in page
    with pytest.raises(SystemExit) as ended:
        _options.parse(["--tyro-write-completion", shell, str(tmp_path / "jaxkd")])
    assert not ended.value.code
    assert "quickstart" in (tmp_path / "jaxkd").read_text()


def test_the_comparison_with_other_tools_has_commands():
    assert len(command_lines(DOCS / "coming-from.md")) > 5


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*build, "--site-dir", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    loaded = r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="?https?:'
    assert [page for page in pages if re.search(loaded, page.read_text())] == []
    losses = (tmp_path / "api" / "losses" / "index.html").read_text()
    assert 'id="jaxkd.losses.soft_target_kl"' in losses
    assert "<math" in losses
    assert ":math:" not in losses
    assert ".. math::" not in losses

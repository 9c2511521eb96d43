"""Show the notebooks as pages, with their prose, code and stored outputs."""

import re
from pathlib import Path

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

_NOTEBOOKS = "experiments/notebooks"
# Fenced code, indented outputs, and inline code.
_CODE = re.compile(
    r"(^```.*?^```$|(?:^ {4}[^\n]*\n)+|`[^`\n]+`)", re.DOTALL | re.MULTILINE
)
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$", flags=re.DOTALL)
_INLINE = re.compile(r"\$([^$\n]+(?:\n[^$\n]+)?)\$")
_PICTURE = re.compile(r"!\[png\]\(")


def on_files(files, config):
    """Add a page for each notebook, and its figures."""
    root = Path(config.config_file_path).parent / _NOTEBOOKS
    for path in sorted(root.glob("*.ipynb")):
        text, pictures = to_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            place = f"notebooks/{name}"
            files.append(File.generated(config, place, content=content))
    return files


def to_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Convert a notebook to Markdown, and return it with its figures by name.

    Formulas and links become those of the site's other pages.
    """
    text, resources = MarkdownExporter().from_filename(str(path))
    prefix = f"{path.stem}-"
    text = _PICTURE.sub(f"![Figure drawn by the code above]({prefix}", text)
    pictures = {prefix + name: x for name, x in resources["outputs"].items()}
    parts = _CODE.split(text)
    parts[::2] = map(_prose, parts[::2])
    title, gap, rest = "".join(parts).partition("\n\n")
    where = f"*The notebook `{_NOTEBOOKS}/{path.name}`, with its stored outputs.*"
    return gap.join((title, where, rest)), pictures


def _prose(text: str) -> str:
    def display(match):
        return f"\n\n```math\n{match[1].strip()}\n```\n\n"

    text = _DISPLAYED.sub(display, text)
    text = _INLINE.sub(lambda m: f"`#!math {' '.join(m[1].split())}`", text)
    return text.replace("](../../docs/", "](../")

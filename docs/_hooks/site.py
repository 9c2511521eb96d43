"""Show formulas, pages from the root, and links out of `docs/` on the site."""

import posixpath
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from latex2mathml import converter
from mkdocs.structure.files import File

# Files beside `docs/` that are pages of the site.
_ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

_FENCED = re.compile(r"(^ *```.*?^ *```$)", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")
_ENVIRONMENT = re.compile(r"\\begin\{(\w+)\}.*?\\end\{\1\}", flags=re.DOTALL)
# Put a space between the name of a function and an argument without brackets.
_FUNCTION = re.compile(
    r"(<mi[^>]*>[a-z]{2,}</mi>)(?=<m(?:i|n|sub|sup|subsup|row|frac)\b)"
)


def displayed_formula(latex: str) -> str:
    r"""Convert a formula to lines of MathML, split at ``\qquad`` and ``\\``.

    Browsers show it without external scripts or fonts, and it fits on a phone.
    """
    # Keep the rows of cases and matrices together.
    latex = _ENVIRONMENT.sub(lambda m: m[0].replace(r"\\", r"\cr"), latex)
    parts = [part for part in re.split(r"\\qquad|\\\\", latex) if part.strip()]
    return "".join(f'<div class="formula">{_mathml(p, "block")}</div>' for p in parts)


def inline_formula(latex: str) -> str:
    """Convert a formula to inline MathML.

    Raises:
        ValueError: If the formula has an unknown command.
    """
    return _mathml(latex, "inline")


def _mathml(latex: str, display: str) -> str:
    mathml = converter.convert(" ".join(latex.split()), display=display)
    text = "".join(ElementTree.fromstring(mathml).itertext())
    if re.search(r"\\[A-Za-z]+", text):
        raise ValueError(f"formula {latex!r} has a command that cannot be shown")
    return _FUNCTION.sub(r'\1<mspace width="0.17em"></mspace>', mathml)


def on_config(config):
    """Let superfences and inlinehilite show code marked as ``math``."""

    def display(source, *_, **__):
        return displayed_formula(textwrap.dedent(source))

    def inline(source, *_, **__):
        return inline_formula(source)

    name = {"name": "math", "class": "formula"}
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [{**name, "format": display}]
    }
    config.mdx_configs["pymdownx.inlinehilite"] = {
        "custom_inline": [{**name, "format": inline}]
    }
    return config


def on_files(files, config):
    """Add the pages that lie beside `docs/`, with their links as the site has them."""
    root = Path(config.config_file_path).parent
    for source, page in _ROOT_PAGES.items():
        text = (root / source).read_text().replace("](docs/", "](")
        for other, other_page in _ROOT_PAGES.items():
            text = text.replace(f"]({other})", f"]({other_page})")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Name files beside `docs/` instead of linking them, unless they are pages.

    The links work on a code host, but lead nowhere on the site.
    """
    folder = posixpath.dirname(page.file.src_uri)

    def name(match):
        text, target = match[1], match[2].partition("#")[0]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return match[0]
        page = _ROOT_PAGES.get(path)
        if path.endswith(".ipynb"):  # the other hook makes pages of them
            page = f"notebooks/{posixpath.basename(path).removesuffix('.ipynb')}.md"
        if page is not None:
            return f"[{text}]({posixpath.relpath(page, folder or '.')})"
        return text if path in text else f"{text} (`{path}`)"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(name, prose) for prose in parts[::2]]
    return "".join(parts)

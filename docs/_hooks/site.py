"""What the site needs beyond its plugins: formulas, and links out of `docs/`."""

import posixpath
import re
import textwrap
import xml.etree.ElementTree as ElementTree

from latex2mathml import converter
from pymdownx.superfences import fence_code_format

_FENCED = re.compile(r"(^ *```.*?^ *```$)", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def math_html(latex: str, *, block: bool = False) -> str:
    """A formula as MathML, which browsers show without scripts or fonts from elsewhere."""
    rows = _rows(latex) if block else [latex]
    return "".join(
        f'<div class="formula">{_convert(row, "block")}</div>'
        if block
        else _convert(row, "inline")
        for row in rows
    )


def _rows(latex: str) -> list[str]:
    """A formula that is too wide for a phone falls into its parts."""
    return [part for part in re.split(r"\\qquad", latex) if part.strip()]


def _convert(latex: str, display: str) -> str:
    mathml = converter.convert(" ".join(latex.split()), display=display)
    left = "".join(ElementTree.fromstring(mathml).itertext())
    if re.search(r"\\[A-Za-z]+", left):
        raise ValueError(f"a formula has what cannot be shown: {latex!r}")
    return mathml


def on_config(config):
    """Teaches inline code ``#!math`` and fences ``math``."""
    configs = config.mdx_configs
    configs["pymdownx.superfences"] = {
        "custom_fences": [
            {
                "name": "math",
                "class": "formula",
                "format": lambda source, *_, **__: math_html(
                    textwrap.dedent(source), block=True
                ),
            }
        ]
    }
    configs["pymdownx.inlinehilite"] = {
        "custom_inline": [
            {
                "name": "math",
                "class": "formula",
                "format": lambda source, *_, **__: math_html(source),
            }
        ]
    }
    return config


def on_page_markdown(markdown, page, config, files):
    """Names files beside `docs/` instead of linking them: the site has none of them.

    On a code host the links work, here they would lead nowhere.
    """
    folder = posixpath.dirname(page.file.src_uri)

    def name(match):
        text, target = match[1], match[2].partition("#")[0]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path == "docs" or path.startswith("docs/"):
            return match[0]
        return text if path in text else f"{text} (`{path}`)"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(name, prose) for prose in parts[::2]]
    return "".join(parts)

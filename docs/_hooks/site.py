"""What the site needs beyond its plugins: formulas, and links out of `docs/`."""

import posixpath
import re
import textwrap
import xml.etree.ElementTree as ElementTree

from latex2mathml import converter

_FENCED = re.compile(r"(^ *```.*?^ *```$)", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")
_ENVIRONMENT = re.compile(r"\\begin\{(\w+)\}.*?\\end\{\1\}", flags=re.DOTALL)
# A function's name stands apart from its argument, unless that is in brackets.
_FUNCTION = re.compile(
    r"(<mi[^>]*>[a-z]{2,}</mi>)(?=<m(?:i|n|sub|sup|subsup|row|frac)\b)"
)


def displayed_formula(latex: str) -> str:
    r"""A formula as lines of MathML, one for each part set apart by ``\qquad``, ``\\``.

    Browsers show it without scripts or fonts from elsewhere, and it fits on a phone.
    """
    # The rows of cases and matrices belong together.
    latex = _ENVIRONMENT.sub(lambda m: m[0].replace(r"\\", r"\cr"), latex)
    parts = [part for part in re.split(r"\\qquad|\\\\", latex) if part.strip()]
    return "".join(f'<div class="formula">{_mathml(p, "block")}</div>' for p in parts)


def inline_formula(latex: str) -> str:
    """A formula as MathML within a line.

    Raises:
        ValueError: If it has a command that is not known.
    """
    return _mathml(latex, "inline")


def _mathml(latex: str, display: str) -> str:
    mathml = converter.convert(" ".join(latex.split()), display=display)
    text = "".join(ElementTree.fromstring(mathml).itertext())
    if re.search(r"\\[A-Za-z]+", text):
        raise ValueError(f"a formula has what cannot be shown: {latex!r}")
    return _FUNCTION.sub(r'\1<mspace width="0.17em"></mspace>', mathml)


def on_config(config):
    """Has superfences and inlinehilite show what is marked as ``math``."""

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


def on_page_markdown(markdown, page, config, files):
    """Names files beside `docs/` instead of linking them, but for the notebooks.

    On a code host the links work, here they would lead nowhere.
    """
    folder = posixpath.dirname(page.file.src_uri)

    def name(match):
        text, target = match[1], match[2].partition("#")[0]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return match[0]
        if path.endswith(".ipynb"):  # the other hook makes pages of them
            page = f"notebooks/{posixpath.basename(path).removesuffix('.ipynb')}.md"
            return f"[{text}]({posixpath.relpath(page, folder or '.')})"
        return text if path in text else f"{text} (`{path}`)"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(name, prose) for prose in parts[::2]]
    return "".join(parts)

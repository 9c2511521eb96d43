"""Docstrings are reStructuredText in Google's sections; the site is Markdown.

A griffe extension, so the sources stay as they are and nothing is imported.
"""

import re
import textwrap

import griffe

_ROLE = re.compile(r":(?:func|class|meth|attr|data|mod):`~?([\w.]+)`")
_INLINE = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(
    r"^( *)\.\. math::\n\n?((?:\1 +\S.*\n?|\n(?=\1 +\S))+)", re.MULTILINE
)
_LINK = re.compile(r"`([^`<]+?)\s+<(https?://[^\s>]+)>`_")
_SINGULAR = re.compile(r"^Example:$", re.MULTILINE)


def to_markdown(text: str, reference=lambda name: f"`{name}`") -> str:
    """The same docstring in Markdown.

    Args:
        text: A docstring without its indentation.
        reference: Makes a link of the name of an object.
    """

    def block(match):
        formula = textwrap.indent(textwrap.dedent(match[2]).rstrip(), match[1])
        return f"\n{match[1]}```math\n{formula}\n{match[1]}```\n\n"

    text = _BLOCK.sub(block, text)
    text = _INLINE.sub(lambda m: f"`#!math {' '.join(m[1].split())}`", text)
    text = _ROLE.sub(lambda m: reference(m[1]), text)
    text = _LINK.sub(lambda m: f"[{' '.join(m[1].split())}]({m[2]})", text)
    return _SINGULAR.sub("Examples:", text)


class RestructuredDocstrings(griffe.Extension):
    """Rewrites every docstring of the package once it is loaded."""

    def on_package(self, *, pkg, **kwargs):
        """Goes through all modules, classes, functions and attributes."""
        self._visit(pkg)

    def _visit(self, obj):
        if obj.docstring:
            obj.docstring.value = to_markdown(
                obj.docstring.value, lambda name: _reference(obj, name)
            )
        for member in obj.members.values():
            if not member.is_alias:
                self._visit(member)


def _reference(obj, name: str) -> str:
    """A link, if the object has a place in the API's pages."""
    short = name.removeprefix("jaxkd.")
    found = _find(obj, name)
    if found is None:
        return f"`{short}`"
    if found.is_module:  # its page lies beside that of any docstring
        return f"[`{short}`]({found.name}.md)"
    return f"[`{short}`][{found.path}]"


def _find(obj, name: str):
    package = obj.package
    try:
        path = name if name.startswith(package.path + ".") else obj.resolve(name)
        target = package[path.removeprefix(package.path + ".")]
        if target.is_alias:
            target = target.final_target
    except (griffe.NameResolutionError, griffe.AliasResolutionError, KeyError):
        return None
    if target.is_module:
        public = target.parent is package and not target.name.startswith("_")
        return target if public else None
    # An attribute is described in the docstring of its class.
    if target.parent.is_class and not target.docstring:
        target = target.parent
    holder = target.parent if target.parent.is_class else target
    return target if _is_exported(package, holder) else None


def _is_exported(package, obj) -> bool:
    """Whether a subpackage, or the package itself, has the object under its name."""
    modules = (m for m in package.members.values() if not m.is_alias and m.is_module)
    found = (home.members.get(obj.name) for home in (package, *modules))
    return any(
        x is not None and x.is_alias and x.target_path == obj.path for x in found
    )

"""Docstrings are reStructuredText in Google's sections; the site is Markdown.

A griffe extension, so the sources stay as they are and nothing is imported.
"""

import re
import textwrap

import griffe

_ROLE = re.compile(r":(?:func|class|meth|attr|data|mod):`~?([\w.]+)`")
_INLINE = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(
    r"^( *)\.\. math::\n\n?((?:\1 +\S.*\n?|\n(?=\1 +\S))+)", flags=re.MULTILINE
)
_LINK = re.compile(r"`([^`<]+?)\s+<(https?://[^\s>]+)>`_")
_SINGULAR = re.compile(r"^Example:$", flags=re.MULTILINE)


def to_markdown(text: str, reference=lambda name: f"`{name}`") -> str:
    """The same docstring in Markdown.

    Args:
        text: A docstring without its indentation.
        reference: Makes a link of the name of an object.
    """

    def fence(match):
        indent = match[1]
        formula = textwrap.indent(textwrap.dedent(match[2]).rstrip(), indent)
        return f"\n{indent}```math\n{formula}\n{indent}```\n\n"

    text = _BLOCK.sub(fence, text)
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
    shown = f"`{name.removeprefix('jaxkd.')}`"
    found = _find(obj, name)
    if found is None:
        return shown
    if found.is_module:  # its page lies beside that of any docstring
        return f"[{shown}]({found.name}.md)"
    return f"[{shown}][{found.path}]"


def _find(obj, name: str):
    """What a name in a docstring means, if it is public."""
    package = obj.package
    prefix = f"{package.path}."
    try:
        path = name if name.startswith(prefix) else _resolve(obj, name)
        found = package[path.removeprefix(prefix)]
        if found.is_alias:
            found = found.final_target
    except (griffe.NameResolutionError, griffe.AliasResolutionError, KeyError):
        return None
    if found.is_module:
        public = found.parent is package and not found.name.startswith("_")
        return found if public else None
    # An attribute is described in the docstring of its class.
    if found.parent.is_class and not found.docstring:
        found = found.parent
    outermost = found.parent if found.parent.is_class else found
    return found if _is_exported(package, outermost) else None


def _resolve(obj, name: str) -> str:
    first, dot, rest = name.partition(".")
    return obj.resolve(first) + dot + rest


def _is_exported(package, obj) -> bool:
    """Whether the package or a subpackage has the object under its name."""
    members = package.members.values()
    for home in (package, *(m for m in members if not m.is_alias and m.is_module)):
        member = home.members.get(obj.name)
        if member is not None and member.is_alias and member.target_path == obj.path:
            return True
    return False

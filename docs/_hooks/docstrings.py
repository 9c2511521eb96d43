"""Convert docstrings from reStructuredText to the site's Markdown.

This is a griffe extension: the sources do not change, and nothing is imported.
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
    """Convert a docstring to Markdown.

    Args:
        text: A docstring without indentation.
        reference: Converts the name of an object to a link.
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
    """Convert every docstring of the package once it is loaded."""

    def on_package(self, *, pkg, **kwargs):
        """Visit all modules, classes, functions and attributes."""
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
    """Return a link if the API pages contain the object."""
    shown = f"`{name.removeprefix('jaxkd.')}`"
    found = _find(obj, name)
    if found is None:
        return shown
    if found.is_module:  # all API pages are in one folder
        return f"[{shown}]({found.name}.md)"
    return f"[{shown}][{found.path}]"


def _find(obj, name: str):
    """Find the public object that a name in a docstring refers to."""
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
    # The docstring of a class describes its attributes.
    if found.parent.is_class and not found.docstring:
        found = found.parent
    outermost = found.parent if found.parent.is_class else found
    return found if _is_exported(package, outermost) else None


def _resolve(obj, name: str) -> str:
    first, dot, rest = name.partition(".")
    return obj.resolve(first) + dot + rest


def _is_exported(package, obj) -> bool:
    """Check whether the package or a subpackage exports the object."""
    members = package.members.values()
    for home in (package, *(m for m in members if not m.is_alias and m.is_module)):
        member = home.members.get(obj.name)
        if member is not None and member.is_alias and member.target_path == obj.path:
            return True
    return False

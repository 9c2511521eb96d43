"""Print the page of the invariance table: ``python -m experiments.zoo_pages``."""

from jaxkd import losses
from jaxkd.losses import Arguments, Transformation


def page() -> str:
    """Return a Markdown page with a table for each kind of arguments and a legend."""
    count = len(losses.INVARIANCES)
    lines = [
        "# Invariances",
        "",
        f"This page shows which transformations change the values of each of {count} "
        "losses, as declared beside the loss in the code. To check every mark and "
        "every blank on random cases, run",
        "",
        "```sh",
        "jaxkd verify --only T14",
        "```",
        "",
        "- ●: invariant, the values do not change",
        "- ↻: equivariant, the values are reordered in the same way",
        "- blank: the values change",
        "",
        "`python -m experiments.zoo_pages` makes this page.",
    ]
    for kind in Arguments:
        declarations = [d for d in losses.INVARIANCES if d.arguments is kind]
        if not declarations:
            continue
        transformations = declarations[0].transformations
        names = [t.name.lower().replace("_", " ") for t in transformations]
        lines += ["", f"## {kind.value[0].upper()}{kind.value[1:]}", ""]
        lines.append("| loss | " + " | ".join(names) + " |")
        lines.append("|---" * (len(names) + 1) + "|")
        for declaration in declarations:
            marks = [_mark(declaration, t) for t in transformations]
            lines.append(
                f"| `{declaration.loss.__name__}` | " + " | ".join(marks) + " |"
            )
    lines += ["", "## The transformations", "", "`a` is positive, `c` is any number."]
    lines.append("")
    lines += [
        f"- {t.name.lower().replace('_', ' ')}: {t.value}" for t in Transformation
    ]
    return "\n".join(lines) + "\n"


def _mark(declaration: losses.Declaration, transformation: Transformation) -> str:
    if transformation in declaration.invariant:
        return "●"
    if transformation in declaration.equivariant:
        return "↻"
    return " "


if __name__ == "__main__":
    print(page(), end="")

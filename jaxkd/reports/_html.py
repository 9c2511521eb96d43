"""The elements of a page: HTML that needs no other file."""

from collections.abc import Iterable, Mapping, Sequence

from jaxkd.reports._escape import for_html

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2127;--paper:#fafaf8;--card:#fff;--line:#d9dbdf;
--soft:#5d6570;--same:#0072B2;--other:#D55E00;
--blue:#0072B2}
@media(prefers-color-scheme:dark){:root{--ink:#e3e5e8;--paper:#15171a;--card:#1d2024;
--line:#363b42;--soft:#a0a7b1;--same:#56B4E9;--other:#E69F00;
--blue:#3F9AD6}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:1rem;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.15rem;margin:2rem 0 .6rem}
h3{font-size:.95rem;margin:0 0 .3rem}
h1,h2,h3,p{overflow-wrap:anywhere}
p{margin:.3rem 0 .6rem;max-width:46rem}
.soft,figcaption{color:var(--soft);font-size:.85rem}
.cards{display:grid;gap:1rem;
grid-template-columns:repeat(auto-fit,minmax(min(330px,100%),1fr))}
.cards.narrow{grid-template-columns:repeat(auto-fit,minmax(min(260px,100%),1fr))}
.cards+.cards,.numbers+.numbers{margin-top:.8rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.8rem;min-width:0}
.card>svg{display:block;width:100%;max-width:560px;height:auto;margin:auto}
.numbers{display:grid;gap:.6rem;grid-template-columns:repeat(auto-fill,minmax(135px,1fr))}
.numbers div{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.5rem .7rem}
.numbers b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem .9rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
code{font-size:.85em}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.card table{font-size:.88rem}
td,th{padding:.25rem .4rem;border:1px solid var(--line);text-align:right;
font-weight:normal}
th{color:var(--soft);text-align:left}
@media(max-width:480px){td,th{padding:.2rem .22rem;font-size:.82rem}}
.thumbs{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fill,minmax(92px,1fr))}
.row{display:grid;gap:.35rem;grid-template-columns:repeat(auto-fill,minmax(56px,1fr))}
figure{margin:0;min-width:0}figcaption{overflow-wrap:anywhere}
.row svg{display:block;width:100%;border:3px solid var(--line);border-radius:4px}
.row .same svg{border-color:var(--same)}.row .other svg{border-color:var(--other)}
.row .self svg{border-color:var(--ink)}
.thumbs img{width:100%;max-width:128px;aspect-ratio:1;object-fit:contain;
display:block;border:1px solid var(--line);border-radius:4px}
.small img,.small image{image-rendering:pixelated}
.defs{position:absolute;width:0;height:0}
.card>svg.graph{max-width:640px}
.graph line{stroke-width:.22;opacity:.45}.graph rect{stroke-width:.5}
.graph line.same{stroke:var(--same)}.graph line.other{stroke:var(--other);opacity:.75}
.key.same{color:var(--same)}.key.other{color:var(--other)}
.key{display:inline-block;width:1.4em;height:0;border-top:3px solid;
vertical-align:middle}
"""


NEIGHBOR_KEY = (
    '<p class="soft"><span class="key same"></span> same class &nbsp; '
    '<span class="key other"></span> different classes</p>'
)


def document(title: str, sections: Iterable[str], *, small_images: bool) -> str:
    """Return a whole page, with its style sheet.

    Args:
        title: Title of the page, shown by the browser.
        sections: Its body, as HTML.
        small_images: Whether to show images without smoothing.
    """
    kind = ' class="small"' if small_images else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{for_html(title)}</title><style>{_STYLE}</style></head>"
        f"<body{kind}>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def heading(title: str) -> str:
    """Return the heading of the page."""
    return f"<h1>{for_html(title)}</h1>"


def section(title: str, *parts: str) -> str:
    """Return a section: its heading and its parts, which are HTML."""
    return f"<section><h2>{for_html(title)}</h2>{''.join(parts)}</section>"


def cards(titled: Iterable[tuple[str, str]], *, narrow: bool = False) -> str:
    """Return boxes in a grid, from titles and HTML; narrow ones four in a row."""
    boxes = (
        f'<div class="card"><h3>{for_html(title)}</h3>{content}</div>'
        for title, content in titled
    )
    kind = "cards narrow" if narrow else "cards"
    return f'<div class="{kind}">{"".join(boxes)}</div>'


def numbers(named: Mapping[str, str]) -> str:
    """Return large numbers with their names."""
    boxes = (
        f'<div><b>{for_html(value)}</b><span class="soft">{for_html(name)}</span></div>'
        for name, value in named.items()
    )
    return f'<div class="numbers">{"".join(boxes)}</div>'


def facts(named: Mapping[str, str]) -> str:
    """Return a list of names and values."""
    rows = (
        f"<dt>{for_html(name)}</dt><dd>{for_html(value)}</dd>"
        for name, value in named.items()
    )
    return f'<div class="card"><dl>{"".join(rows)}</dl></div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, whose first column contains the names of the rows."""
    names = "".join(f"<th>{for_html(x)}</th>" for x in head)
    lines = "".join(
        f"<tr><th>{for_html(row[0])}</th>"
        + "".join(f"<td>{for_html(x)}</td>" for x in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{names}</tr>{lines}</table></div>'


def text(content: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{for_html(content)}</p>"


def thumbnails(images: Sequence[tuple[str, str]]) -> str:
    """Return images with captions, from pairs of a ``data:`` URL and a caption."""
    figures = (
        f'<figure><img src="{source}" alt="{for_html(caption)}">'
        f"<figcaption>{for_html(caption)}</figcaption></figure>"
        for source, caption in images
    )
    return f'<div class="thumbs">{"".join(figures)}</div>'

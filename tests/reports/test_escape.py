"""Names from run folders in each format: they are text, and never syntax."""

import csv
import re
import warnings

import numpy as np
import pytest
from comparison_support import make_run
from page_support import Page
from run_support import HISTORY

from jaxkd import cli, reports
from jaxkd._text import printable
from jaxkd.reports import _figures, _html, _thumbnails
from jaxkd.reports._escape import (
    for_csv,
    for_figure,
    for_html,
    for_latex,
    for_markdown,
)

# What each kind of name would do: run a command, include a file, add a cell or a tag.
HOSTILE = {
    "LaTeX": r"\input{/etc/passwd}",
    "LaTeX characters": "100% a_b & #1 $x$ {y} ~ ^^M",
    "argument of a line break": "[1cm] * [2]",
    "HTML": "<script>alert(1)</script><img src=x>",
    "attribute": "\" onload='x'",
    "pipes": "a | b || c",
    "Markdown": "![x](http://x) [y](z) `code` *b* # h ~~s~~ https://x.org",
    "formula": "=cmd|'/c calc'!A0",
    "formula after spaces": " \t+1+1",
    "plus, minus, at": "-1+@SUM(1)",
    "full-width formula": "＝1+1",  # noqa: RUF001
    "mathtext": r"$\input{x}$ $\frac{1}{0}$ $",
    "escaped mathtext": r"\$x\$",
    "lines": "a\nb\r\nc\u2028d",
    "terminal": "\x1b[2J\x1b]0;x\x07\x9b31m",
    "quotes and commas": 'a,"b";c',
    "not UTF-8": "a\udcffb",
    "underscore": "_hidden",
    "long": "x" * 5000,
    "no Latin": "猫 🐝",
}
hostile = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
LATEX_COMMANDS = (
    *("textbackslash", "textasciicircum", "textasciitilde", "textless"),
    *("textgreater", "textbar", "textquotedbl", "rightarrow", "pm"),
)


@hostile
def test_latex_has_no_command_and_no_character_of_the_name(name):
    text = for_latex(name)
    assert set(re.findall(r"\\([a-z]+)", text)) <= set(LATEX_COMMANDS)
    plain = re.sub(r"\\[a-z]+\{\}|\$\\[a-z]+\$|\\[%&#_{}$]|\{[\[\]*]\}", "", text)
    assert not set(plain) & set('\\%&#_{}$^~<>|"[]*\n\r\x1b')


@hostile
def test_markdown_has_no_tag_cell_or_link_of_the_name(name):
    text = for_markdown(name)
    plain = re.sub(r"\\[\\`*\[\]|~$]|&(amp|lt|gt|#58);", "", text)
    assert not set(plain) & set("\\`*[]|~$&<>\n\r\x1b")
    assert "://" not in text


@hostile
def test_a_spreadsheet_evaluates_no_name(name):
    text = for_csv(name)
    assert text.strip()[0] not in "=+-@\t\r＝"  # noqa: RUF001
    assert not set(text) & set("\n\r\x1b\x07")


@hostile
def test_a_page_shows_a_name_as_it_is(name):
    text = _html.text(name) + _html.table([name], [[name, name]])
    text += _html.cards([(name, "")]) + _html.facts({name: name}) + _html.heading(name)
    text += _html.numbers({name: name}) + _html.thumbnails([("data:,", name)])
    page = Page(text)
    own = "p table tr th td div h3 dl dt dd h1 b span figure img figcaption"
    assert not set(page.tags) - set(own.split(" "))
    shown = Page(_html.text(name)).text
    assert shown == for_html(name).replace("&lt;", "<").replace("&gt;", ">").replace(
        "&quot;", '"'
    ).replace("&#x27;", "'").replace("&amp;", "&")
    assert not set(shown) & set("\n\r\x1b\x07\x9b")


@hostile
def test_a_figure_draws_a_name_as_text(name):
    label = for_figure(name)
    figure = _figures.Figure()
    text = figure.text(0, 0, label)
    shown, is_formula = text._preprocess_math(label)
    assert is_formula is False
    assert (
        shown.strip().rstrip("…") == printable(name).strip()[: len(shown.strip(" …"))]
    )
    assert 0 < len(shown) <= 61
    assert not label.startswith("_")


HARMLESS = ("kd", "hkd+kd", "wrn_16_2", "mlp (width 16)", "réseau", "class 1", "a-b")


@pytest.mark.parametrize("name", HARMLESS)
def test_usual_names_stay_as_they_are(name):
    assert for_markdown(name) == for_csv(name) == for_html(name) == name
    assert for_figure(name) == name
    assert for_latex(name) == name.replace("_", r"\_")


def every(names):
    """All names at once, with what separates them."""
    return "".join(names)


def test_the_figures_draw_hostile_names_without_a_warning(monkeypatch):
    monkeypatch.setitem(_figures._SVG_STYLE, "font.family", ["DejaVu Sans"])
    names = [name for name in HOSTILE.values() if len(name) < 100]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _figures.comparison_image(
            {name: np.array([[0.5, 0.6]]) for name in names[:6]},
            teacher_accuracy=0.9,
            title=every(names),
        )
        matrix = np.eye(len(names), dtype=int)
        _figures.confusion_image(matrix, names)
        chart = _figures.confusion(matrix, names)
        curves = _figures.curves(HISTORY, dict.fromkeys(names, "train/ce"), label="x")
        graph = _thumbnails.graph(
            np.array([[0, 1], [1, 0]]), np.eye(2), np.array([0, 1]), [every(names)] * 2
        )
    for text in (chart, curves, graph):
        assert "script" not in Page(text).tags
        assert not set(text) & set("\x1b\x07\x9b\r")


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """The report of runs with a name in every place where a run folder has one."""
    monkeypatch.setattr(_figures, "comparison_image", lambda *_, **__: b"")

    def make(name):
        dataset = {"source": f"{name}.npz", "fingerprint": name}
        teacher = {"network": {"model": name, "width": None}, "fingerprint": name}
        runs = [
            make_run(
                tmp_path,
                *(str(number), method, [[0.6], [0.7]]),
                epochs=number,
                dataset=dataset,
                teacher=teacher,
                note=name if number == 2 else None,
            )
            for number, method in enumerate((name, name, "student"), start=1)
        ]
        out = tmp_path / "out"
        cli.main(["report", *map(str, runs), "--out", str(out)])
        return out, capsys.readouterr()

    return make


@hostile
def test_a_report_of_hostile_runs_has_the_same_cells_as_any_other(name, report):
    out, printed = report(name)
    markdown = (out / "report.md").read_text()
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert pipes == {4}
    assert len(table) == 6  # header, rule, teacher, the student alone, two rows
    assert "<" not in markdown

    latex = (out / "report.tex").read_text()
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {2}
    commands = {"begin", "end", "hline", *LATEX_COMMANDS}
    assert set(re.findall(r"\\([a-z]+)", latex)) <= commands

    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.reader(file))
    assert {len(record) for record in records} == {19}
    first = {cell[:1] for record in records for cell in record}
    assert not first & set("=+-@\t\r＝")  # noqa: RUF001
    for text in (printed.out, printed.err, markdown, latex):
        assert not [x for x in text if x != "\n" and (x < " " or "\x7f" <= x < "\xa0")]


def test_a_figure_with_a_hostile_title_is_written(tmp_path):
    path = tmp_path / "x.png"
    reports.draw_comparison(
        path,
        {r"$\input{x}$": np.array([[0.5, 0.6]])},
        teacher_accuracy=None,
        title=r"$\input{x}$",
    )
    assert path.read_bytes().startswith(b"\x89PNG")

"""Text that is safe to print."""

import io
import os
import shutil
import subprocess
import sys

import pytest
from rich.table import Table

from jaxkd import _messages
from jaxkd._text import count, printable, shell_line, shortened
from jaxkd.cli._console import Console

HOSTILE = {
    "escape sequence": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "C1 control": ("a\x9b31mb", r"a\x9b31mb"),
    "bell, backspace, delete": ("a\x07\x08\x7fb", r"a\x07\x08\x7fb"),
    "null": ("a\x00b", r"a\x00b"),
    "carriage return, tab": ("a\r\tb", r"a\r\tb"),
    "line break": ("a\nb", r"a\nb"),
    "line and paragraph separators": ("a\u2028\u2029\x85b", r"a\u2028\u2029\x85b"),
    "reversed order": ("a\u202egnp.exe", r"a\u202egnp.exe"),
    "isolates and marks": ("\u2066\u2069\u200e\u061c", r"\u2066\u2069\u200e\u061c"),
    "bytes that are not UTF-8": ("a\udcff\ud800b", r"a\udcff\ud800b"),
}
# Names with accents, joiners and ideographs, and what rich would read as its own.
HARMLESS = (
    *("cat", "é", "👩\u200d🚀", "猫", "میخواهم\u200c", "a\\b", "a b", ""),
    *("[/b]", "[red]x", "[link=file:///x]y", ":bee:", "±→"),
)


@pytest.mark.parametrize("text, shown", HOSTILE.values(), ids=HOSTILE)
def test_what_a_terminal_obeys_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_shell_reads_a_printed_line_as_it_was():
    words = [text for text, _ in HOSTILE.values() if "\x00" not in text]
    words = [word.replace("\ud800", "") for word in words]  # no name of a file
    words += ["it's", "a\\b", "a'\\\n", "$x", "*", "", *HARMLESS]
    line = shell_line(words)
    assert printable(line) == line
    program = f"printf '%s\\0' {line}".encode()
    output = subprocess.run(["bash", "-c", program], capture_output=True).stdout
    assert output.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_a_terminal_shows_stays_as_it_is(text):
    assert printable(text) == text


def printed(text, tmp_path, monkeypatch, encoding="utf-8"):
    """What reaches the file behind stdout: a line, and a table with the text."""
    path = tmp_path / "log"
    monkeypatch.setenv("COLUMNS", "200")
    with path.open("w", encoding=encoding) as file:
        console = Console(file=file)
        console.tell(text)
        table = Table(title=text, caption=text)
        table.add_column(text)
        table.add_row(text)
        console.print(table)
        console.print(text)
    return path.read_text(encoding)


@pytest.mark.parametrize("text, shown", HOSTILE.values(), ids=HOSTILE)
def test_the_console_prints_no_control_character(text, shown, tmp_path, monkeypatch):
    found = printed(text, tmp_path, monkeypatch)
    assert found.count(shown) == 6
    assert printable(found.replace("\n", "")) == found.replace("\n", "")


@pytest.mark.parametrize("text", HARMLESS[:-1])
def test_the_console_reads_no_markup(text, tmp_path, monkeypatch):
    assert printed(text, tmp_path, monkeypatch).count(text) >= 6


def test_the_console_prints_any_text_to_a_log_in_ascii(tmp_path, monkeypatch):
    found = printed("70 ± 1, 猫", tmp_path, monkeypatch, encoding="ascii")
    assert found.count(r"70 \xb1 1, \u732b") == 6


@pytest.mark.parametrize("text, shown", HOSTILE.values(), ids=HOSTILE)
def test_a_message_has_no_control_character(text, shown, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    _messages.say(f"there is no file {text}")
    line, end = file.getvalue()[:-1], file.getvalue()[-1]
    assert end == "\n"
    assert printable(line) == line
    assert line in (f"jaxkd: there is no file {shown}", "jaxkd: there is no file a b")


def test_a_message_of_several_lines_becomes_one_and_keeps_its_spaces(capsys):
    _messages.say("first\n    second:\r\n  'a  b'\n")
    assert capsys.readouterr().err == "jaxkd: first second: 'a  b'\n"


@pytest.mark.parametrize(
    "text, number, words",
    [
        ("1 seed", 1, ("seed",)),
        ("0 seeds", 0, ("seed",)),
        ("2,000 seeds", 2000, ("seed",)),
        ("1 class", 1, ("class", "classes")),
        ("3 classes", 3, ("class", "classes")),
    ],
)
def test_nouns_are_counted(text, number, words):
    assert count(number, *words) == text


@pytest.mark.parametrize(
    ("text", "short"), [("a" * 9, "a" * 9), ("a" * 10, "aaaaaa...")]
)
def test_long_text_is_shortened(text, short):
    assert shortened(text, 9) == short

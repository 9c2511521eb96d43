"""A comparison writes and deletes only what a comparison wrote."""

import json
import os
import resource

import pytest
from comparison_support import make_run

from jaxkd import reports
from jaxkd.reports import _report_folder
from jaxkd.reports._report_folder import MARKER

pytestmark = pytest.mark.usefixtures("without_figures")
NAMES = ("report.md", "report.tex", "report.csv", "curves-1.png")


def contents(folder):
    """The contents of all files, by name; links with what they point to."""
    return {
        path.name: os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.iterdir()
        if path.is_symlink() or path.is_file()
    }


def test_a_report_is_made_anew_without_what_is_no_longer_in_it(tmp_path, four):
    out = tmp_path / "out"
    other = make_run(tmp_path, "e", "kd", [[0.5], [0.6]], model="mlp")
    reports.write_comparison([*four, other], out)
    assert set(contents(out)) == {*NAMES, "curves-2.png", MARKER}
    (out / "notes.txt").write_text("mine")
    reports.write_comparison(four, out)
    assert set(contents(out)) == {*NAMES, MARKER, "notes.txt"}


@pytest.mark.parametrize(
    "out, says",
    [
        ("file", "is a file"),
        ("file/sub", "lies below .*file, which is not a folder"),
        ("nothing", "is a link to nothing"),
        ("loop", "cannot be used"),
        ("loop/sub", "cannot be used"),
        ("x" * 300, "has a name of more than 255 bytes"),
        ("a\0b", "contains a null character"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_before_runs_are_read(
    out, says, tmp_path
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nothing").symlink_to("none")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=f"{says}.*Choose a"):
        reports.write_comparison([tmp_path / "no run"], tmp_path / out)


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_else_wrote_is_not_overwritten(name, tmp_path, four):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(ValueError, match="already exists and is not a report"):
        reports.write_comparison(four, out)
    assert contents(out) == {name: b"mine"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["edited", "link", "folder"])
def test_what_is_no_longer_as_it_was_written_is_not_overwritten(
    name, kind, tmp_path, four
):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    reports.write_comparison(four, out)
    (out / name).unlink()
    if kind == "edited":
        (out / name).write_text("mine")
    elif kind == "link":
        (out / name).symlink_to(elsewhere)
    else:
        (out / name).mkdir()
    before = contents(out)
    with pytest.raises(ValueError, match=f"{name} is not as `jaxkd report` wrote it"):
        reports.write_comparison(four, out)
    assert contents(out) == before
    assert elsewhere.read_text() == "mine"


def test_curves_that_somebody_else_wrote_are_not_deleted(tmp_path, four):
    out = tmp_path / "out"
    other = make_run(tmp_path, "e", "kd", [[0.5], [0.6]], model="mlp")
    reports.write_comparison([*four, other], out)
    (out / "curves-2.png").write_text("mine")
    (out / "curves-9.png").write_text("mine")
    reports.write_comparison(four, out)
    assert (out / "curves-2.png").read_text() == "mine"
    assert (out / "curves-9.png").read_text() == "mine"


MARKERS = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "nothing": b"null",
    "no files": b"{}",
    "files of another type": b'{"files": [1]}',
    "checksums of another type": b'{"files": {"report.md": 1}}',
    "not UTF-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", MARKERS.values(), ids=MARKERS)
def test_a_damaged_marker_makes_a_folder_foreign(content, tmp_path, four):
    out = tmp_path / "out"
    reports.write_comparison(four, out)
    (out / MARKER).write_bytes(content)
    with pytest.raises(ValueError, match="already exists and is not a report"):
        reports.write_comparison(four, out)


def test_a_marker_cannot_name_files_outside_of_the_folder(tmp_path, four):
    out, victim = tmp_path / "out", tmp_path / "curves-1.png"
    reports.write_comparison(four, out)
    victim.write_bytes(b"")
    marker = json.loads((out / MARKER).read_text())
    sums = marker["files"]["curves-1.png"]
    marker["files"] |= {"../curves-1.png": sums, str(victim): sums, "notes.txt": sums}
    (out / MARKER).write_text(json.dumps(marker))
    (out / "notes.txt").write_bytes(b"")
    reports.write_comparison(four, out)
    assert victim.exists()
    assert (out / "notes.txt").exists()


@pytest.mark.parametrize("target", ["folder", "nothing"])
def test_a_link_in_place_of_the_marker_is_not_followed(target, tmp_path, four):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    reports.write_comparison(four, elsewhere)
    out.mkdir()
    aim = elsewhere / MARKER if target == "folder" else tmp_path / "none"
    (out / MARKER).symlink_to(aim)
    before = contents(elsewhere)
    with pytest.raises(ValueError, match="already exists and is not a report"):
        reports.write_comparison(four, out)
    assert contents(elsewhere) == before


@pytest.mark.parametrize("again", [False, True])
def test_a_full_disk_leaves_no_temporary_file(again, tmp_path, four, monkeypatch):
    out = tmp_path / "out"
    if again:
        reports.write_comparison(four[:2], out)
    before = contents(out) if again else {}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=f"cannot write {out}.*too large"):
            reports.write_comparison(four, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(out) == before
    reports.write_comparison(four, out)  # once there is space


@pytest.mark.parametrize("at", range(6))
def test_a_report_that_was_interrupted_is_still_known(at, tmp_path, four, monkeypatch):
    """The writing stops before the file of this number."""
    out, written = tmp_path / "out", []
    reports.write_comparison(four[:2], out)
    write_whole = _report_folder.write_whole

    def write(path, content):
        if len(written) == at:
            raise KeyboardInterrupt
        written.append(path)
        write_whole(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(_report_folder, "write_whole", write)
        with pytest.raises(KeyboardInterrupt):
            reports.write_comparison(four, out)
    text = reports.write_comparison(four, out)
    assert text in (out / "report.md").read_text()

"""Single files, written whole and never through a link."""

import errno

import pytest

from jaxkd import runs


@pytest.mark.parametrize(
    "name", ["report.html", ".jaxkd-tmp-report.html", "report.tmp"]
)
def test_a_link_is_replaced_and_not_followed(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to("../precious")
    runs.write_text(run / "report.html", "new")
    assert precious.read_text() == "precious"
    assert (run / "report.html").read_text() == "new"
    assert not (run / "report.html").is_symlink()


def test_a_file_that_is_not_written_to_its_end_stays_as_it_was(tmp_path):
    path = tmp_path / "curves.png"
    path.write_text("before")

    def fill_the_disk():
        with runs.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=rf"cannot write {path} \(No space left"):
        fill_the_disk()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_that_explains_itself_is_left_as_it_is(tmp_path):
    with pytest.raises(OSError, match=r"^too bad$"), runs.naming(tmp_path):
        raise OSError("too bad")

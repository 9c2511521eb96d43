"""Files that are written whole."""

from pathlib import Path

import pytest

from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home, naming, write_whole


@pytest.mark.parametrize("name", ["x.md", "a b", "[x]*?", "é\n%#", "-x", ".tmp", "~x"])
def test_a_file_of_any_name_is_written_and_nothing_else(name, tmp_path):
    for content in (b"old", b"new"):
        write_whole(tmp_path / name, content)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: b"new"
    }


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_the_temporary_file_cannot_be_guessed_and_is_never_one_that_exists(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("jaxkd._files.token_hex", lambda _: "guessed")
    (tmp_path / "target").write_bytes(b"mine")
    guessed = tmp_path / ".jaxkd-tmp-x-guessed"
    guessed.symlink_to("target")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "x", b"new")
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert guessed.is_symlink()


@pytest.mark.parametrize("name", ["x.md", "[x]*?", "é\n%#"])
def test_what_a_killed_process_left_of_the_same_file_is_removed(
    name, tmp_path, monkeypatch
):
    with monkeypatch.context() as killed:
        killed.setattr("os.fsync", _end_process)
        killed.setattr("pathlib.Path.unlink", lambda *_: None)
        with pytest.raises(SystemExit):
            write_whole(tmp_path / name, b"half")
    assert len(list(tmp_path.iterdir())) == 1
    write_whole(tmp_path / name, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_temporary_files_of_others_stay(tmp_path):
    others = {".jaxkd-tmp-y-0123456789abcdef", ".jaxkd-tmp-x-mine", ".jaxkd-tmp-x"}
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    write_whole(tmp_path / "x", b"new")
    assert {path.name for path in tmp_path.iterdir()} == others | {"x"}


def test_a_link_in_the_place_of_a_temporary_file_is_removed_and_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / ".jaxkd-tmp-x-0123456789abcdef").symlink_to("target")
    write_whole(tmp_path / "x", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"target", "x"}
    assert (tmp_path / "target").read_bytes() == b"mine"


def _end_process(_):
    raise SystemExit


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(error, tmp_path, monkeypatch):
    write_whole(tmp_path / "x", b"old")

    def fail(_):
        raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(error)) as caught:
        write_whole(tmp_path / "x", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    if isinstance(error, OSError):
        assert f"cannot write {tmp_path / 'x'} (No space left)" in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/x"):
        write_whole(tmp_path / "none" / "x", b"")


def test_an_error_that_explains_itself_is_left_as_it_is(tmp_path):
    with pytest.raises(OSError, match=r"^too bad$"), naming(tmp_path):
        raise OSError("too bad")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~/runs", "/home/me/runs"),
        (Path("~"), "/home/me"),
        ("runs/~", "runs/~"),
        # A path object has no leading "./", so it cannot be told from a home folder.
        ("./~name", "/here/~name"),
    ],
)
def test_only_a_leading_tilde_is_a_home_folder(path, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(Path, "absolute", lambda self: Path("/here") / self)
    assert expand_home(path) == Path(expected)


def test_the_home_folder_of_nobody_is_refused_with_the_argument():
    with pytest.raises(InvalidInputError, match="no user 'nobody-of-this") as caught:
        expand_home("~nobody-of-this-name/x", "out")
    assert caught.value.argument == "out"

"""Files that are written whole."""

import pytest

from jaxkd._files import write_whole


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
    (tmp_path / ".guessed.tmp").symlink_to("target")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "x", b"new")
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert (tmp_path / ".guessed.tmp").is_symlink()


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
        assert caught.value.filename == str(tmp_path / "x")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/x"):
        write_whole(tmp_path / "none" / "x", b"")

import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxkd._errors import InvalidInputError
from jaxkd.data import _cache

VALUES = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)


def write(target, values=VALUES):
    with _cache.new_folder(target) as folder:
        parts = (values[:1], values[1:])
        entry = _cache.write_array(folder / "a.npy", values.shape, values.dtype, parts)
        _cache.write_metadata(folder, {"files": {"a": entry}})


def test_reads_back_what_was_written_as_a_read_only_memory_map(tmp_path):
    write(tmp_path / "cache")
    metadata, arrays = _cache.read_folder(tmp_path / "cache")
    assert isinstance(arrays["a"], np.memmap)
    assert not arrays["a"].flags.writeable
    np.testing.assert_array_equal(arrays["a"], VALUES)
    assert metadata["files"]["a"]["shape"] == [4, 3, 2]


def test_a_plain_numpy_reader_agrees(tmp_path):
    write(tmp_path / "cache")
    np.testing.assert_array_equal(np.load(tmp_path / "cache" / "a.npy"), VALUES)


def test_the_target_does_not_exist_before_the_end(tmp_path):
    with _cache.new_folder(tmp_path / "cache"):
        assert not (tmp_path / "cache").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_no_files(tmp_path, failure):
    def fail():
        with _cache.new_folder(tmp_path / "cache") as folder:
            (folder / "half").write_text("written")
            raise failure

    with pytest.raises(failure):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_raises_a_one_line_error_and_leaves_no_files(
    tmp_path, monkeypatch, code
):
    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInputError, match=r"cannot write .*cache_dir") as error:
        write(tmp_path / "cache")
    assert os.strerror(code) in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_write_permission_raises_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInputError, match="cannot write the dataset cache"):
        write(tmp_path / "file" / "cache")


def test_the_folder_of_the_first_of_two_writers_is_kept(tmp_path):
    target = tmp_path / "cache"
    with _cache.new_folder(target) as slow:
        (slow / "who").write_text("slow")
        with _cache.new_folder(target) as fast:
            (fast / "who").write_text("fast")
    assert (target / "who").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("cache", sys.argv[3])  # without JAX
spec.loader.exec_module(_cache := importlib.util.module_from_spec(spec))
with _cache.new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("written")
    print("writing", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def start_writer(target, what):
    """Start a process that is killed while it writes, or that waits for its input."""
    command = [sys.executable, "-c", KILLED, str(target), what, _cache.__file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writer = subprocess.Popen(command, **pipes)
    assert writer.stdout.readline() == b"writing\n"
    return writer


def test_what_a_killed_writer_has_left_is_removed_by_the_next(tmp_path):
    start_writer(tmp_path / "killed", "killed").communicate()
    assert len(list(tmp_path.iterdir())) == 2  # The folder and its lock.
    write(tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_what_a_living_writer_writes_is_kept(tmp_path):
    writer = start_writer(tmp_path / "slow", "waits")
    write(tmp_path / "cache")
    writer.communicate()
    assert writer.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "slow"}
    assert (tmp_path / "slow" / "half").read_text() == "written"


@pytest.mark.parametrize("age, is_kept", [(3600, True), (90_000, False)])
def test_a_leftover_without_a_lock_is_removed_after_a_day(tmp_path, age, is_kept):
    leftover = tmp_path / f".old.{'0' * 32}"
    leftover.mkdir()
    then = time.time() - age
    os.utime(leftover, (then, then))
    write(tmp_path / "cache")
    assert leftover.exists() == is_kept


def test_foreign_files_beside_the_cache_are_kept(tmp_path):
    names = [".hidden", "folder-1.lock", f"x.{'0' * 32}", f".x.{'0' * 31}"]
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    write(tmp_path / "cache")
    assert {path.name for path in tmp_path.iterdir()} == {*names, "cache"}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def extend(path):
    path.write_bytes(path.read_bytes() + b"X")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def garble_the_header(path):
    content = path.read_bytes()
    path.write_bytes(b"X" * 8 + content[8:])


def reshape(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(4, 3, 2)", b"(2, 3, 4)"))


@pytest.mark.parametrize(
    "damage", [truncate, extend, flip_a_bit, garble_the_header, reshape, os.remove]
)
def test_the_error_for_a_damaged_array_names_the_file_and_the_remedy(tmp_path, damage):
    write(tmp_path / "cache")
    damage(tmp_path / "cache" / "a.npy")
    with pytest.raises(InvalidInputError, match=r"a\.npy is damaged.*delete the fold"):
        _cache.read_folder(tmp_path / "cache")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"files": {"a": {}}}'])
def test_the_error_for_damaged_metadata_names_the_file_and_the_remedy(
    tmp_path, content
):
    write(tmp_path / "cache")
    (tmp_path / "cache" / "metadata.json").write_text(content)
    with pytest.raises(InvalidInputError, match=r"is damaged.*delete the folder"):
        _cache.read_folder(tmp_path / "cache")


def test_cache_root_prefers_argument_then_variable_then_user_folder(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("JAXKD_CACHE_DIR", str(tmp_path / "variable"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert _cache.cache_root(tmp_path / "argument") == tmp_path / "argument"
    assert _cache.cache_root(None) == tmp_path / "variable"
    monkeypatch.delenv("JAXKD_CACHE_DIR")
    assert _cache.cache_root(None) == tmp_path / "user" / "jaxkd"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _cache.cache_root(None) == tmp_path / ".cache" / "jaxkd"

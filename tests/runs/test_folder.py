"""The files of a run folder."""

import ast
import errno
import os
from pathlib import Path

import pytest

import jaxkd
from jaxkd import runs

NAMES = {
    path.name
    for path in (
        getattr(runs.RunFolder(Path()), name)
        for name in ("config", "metrics", "summary", "report", "checkpoints", "wandb")
    )
}
ROOMS = [
    path
    for path in Path(jaxkd.__file__).parent.rglob("*.py")
    if path.relative_to(Path(jaxkd.__file__).parent).parts[0] != "runs"
]


def test_no_other_package_names_the_files_of_a_run_folder():
    named = [
        (path.name, node.value)
        for path in ROOMS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in NAMES
    ]
    assert named == []


def test_every_file_has_a_path_of_its_own():
    folder = runs.RunFolder(Path("run"))
    paths = {
        getattr(folder, name)
        for name, value in vars(runs.RunFolder).items()
        if isinstance(value, property)
    }
    assert len(paths) == 13
    assert {path.parent for path in paths} == {Path("run")}


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    runs.write_json(path, {"epochs": 1})
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        runs.write_json(path, {"epochs": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_json_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "summary.json").write_text('{"epochs": ')
    with pytest.raises(ValueError, match=r"summary\.json is damaged"):
        runs.read_summary(tmp_path)

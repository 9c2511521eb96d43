"""Paths of datasets."""

from pathlib import Path

import pytest

from jaxkd import InvalidInputError, data
from jaxkd.data._cache import cache_root

NOBODY = "~nobody-of-this-name/x"


@pytest.mark.parametrize(
    "read",
    [
        lambda _: data.load(NOBODY),
        lambda _: data.load(f"{NOBODY}.npz"),
        lambda _: data.load("fashion_mnist", data_dir=NOBODY),
        lambda _: cache_root(NOBODY),
        lambda patch: (patch.setenv("JAXKD_CACHE_DIR", NOBODY), cache_root(None)),
        lambda patch: (
            patch.setenv("TFDS_DATA_DIR", NOBODY),
            data.load("fashion_mnist"),
        ),
    ],
)
def test_a_home_folder_of_nobody_is_refused(read, monkeypatch):
    with pytest.raises(
        InvalidInputError, match="there is no user 'nobody-of-this-name' whose"
    ):
        read(monkeypatch)


def test_a_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_root("~/cache") == Path("/home/me/cache")

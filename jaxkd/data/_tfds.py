"""Load and prepare datasets of TensorFlow Datasets; loading needs no TensorFlow."""

import difflib
import functools
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._files import expand_home
from jaxkd.data._cache import stamp_of
from jaxkd.data._dataset import Augmentation, default_augmentation
from jaxkd.data._records import Features, TfdsImages, read_features
from jaxkd.data._slices import SPLIT_OPTIONS
from jaxkd.data._source import Notes, Source

_NAME = re.compile(
    r"(?P<base>\w+)(?:/(?P<config>[\w.\-]+))?(?::(?P<version>\d+\.\d+\.\d+))?"
)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = 2


class TfdsSource(Source):
    """A TFDS dataset that is prepared as array_record.

    Args:
        prepared: Folder of the prepared version.
        info: Contents of its ``dataset_info.json``.
    """

    kind = "tfds"
    test_names = ("test", "validation")
    in_row_order = True
    labels_are_slow = True

    def __init__(self, prepared: Path, info: dict[str, Any]):
        self.location = str(prepared)
        self._prepared, self._info = prepared, info
        self.name = "/".join(filter(None, [info["name"], info.get("configName")]))
        self._images = functools.cache(self._open_images)

    @functools.cached_property
    def _features(self) -> Features:
        return read_features(self._prepared)

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        try:
            return {
                split["name"]: sum(map(int, split.get("shardLengths", ())))
                for split in self._info["splits"]
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InvalidInputError(
                f"{self._prepared / 'dataset_info.json'} does not list the splits; "
                "prepare the dataset again",
                argument="data_dir",
            ) from None

    @property
    def channels(self) -> int | None:
        """Number of channels that the dataset declares."""
        return self._features.channels

    def splits(self) -> tuple[str, ...]:
        """Return the names of all splits."""
        return tuple(self._counts)

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        if not self._counts[split]:
            raise InvalidInputError(
                f"the split {split!r} of {self._prepared} is empty", argument="name"
            )
        return self._counts[split]

    def class_names(self, splits: Sequence[str]) -> list[str]:
        """Return the names of the classes, which are those of all splits."""
        del splits
        return self._features.class_names

    def labels(self, split: str, class_names: Sequence[str]) -> np.ndarray:
        """Return the class number of each row."""
        del class_names
        images = self.images(split)
        return np.concatenate([images.labels(rows) for rows in images.chunks()])

    def is_unlabeled(self, split: str, class_names: Sequence[str]) -> bool:
        """Return whether no row of a split has a label; stop at the first label."""
        del class_names
        images = self.images(split)
        return all((images.labels(rows) < 0).all() for rows in images.chunks())

    def notes(self, splits: Sequence[str]) -> Notes:
        """Return nothing, because TFDS has checked the files."""
        del splits
        return Notes()

    def missing(self, split: str) -> InvalidInputError:
        """Build the error for a split that is needed and does not exist."""
        message = (
            f"{self._prepared} must have the splits 'train' and 'test' or "
            f"'validation', but its splits are {', '.join(self._counts)}"
        )
        if split == "test" and "train" in self._counts:
            message += f"; select rows with {SPLIT_OPTIONS}"
        return InvalidInputError(message, argument="name")

    def stamp(self, parts: dict[str, tuple[str, ...]]) -> Any:
        """Start the hash of the cache key from all files of the prepared version.

        Reading all records would take too long, so their stamps stand for them.
        """
        del parts
        digest = hashlib.sha256(str(_CACHE_FORMAT).encode())
        for path in sorted(self._prepared.iterdir()):
            if path.suffix in (".json", ".txt"):
                digest.update(path.read_bytes())
            elif path.is_file():
                digest.update(f"{path.name} {stamp_of(path)}".encode())
        return digest

    def cache_name(self) -> str:
        """Return the readable beginning of the cache folder's name."""
        names = [self._info["name"], self._info.get("configName"), self._prepared.name]
        return "-".join(filter(None, names))

    def fingerprint(self, contents: str) -> str:
        """Return the beginning of the dataset's fingerprint."""
        del contents
        return f"tfds:{self.name}:{self._prepared.name}"

    def augmentation(self, image_shape: tuple[int, ...]) -> Augmentation:
        """Return the default augmentation of the dataset."""
        return default_augmentation(self.name, image_shape)

    def images(self, split: str) -> TfdsImages:
        """Return the images of a split."""
        return self._images(split)

    def _open_images(self, split: str) -> TfdsImages:
        return TfdsImages(self._prepared, split, self._features)


def open_tfds(name: str, data_dir: str | os.PathLike | None) -> TfdsSource:
    """Open ``name[/config][:version]``.

    Raises:
        InvalidInputError: If the dataset is not prepared as array_record.
    """
    prepared = find_prepared(name, data_dir)
    if prepared is None:
        raise _not_prepared(name, data_dir)
    info = _info(prepared)
    if info.get("fileFormat") != "array_record":
        raise InvalidInputError(
            f"{prepared} is prepared as {info.get('fileFormat', 'tfrecord')}, which "
            "only TensorFlow reads; prepare it as array_record in another folder: "
            f"jaxkd data {name} --prepare --data-dir FOLDER",
            argument="data_dir",
        )
    return TfdsSource(prepared, info)


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """Download a TFDS dataset and prepare it as array_record.

    Args:
        name: ``name[/config][:version]`` as in the TFDS catalog.
        data_dir: Folder to write to. If None, TFDS_DATA_DIR, else TFDS's default.

    Returns:
        The folder of the prepared dataset.

    Raises:
        InvalidInputError: If TensorFlow is not installed, or the name is unknown.
    """
    found = find_prepared(name, data_dir)
    if found is not None and _info(found).get("fileFormat") == "array_record":
        return found
    parsed = _NAME.fullmatch(name)
    if parsed is None or parsed["base"] not in _catalog():
        raise _not_prepared(name, data_dir)
    if importlib.util.find_spec("tensorflow") is None:
        raise InvalidInputError(
            f"preparing {name} needs TensorFlow (reading it afterwards does not); "
            "install it in the checkout: pip install '.[prepare]'",
            argument="name",
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder(
        name, data_dir=_data_root(data_dir), file_format="array_record"
    )
    builder.download_and_prepare()
    return Path(builder.data_path)


def find_prepared(name: str, data_dir: str | os.PathLike | None) -> Path | None:
    """Find the folder of the newest prepared version.

    This does not import TFDS, which takes longer than loading from the cache.

    Returns:
        The folder, or None if no version is prepared.

    Raises:
        InvalidInputError: If several configurations are prepared and none is named.
    """
    parsed = _NAME.fullmatch(name)
    if parsed is None:
        return None
    root = _data_root(data_dir) / parsed["base"]
    if parsed["config"]:
        root /= parsed["config"]
    elif not _versions(root):
        configs = [folder for folder in _folders(root) if _versions(folder)]
        if len(configs) > 1:
            listed = " or ".join(f"{name}/{folder.name}" for folder in configs)
            raise InvalidInputError(
                f"{name} is prepared in several configurations; choose {listed}",
                argument="name",
            )
        root = configs[0] if configs else root
    versions = [
        folder for folder in _versions(root) if parsed["version"] in (None, folder.name)
    ]
    return versions[-1] if versions else None


def _data_root(data_dir: str | os.PathLike | None) -> Path:
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return expand_home(chosen, "data_dir")


def _folders(root: Path) -> list[Path]:
    return (
        sorted(path for path in root.iterdir() if path.is_dir())
        if root.is_dir()
        else []
    )


def _versions(root: Path) -> list[Path]:
    """Return the complete version folders, oldest first."""
    complete = [
        folder
        for folder in _folders(root)
        if _VERSION.fullmatch(folder.name) and (folder / "dataset_info.json").is_file()
    ]
    return sorted(complete, key=lambda path: [int(n) for n in path.name.split(".")])


def _info(prepared: Path) -> dict[str, Any]:
    path = prepared / "dataset_info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(info, dict) or not isinstance(info.get("name"), str):
            raise ValueError("it does not name a dataset")
        return info
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"cannot read {path} ({error}); prepare the dataset again",
            argument="data_dir",
        ) from error


def _catalog() -> list[str]:
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _not_prepared(name: str, data_dir: str | os.PathLike | None) -> InvalidInputError:
    root = _data_root(data_dir)
    parsed = _NAME.fullmatch(name)
    if parsed is None and _is_written_as_path(name):
        return _wrong_path(name)  # The catalog, which is slow to import, is not needed.
    catalog = _catalog()
    if parsed and parsed["base"] in catalog:
        return InvalidInputError(
            f"dataset {name!r} is not prepared in {root}; prepare it once with: "
            f"jaxkd data {name} --prepare (needs the extra 'prepare'), or point "
            "data_dir or TFDS_DATA_DIR at the folder that contains it",
            argument="name",
        )
    if _is_written_as_path(name):
        return _wrong_path(name)
    if name and Path(name).is_dir():
        return InvalidInputError(
            f"dataset: {name} is a folder here: write ./{name}", argument="name"
        )
    local = [f.name for f in _folders(root) if _versions(f)]
    similar = difflib.get_close_matches(name, catalog, n=3, cutoff=0.5)
    others = ", and any dataset of TensorFlow Datasets (jaxkd data NAME --prepare)"
    known = {"digits", *local, *similar}
    return unknown_name("dataset", name, known, others=others, argument="name")


def _is_written_as_path(name: str) -> bool:
    """Return whether a name has a path separator or a suffix that starts with a letter.

    A suffix of digits is the last number of a version.
    """
    return (
        name.startswith((".", "~"))
        or os.sep in name
        or re.fullmatch(r"\.[A-Za-z]\w*", Path(name).suffix) is not None
    )


def _wrong_path(name: str) -> InvalidInputError:
    if expand_home(name, "name").exists():
        return InvalidInputError(
            f"dataset: {name} is a file of another kind; give a .npz file, or a folder "
            "of images or parquet files",
            argument="name",
        )
    return InvalidInputError(
        f"dataset: there is no folder or file {name}", argument="name"
    )

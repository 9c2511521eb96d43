"""Load and prepare datasets of TensorFlow Datasets; loading needs no TensorFlow."""

import difflib
import hashlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.data._assemble import Contents, Loading, assemble
from jaxkd.data._cache import stamp_of
from jaxkd.data._dataset import ImageDataset, default_augmentation
from jaxkd.data._records import open_records

_NAME = re.compile(
    r"(?P<base>\w+)(?:/(?P<config>[\w.\-]+))?(?::(?P<version>\d+\.\d+\.\d+))?"
)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = 2


def load_tfds(
    name: str, *, data_dir: str | os.PathLike | None, loading: Loading
) -> ImageDataset:
    """Load ``name[/config][:version]``, decoded into the cache or streamed."""
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
    full_name = "/".join(filter(None, [info["name"], info.get("configName")]))
    train, test, metadata = assemble(
        lambda: Contents(*open_records(prepared, loading.size, loading.background)),
        {"name": full_name, "version": prepared.name},
        _cache_folder(prepared, info, loading),
        loading,
    )
    return ImageDataset(
        name=metadata["name"],
        train=train,
        test=test,
        num_classes=len(metadata["class_names"]),
        class_names=tuple(metadata["class_names"]),
        augmentation=default_augmentation(metadata["name"], train.images.shape[1:]),
        fingerprint=f"tfds:{metadata['name']}:{metadata['version']}"
        + loading.fingerprint,
    )


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
    return Path(chosen).expanduser()


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
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"cannot read {path} ({error}); prepare the dataset again",
            argument="data_dir",
        ) from error


def _cache_folder(prepared: Path, info: dict[str, Any], loading: Loading) -> Path:
    """Return the cache folder for this dataset, version and prepared contents.

    Reading all records would take too long, so their stamps stand for them.
    """
    digest = hashlib.sha256(str(_CACHE_FORMAT).encode())
    for path in sorted(prepared.iterdir()):
        if path.suffix in (".json", ".txt"):
            digest.update(path.read_bytes())
        elif path.is_file():
            digest.update(f"{path.name} {stamp_of(path)}".encode())
    names = [info["name"], info.get("configName"), prepared.name]
    return loading.folder("-".join(filter(None, names)), digest)


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
    if Path(name).expanduser().exists():
        return InvalidInputError(
            f"dataset: {name} is a file of another kind; give a .npz file, or a folder "
            "of images or parquet files",
            argument="name",
        )
    return InvalidInputError(
        f"dataset: there is no folder or file {name}", argument="name"
    )

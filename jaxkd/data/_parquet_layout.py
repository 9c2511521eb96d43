"""Find parquet files in a folder, and the splits that their names tell."""

import re
from pathlib import Path

from jaxkd._errors import InvalidInputError
from jaxkd.data._files import folders

# The beginning of a file's name tells its split; longer names come first.
_SPLIT_NAMES = ("train", "test", "validation", "val")
_OTHER_NAMES = {"training": "train", "testing": "test", "valid": "val"}
_FOLDER_NAMES = {*_SPLIT_NAMES, *_OTHER_NAMES}
# Hugging Face's libraries write train-00000-of-00002.parquet, also for other splits.
_PUBLISHED = re.compile(r"(\w[\w.]*?)-\d+-of-\d+")
_NUMBERED = re.compile(r"[-_.]\d.*")


def find_files(root: Path) -> dict[str, list[Path]]:
    """Find the parquet files in a folder, by split.

    They are in the folder or its subfolder ``data``, or in one folder per split, or all
    in one subfolder, as Hugging Face names it after a configuration.

    Raises:
        InvalidInputError: If several subfolders contain parquet files.
    """
    if found := _find_here(root):
        return found
    inside = folders(root)
    if any(folder.name == "train" for folder in inside):
        return {}
    datasets = [folder for folder in inside if _find_here(folder)]
    if len(datasets) > 1:
        raise InvalidInputError(
            f"{root} contains several datasets of parquet files: "
            f"{', '.join(folder.name for folder in datasets[:5])}; give the folder of "
            f"one, such as {datasets[0]}",
            argument="name",
        )
    return _find_here(datasets[0]) if datasets else {}


def _find_here(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in (root, root / "data"):
        for path in sorted(folder.glob("*.parquet")):
            found.setdefault(split_of(path), []).append(path)
        if found:
            return found
    for folder in (root, root / "data"):
        for name in sorted(_FOLDER_NAMES):
            paths = sorted((folder / name).glob("*.parquet"))
            # Beside class folders, a parquet file describes images.
            if paths and not folders(folder / name):
                found.setdefault(_OTHER_NAMES.get(name, name), []).extend(paths)
        if found:
            return found
    return found


def split_of(path: Path) -> str:
    """Return the split of a file such as ``train-00000-of-00002.parquet``."""
    if published := _PUBLISHED.match(path.name):
        return _OTHER_NAMES.get(published[1], published[1])
    for name in _SPLIT_NAMES:
        if path.name.startswith(name):
            return name
    return _NUMBERED.sub("", path.stem)


def doubts_about_joined(split: str, paths: list[Path]) -> list[str]:
    """Return a doubt if files of one split have names that differ by a word."""
    first: dict[str, Path] = {}
    for path in paths:
        first.setdefault(re.sub(r"[-_.]?\d.*", "", path.stem), path)
    if len(first) < 2 or any(path.parent.name in _FOLDER_NAMES for path in paths):
        return []
    named = ", ".join(path.name for path in list(first.values())[:5])
    return [
        f"{named} are read as parts of one split {split!r}; if they are not, move the "
        "others to another folder"
    ]

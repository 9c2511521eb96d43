"""Read the labels of parquet files as class numbers, with classes matched by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._labels import UNLABELED, check_class_names, count_numbered_classes


class FileLabels(NamedTuple):
    """The label column of one file.

    Attributes:
        path: The file.
        values: Class numbers, with UNLABELED for missing ones; or names, with None.
        names: Names of the class numbers, if the file lists them.
    """

    path: Path
    values: np.ndarray
    names: tuple[str, ...] | None

    @property
    def has_names(self) -> bool:
        """Whether the values are names."""
        return self.values.dtype == object

    @property
    def is_empty(self) -> bool:
        """Whether no row has a label."""
        if self.has_names:
            return all(value is None for value in self.values)
        return bool((self.values < 0).all())


def read_labels(path: Path, file: Any, column: str | None) -> FileLabels:
    """Read the label column of a file.

    Args:
        path: The file.
        file: The opened ``pyarrow.parquet.ParquetFile``.
        column: Name of the column; None if there is none.

    Raises:
        InvalidInputError: If the column contains neither whole numbers nor text.
    """
    if column is None:
        missing = np.full(file.metadata.num_rows, UNLABELED)
        return FileLabels(path, missing, None)
    values = _values(path, column, file.read(columns=[column])[column])
    names = _names(path, file, column)
    if names is not None and values.dtype != object and len(values):
        high = int(values.max())
        if high >= len(names):
            raise InvalidInputError(
                f"{path} has the label {high}, but names only the {len(names)} classes "
                f"0 to {len(names) - 1}; repair its labels or its names",
                argument="name",
            )
    return FileLabels(path, values, names)


def _values(path: Path, column: str, found: Any) -> np.ndarray:
    import pyarrow as pa

    kind = found.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        found = found.cast(kind)
    if pa.types.is_null(kind):
        return np.full(len(found), UNLABELED)
    if pa.types.is_integer(kind):
        try:
            return found.cast(pa.int64()).fill_null(UNLABELED).to_numpy()
        except pa.ArrowException as error:
            reason = " ".join(str(error).split())
            raise InvalidInputError(
                f"the column {column} of {path} has labels that are not class numbers: "
                f"{reason}",
                argument="name",
            ) from error
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        names = [name if name and name.strip() else None for name in found.to_pylist()]
        return np.array([*names, None], object)[:-1]
    first = next((value for value in found.to_pylist() if value is not None), None)
    raise InvalidInputError(
        f"the column {column} of {path} has the type {kind} (first value {first!r}), "
        "but labels must be whole numbers or names; convert the column",
        argument="name",
    )


def _names(path: Path, file: Any, column: str) -> tuple[str, ...] | None:
    """Return the names that Hugging Face's libraries store in the file's metadata."""
    metadata = file.schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column][
            "names"
        ]
        names = tuple(map(str, names)) or None
    except (KeyError, TypeError, ValueError):
        return None
    if names is not None:
        check_class_names(names, str(path))
    return names


def class_names_of(files: Sequence[FileLabels]) -> list[str]:
    """Return the classes of the training files.

    These are the names that the first file lists; else, the different names among the
    values, sorted; else, the numbers up to the largest.

    Raises:
        InvalidInputError: If some files have numbers and others names, or if the
            numbers leave out class 0.
    """
    labeled = [file for file in files if not file.is_empty]
    if not labeled:
        raise InvalidInputError(
            f"{files[0].path} has no labels; add a column label with the class of each "
            "image",
            argument="name",
        )
    listed = next((file.names for file in files if file.names is not None), None)
    by_kind = {file.has_names: file.path for file in labeled}
    if len(by_kind) > 1 and listed is None:
        raise InvalidInputError(
            f"the labels of {by_kind[False]} are numbers, and those of {by_kind[True]} "
            "are names; write all as names",
            argument="name",
        )
    if listed is not None:
        return list(listed)
    if by_kind.get(True):
        names = {value for file in labeled for value in file.values} - {None}
        ordered = sorted(names)
        check_class_names(ordered, str(labeled[0].path))
        return ordered
    values = [file.values for file in labeled]
    return list(map(str, range(count_numbered_classes(values, str(labeled[0].path)))))


def numbers_in(files: Sequence[FileLabels], class_names: Sequence[str]) -> np.ndarray:
    """Return the class number of each row of some files, in order.

    The classes of a file are matched by name, if it has names.

    Raises:
        InvalidInputError: If a file has a class that is not among the names.
    """
    numbers = {name: i for i, name in enumerate(class_names)}
    return np.concatenate([_numbers(file, numbers) for file in files])


def _numbers(file: FileLabels, numbers: dict[str, int]) -> np.ndarray:
    if file.has_names:
        used = {value for value in file.values if value is not None}
        _check_known(file, used, numbers)
        missing = {None: UNLABELED}
        return np.array([(missing | numbers)[value] for value in file.values], np.int64)
    if file.names is None:
        return file.values.astype(np.int64)
    used = {file.names[i] for i in np.unique(file.values) if i >= 0}
    _check_known(file, used, numbers)
    by_number = np.array([numbers.get(name, UNLABELED) for name in file.names])
    return np.where(file.values < 0, UNLABELED, by_number[file.values])


def _check_known(file: FileLabels, used: set[str], numbers: dict[str, int]) -> None:
    unknown = sorted(used - {*numbers})
    if unknown:
        raise InvalidInputError(
            f"{file.path} has the class {unknown[0]!r} ({len(unknown)} unknown), which "
            f"is not a class of the training images, which are "
            f"{', '.join(list(numbers)[:10])}; rename or remove it",
            argument="name",
        )


def doubts_about_files(files: Sequence[FileLabels]) -> list[str]:
    """Return doubts about files whose classes are listed differently, or not at all."""
    listed = [file for file in files if file.names is not None]
    if not listed:
        return []
    doubts = []
    first = listed[0]
    other = next((file for file in listed if file.names != first.names), None)
    if other is not None:
        doubts.append(
            f"{other.path} lists its classes differently than {first.path}; they are "
            "matched by name"
        )
    bare = [f for f in files if f.names is None and not f.has_names and not f.is_empty]
    if bare:
        doubts.append(
            f"{bare[0].path} does not name its classes; its numbers are taken for "
            f"those of {first.path}"
        )
    return doubts

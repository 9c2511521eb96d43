"""The schema of the files of a run folder.

A run folder may come from anywhere, and may have been edited. Each file is checked when
it is read. Entries that are not listed here are ignored, because a newer version may
have written them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxkd import _json, models
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._text import count, shortened
from jaxkd.runs._files import damaged

_INT32 = 2**31 - 1
_LARGEST_MEAN, _SMALLEST_STD = 1e6, 1e-6  # in the units of the images
_DTYPES = ("float32", "bfloat16", "float16", "float64")


class Kind(NamedTuple):
    """A kind of values: how to recognize one, and its description."""

    accepts: Callable[[Any], bool]
    wanted: str


class Entry(NamedTuple):
    """An entry of a JSON file, by its path: ``network.width``."""

    path: str
    kind: Kind
    required: bool = False


def _is_integer(value: Any, low: int = -_INT32 - 1, high: int = _INT32) -> bool:
    return type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000  # larger integers do not fit into floats
    return isinstance(value, float) or value in ("nan", "inf", "-inf")


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(float(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _optional(kind: Kind) -> Kind:
    return Kind(lambda x: x is None or kind.accepts(x), f"{kind.wanted}, or null")


def _list_of(kind: Kind, wanted: str, lengths: Iterable[int] | None = None) -> Kind:
    def accepts(value: Any) -> bool:
        fits = isinstance(value, list) and (lengths is None or len(value) in lengths)
        return fits and all(map(kind.accepts, value))

    return Kind(accepts, wanted)


def _one_of(names: Sequence[str]) -> Kind:
    return Kind(lambda x: _is_text(x) and x in names, "one of " + ", ".join(names))


OBJECT = Kind(lambda x: isinstance(x, dict), "an object")
TEXT = Kind(_is_text, "a string")
FLAG = Kind(lambda x: isinstance(x, bool), "true or false")
INTEGER = Kind(_is_integer, "an integer of 32 bits")
POSITIVE = Kind(lambda x: _is_integer(x, 1), f"an integer from 1 to {_INT32}")
NOT_NEGATIVE = Kind(lambda x: _is_integer(x, 0), f"an integer from 0 to {_INT32}")
COUNT = Kind(lambda x: _is_integer(x, 1, 2**63), "a positive integer")
NUMBER = Kind(_is_number, "a number")
FINITE = Kind(_is_finite, "a finite number")
SPEED = Kind(lambda x: _is_finite(x) and float(x) >= 0, "a number of at least 0")
FRACTION = Kind(lambda x: _is_finite(x) and 0 <= float(x) <= 1, "a number from 0 to 1")
_CHANNELS = _list_of(
    Kind(lambda x: _is_finite(x) and abs(float(x)) <= _LARGEST_MEAN, ""),
    "a list of finite numbers",
)
_SEEDS = _list_of(INTEGER, "a list of integers, at least one", range(1, 2**20))
_FRACTIONS = _list_of(FRACTION, "a list of numbers from 0 to 1", range(1, 2**20))
_SHAPE = _list_of(
    Kind(lambda x: _is_integer(x, 1, 2**16), ""),
    "three integers from 1 to 65536: height, width, channels",
    (3,),
)
_RANGE = _list_of(FINITE, "two finite numbers: the values of black and white", (2,))
_RANDAUGMENT = Kind(
    lambda x: (
        isinstance(x, list)
        and len(x) == 2
        and POSITIVE.accepts(x[0])
        and _is_finite(x[1])
    ),
    "a number of operations and a magnitude",
)

CONFIG = (
    Entry("command", TEXT),
    Entry("options", OBJECT, required=True),
    Entry("options.seed", INTEGER),
    Entry("options.data_seed", INTEGER),
    Entry("options.trials", POSITIVE),
    Entry("options.epochs", POSITIVE),
    Entry("options.batch_size", POSITIVE),
    Entry("options.method", TEXT),
    Entry("options.teacher", TEXT),
    Entry("options.teacher_trial", NOT_NEGATIVE),
    Entry("options.teacher_dtype", _optional(_one_of(_DTYPES))),
    Entry("options.remat", FLAG),
    Entry("options.optimizer", OBJECT),
    Entry("options.weights", OBJECT),
    Entry("options.hkd", OBJECT),
    Entry("options.hkd.neighbors", POSITIVE),
    Entry("options.data", OBJECT),
    Entry("options.data.data_dir", _optional(TEXT)),
    Entry("options.data.cache_dir", _optional(TEXT)),
    Entry("options.data.image_size", _optional(POSITIVE)),
    Entry("options.data.stream", FLAG),
    Entry("options.data.workers", NOT_NEGATIVE),
    Entry("options.data.subset", _optional(POSITIVE)),
    Entry("options.data.crop_padding", _optional(NOT_NEGATIVE)),
    Entry("options.data.flip", _optional(FLAG)),
    Entry("options.data.randaugment", _optional(_RANDAUGMENT)),
    Entry("options.data.mixup", SPEED),
    Entry("options.data.cutmix", SPEED),
    Entry("network", OBJECT, required=True),
    Entry("network.model", TEXT, required=True),
    Entry("network.width", _optional(POSITIVE), required=True),
    Entry("network.compute_dtype", _one_of(_DTYPES)),
    Entry("network.num_classes", POSITIVE),
    Entry("network.image_shape", _SHAPE),
    Entry("network.reused_features", _optional(POSITIVE)),
    Entry("normalization", OBJECT),
    Entry("normalization.mean", _CHANNELS),
    Entry("normalization.std", _CHANNELS),
    Entry("dataset", OBJECT, required=True),
    Entry("dataset.source", _optional(TEXT), required=True),
    Entry("dataset.fingerprint", _optional(TEXT)),
    Entry("dataset.image_size", _optional(POSITIVE)),
    Entry("dataset.train_split", _optional(TEXT)),
    Entry("dataset.test_split", _optional(TEXT)),
    Entry("dataset.background", _optional(TEXT)),
    Entry("dataset.value_range", _optional(_RANGE)),
    Entry("class_names", _optional(_list_of(TEXT, "a list of strings"))),
    Entry("teacher", OBJECT),
    Entry("teacher.network", OBJECT, required=True),
    Entry("teacher.network.model", TEXT, required=True),
    Entry("teacher.network.width", _optional(POSITIVE)),
    Entry("teacher.test_accuracy", _optional(FRACTION)),
    Entry("teacher.fingerprint", TEXT),
    Entry("versions", OBJECT),
)

# Entries that are required to build the network, but not to compare runs.
TO_BUILD = (
    *("network.compute_dtype", "network.num_classes", "network.image_shape"),
    *("normalization", "normalization.mean", "normalization.std"),
)


def _results(name: str, *, required: bool = False) -> tuple[Entry, ...]:
    return (
        Entry(name, OBJECT, required),
        Entry(f"{name}.mean", FRACTION, required=True),
        Entry(f"{name}.std", _optional(SPEED), required=True),
        Entry(f"{name}.values", _FRACTIONS, required=True),
    )


SUMMARY = (
    Entry("test_accuracy_last", FRACTION),
    Entry("test_accuracy_best", FRACTION),
    Entry("live_test_accuracy_last", FRACTION),
    Entry("epochs", COUNT),
    Entry("steps", COUNT),
    Entry("images_per_second", SPEED),
    Entry("data_seed", INTEGER),
    Entry("device", TEXT),
    Entry("trials", OBJECT),
    Entry("trials.seeds", _SEEDS, required=True),
    *_results("trials.test_accuracy_last", required=True),
    *_results("trials.test_accuracy_best", required=True),
    *_results("trials.live_test_accuracy_last"),
)

RECORD = (
    Entry("step", COUNT, required=True),
    Entry("epoch", COUNT),
    Entry("images_per_second", SPEED),
    Entry("trials", OBJECT),
)


def check(file: Path | str, content: dict[str, Any], entries: Sequence[Entry]) -> None:
    """Check the entries of a file. An object that is absent needs no entries.

    Raises:
        InvalidInputError: Naming the file, the entry, its value and what was expected.
    """
    for entry in entries:
        *sections, name = entry.path.split(".")
        inner: Any = content
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if inner is None:
            continue
        if name not in inner:
            if entry.required:
                raise damaged(file, f"it has no {entry.path}")
        elif not entry.kind.accepts(inner[name]):
            raise wrong(file, entry.path, inner[name], entry.kind.wanted)


def wrong(file: Path | str, path: str, value: Any, wanted: str) -> InvalidInputError:
    """Build the error for an entry with a value that cannot be right."""
    return damaged(file, f"{path} is {shown(value)}, but it must be {wanted}")


def shown(value: Any) -> str:
    """Show a value as its file does, shortened."""
    return shortened(_json.dumps(value))


def require(file: Path | str, content: dict[str, Any], paths: Sequence[str]) -> None:
    """Check that a file has some entries.

    Raises:
        InvalidInputError: Naming the file and the first entry that is missing.
    """
    anything = Kind(lambda _: True, "")
    check(file, content, [Entry(path, anything, required=True) for path in paths])


def check_network(file: Path, config: dict[str, Any]) -> None:
    """Check that the parts of a configuration fit each other.

    Raises:
        InvalidInputError: Naming the file, the entry, its value and what was expected.
    """
    network, normalization = config["network"], config.get("normalization", {})
    if network["model"] not in models.names():
        problem = unknown_name("model", network["model"], models.names())
        raise damaged(file, f"network.model: {problem}")
    shape, classes = network.get("image_shape"), network.get("num_classes")
    for name, values in normalization.items():
        if name in ("mean", "std") and shape and len(values) != shape[-1]:
            wanted = f"one number for each of the {shape[-1]} channels of the images"
            raise wrong(file, f"normalization.{name}", values, wanted)
    std = normalization.get("std", ())
    if any(value < _SMALLEST_STD for value in std):
        raise wrong(file, "normalization.std", std, "positive")
    names = config.get("class_names")
    if names is not None and classes is not None and len(names) != classes:
        problem = (
            f"class_names has {count(len(names), 'name')}, but network.num_classes is "
        )
        raise damaged(file, f"{problem}{classes}")


def check_record(file: Path | str, record: Any, number: int) -> None:
    """Check one record of the metrics.

    Raises:
        InvalidInputError: Naming the file, the line, the entry and what was expected.
    """
    line = f"{file}, line {number},"
    if not isinstance(record, dict):
        raise damaged(line, f"it is {shown(record)}, but it must be an object")
    check(line, record, RECORD)
    trials = record.get("trials", {})
    for name, value in record.items():
        if "/" in name:
            _check_metric(line, name, value)
            if trials and name not in trials:
                raise damaged(line, f"trials has no {name}")
    for name, values in trials.items():
        if not isinstance(values, list) or not values:
            raise wrong(line, f"trials.{name}", values, "a list of numbers")
        for value in values:
            _check_metric(line, f"trials.{name}", value)
    if len({len(values) for values in trials.values()}) > 1:
        raise damaged(line, "its trials have different numbers of values")


def _check_metric(line: str, name: str, value: Any) -> None:
    if not _is_number(value):
        raise wrong(line, name, value, NUMBER.wanted)
    rate = name.endswith("accuracy") and name.count("/") == 1
    # The mean over an epoch's steps is rounded; a step without examples gives NaN.
    if rate and not math.isnan(float(value)) and not 0 <= float(value) <= 1.0001:
        raise wrong(line, name, value, FRACTION.wanted)

"""The schema of the files of a run folder.

A run folder may come from anywhere, and may have been edited. Each file is checked when
it is read. Entries that are not listed here are ignored, because a newer version may
have written them.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxkd import _schema, models
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._schema import (
    COUNT,
    CROP_SCALE,
    FLAG,
    FRACTION,
    IMAGE_SHAPE,
    INTEGER,
    NOT_NEGATIVE,
    NUMBER,
    OBJECT,
    POSITIVE,
    RANDAUGMENT,
    SPEED,
    TEXT,
    VALUE_RANGE,
    Entry,
    Kind,
    is_finite,
    is_integer,
    is_number,
    list_of,
    one_of,
    optional,
)
from jaxkd._schema import shown as shown
from jaxkd._text import count
from jaxkd.runs._files import damaged

_LARGEST_MEAN, _SMALLEST_STD = 1e6, 1e-6  # in the units of the images
_DTYPES = ("float32", "bfloat16", "float16", "float64")

_CHANNELS = list_of(
    Kind(lambda x: is_finite(x) and abs(float(x)) <= _LARGEST_MEAN, ""),
    "a list of finite numbers",
)
_TEXTS = list_of(TEXT, "a list of strings")
_SEEDS = list_of(INTEGER, "a list of integers, at least one", range(1, 2**20))
_FRACTIONS = list_of(FRACTION, "a list of numbers from 0 to 1", range(1, 2**20))
_SUMS = list_of(SPEED, "a list of numbers of at least 0", range(1, 2**10))
_EPOCH_NUMBERS = list_of(
    Kind(lambda x: is_integer(x, 1), ""),
    "a list of positive integers, at least one",
    range(1, 2**20),
)
_EPOCHS_OF_PARTS = Kind(
    lambda x: isinstance(x, dict) and all(map(POSITIVE.accepts, x.values())),
    "an object of numbers of epochs, each at least 1",
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
    Entry("options.teacher", optional(TEXT)),
    Entry("options.teacher_trial", NOT_NEGATIVE),
    Entry("options.init", optional(TEXT)),
    Entry("options.keep", optional(one_of(("best",)))),
    Entry("options.patience", optional(POSITIVE)),
    Entry("options.recorded", _TEXTS),
    Entry("options.unlabeled", optional(TEXT)),
    Entry("options.teacher_dtype", optional(one_of(_DTYPES))),
    Entry("options.remat", FLAG),
    Entry("options.optimizer", OBJECT),
    Entry("options.weights", OBJECT),
    Entry("options.weight_warmup", _EPOCHS_OF_PARTS),
    Entry("options.weight_ramp", TEXT),
    Entry("options.student_layers", _TEXTS),
    Entry("options.teacher_layers", _TEXTS),
    Entry("options.student_embedding", optional(TEXT)),
    Entry("options.teacher_embedding", optional(TEXT)),
    Entry("options.hkd", OBJECT),
    Entry("options.hkd.neighbors", POSITIVE),
    Entry("options.data", OBJECT),
    Entry("options.data.data_dir", optional(TEXT)),
    Entry("options.data.cache_dir", optional(TEXT)),
    Entry("options.data.image_size", optional(POSITIVE)),
    Entry("options.data.test_resize", optional(POSITIVE)),
    Entry("options.data.stream", FLAG),
    Entry("options.data.workers", NOT_NEGATIVE),
    Entry("options.data.subset", optional(POSITIVE)),
    Entry("options.data.validation", optional(FRACTION)),
    Entry("options.data.crop_padding", optional(NOT_NEGATIVE)),
    Entry("options.data.random_resized_crop", optional(CROP_SCALE)),
    Entry("options.data.flip", optional(FLAG)),
    Entry("options.data.randaugment", optional(RANDAUGMENT)),
    Entry("options.data.mixup", SPEED),
    Entry("options.data.cutmix", SPEED),
    Entry("network", OBJECT, required=True),
    Entry("network.model", TEXT, required=True),
    Entry("network.width", optional(POSITIVE), required=True),
    Entry("network.compute_dtype", one_of(_DTYPES)),
    Entry("network.num_classes", POSITIVE),
    Entry("network.image_shape", IMAGE_SHAPE),
    Entry("network.reused_features", optional(POSITIVE)),
    Entry("normalization", OBJECT),
    Entry("normalization.mean", _CHANNELS),
    Entry("normalization.std", _CHANNELS),
    Entry("dataset", OBJECT, required=True),
    Entry("dataset.source", optional(TEXT), required=True),
    Entry("dataset.fingerprint", optional(TEXT)),
    Entry("dataset.image_size", optional(POSITIVE)),
    Entry("dataset.test_resize", optional(POSITIVE)),
    Entry("dataset.train_split", optional(TEXT)),
    Entry("dataset.test_split", optional(TEXT)),
    Entry("dataset.background", optional(TEXT)),
    Entry("dataset.value_range", optional(VALUE_RANGE)),
    Entry("class_names", optional(_TEXTS)),
    Entry("teacher", OBJECT),
    Entry("teacher.network", OBJECT, required=True),
    Entry("teacher.network.model", TEXT, required=True),
    Entry("teacher.network.width", optional(POSITIVE)),
    Entry("teacher.test_accuracy", optional(FRACTION)),
    Entry("teacher.fingerprint", TEXT),
    Entry("initial", OBJECT),
    Entry("initial.fingerprint", TEXT, required=True),
    Entry("initial.new_classifier", FLAG),
    Entry("recording", OBJECT),
    Entry("recording.paths", _TEXTS, required=True),
    Entry("recording.fingerprint", TEXT, required=True),
    Entry("recording.exact", FLAG),
    Entry("recording.teacher_trial", NOT_NEGATIVE),
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
        Entry(f"{name}.std", optional(SPEED), required=True),
        Entry(f"{name}.values", _FRACTIONS, required=True),
    )


SUMMARY = (
    Entry("test_accuracy_last", FRACTION),
    Entry("test_accuracy_best", FRACTION),
    Entry("live_test_accuracy_last", FRACTION),
    Entry("test_top5_accuracy_last", FRACTION),
    Entry("validation_accuracy_best", FRACTION),
    Entry("test_accuracy_at_best_validation", FRACTION),
    Entry("stopped_early", FLAG),
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
    *_results("trials.test_top5_accuracy_last"),
    *_results("trials.validation_accuracy_best"),
    *_results("trials.test_accuracy_at_best_validation"),
    Entry("trials.best_validation_epochs", _EPOCH_NUMBERS),
)

RECORD = (
    Entry("step", COUNT, required=True),
    Entry("epoch", COUNT),
    Entry("images_per_second", SPEED),
    Entry("trials", OBJECT),
)

BINS = ("counts", "confidences", "correct")
OUTCOMES = ("equal", "both", "only_teacher", "only_student", "neither")

TEST_RESULTS = (
    Entry("step", COUNT, required=True),
    Entry("trial", NOT_NEGATIVE, required=True),
    Entry("calibration", OBJECT, required=True),
    Entry("calibration.student", OBJECT, required=True),
    *(
        Entry(f"calibration.{network}.{name}", _SUMS, required=True)
        for network in ("student", "teacher")
        for name in BINS
    ),
    Entry("agreement", OBJECT),
    *(Entry(f"agreement.{name}", NOT_NEGATIVE, required=True) for name in OUTCOMES),
)


def check(file: Path | str, content: dict[str, Any], entries: Sequence[Entry]) -> None:
    """Check the entries of a file. An object that is absent needs no entries.

    Raises:
        InvalidInputError: Naming the file, the entry, its value and what was expected.
    """
    _schema.check(file, content, entries, damaged)


def wrong(file: Path | str, path: str, value: Any, wanted: str) -> InvalidInputError:
    """Build the error for an entry with a value that cannot be right."""
    return damaged(file, _schema.is_wrong(path, value, wanted))


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
    if not is_number(value):
        raise wrong(line, name, value, NUMBER.wanted)
    rate = name.endswith("accuracy") and name.count("/") == 1
    # The mean over an epoch's steps is rounded; a step without examples gives NaN.
    if rate and not math.isnan(float(value)) and not 0 <= float(value) <= 1.0001:
        raise wrong(line, name, value, FRACTION.wanted)

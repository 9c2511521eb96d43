"""``jaxkd temperature``."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from jaxkd import __version__, _checks, reports, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import check_free
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import check_fits, load_and_warn
from jaxkd.cli._json_output import (
    STDOUT,
    check_json,
    describe_network,
    write_json,
)
from jaxkd.cli._options import Temperature
from jaxkd.data import ImageDataset

_SHARE = 95  # percent of the images


class _Networks(NamedTuple):
    """Student and teacher. Without a student, its logits are zero."""

    student: runs.LoadedNetwork | None
    teacher: runs.LoadedNetwork


def run(options: Temperature, arguments: list[str]) -> None:
    """Compare the loss of distillation with its limit at infinite temperature."""
    del arguments
    _checks.check_temperatures(options.temperatures)
    _checks.check_fraction(tolerance=options.tolerance)
    check_json(options.json)
    _check_figure(options.figure)
    networks = _load(options)
    first = networks.student or networks.teacher
    recorded = first.load_options if options.dataset is None else {}
    dataset = load_and_warn(runs.source_of(first, options.dataset), options, recorded)
    for loaded in filter(None, networks):
        check_fits(loaded, dataset)
    teacher, described = _predict(networks.teacher, dataset)
    student, student_described = np.zeros_like(teacher), None
    if networks.student is not None:
        student, student_described = _predict(networks.student, dataset)
    announce("comparing the loss with its limit")
    found = reports.high_enough_temperatures(
        student, teacher, tolerance=options.tolerance
    )
    entries = {
        "student": student_described,
        "teacher": described,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "num_examples": len(teacher),
        "num_classes": teacher.shape[1],
        **_measure(options, student, teacher, found),
        "jaxkd": __version__,
    }
    _show(Console(stderr=options.json == STDOUT), networks, dataset, entries)
    if options.json is not None:
        write_json(options.json, entries)
    if options.figure is not None:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        reports.draw_limit_ratios(options.figure, student, teacher, found)


def _check_figure(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise InvalidInputError(f"--figure {path} must end in .png", argument="figure")
    check_free(path, "--figure", argument="figure")


def _predict(
    loaded: runs.LoadedNetwork, dataset: ImageDataset
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a network's logits for the test images, and what identifies it."""
    frozen = training.freeze_teacher(loaded.module, loaded.normalization)
    logits = training.predict_logits(frozen, dataset.test.images)
    return logits, describe_network(loaded, frozen)


def _load(options: Temperature) -> _Networks:
    """Load the run, and its teacher if it has one.

    Raises:
        InvalidInputError: If the run's teacher was recorded, or its folder is gone.
    """
    announce(f"loading {options.run}")
    loaded = runs.load_network(options.run, trial=options.trial)
    config = runs.read_config(options.run)
    stored, folder = config["options"], options.teacher
    trial = options.teacher_trial or 0
    if folder is None:
        if "recording" in config:
            raise InvalidInputError(
                f"{options.run} was distilled from a recording. Name the run folder of "
                "its teacher with --teacher",
                argument="teacher",
            )
        if (teacher := stored.get("teacher")) is None:
            return _Networks(None, loaded)
        folder = Path(teacher)
        if options.teacher_trial is None:
            trial = stored.get("teacher_trial", 0)
        if not folder.is_dir():
            raise InvalidInputError(
                f"the teacher of {options.run}, {folder}, is not there. Name its "
                "folder with --teacher",
                argument="teacher",
            )
    announce(f"loading {folder}")
    return _Networks(loaded, runs.load_network(folder, trial=trial))


def _measure(
    options: Temperature,
    student: np.ndarray,
    teacher: np.ndarray,
    found: reports.HighTemperatures,
) -> dict[str, Any]:
    """Return the measurements: ranges, ratios to the limit, and temperatures."""
    largest, classes = found.logit_range.max(), teacher.shape[1]
    rows = []
    for temperature in options.temperatures:
        ratios = reports.limit_ratios(student, teacher, temperature)
        sharper = reports.limit_bounds(largest, temperature, num_classes=classes)
        rows.append(
            {
                "temperature": temperature,
                "bounds": _floats(reports.limit_bounds(largest, temperature)),
                "sharper_bounds": _floats(sharper),
                "mean_loss": found.mean_ratio(ratios),
                "percentiles_5_95": _floats(np.percentile(ratios, (5, _SHARE))),
            }
        )
    return {
        "logit_range": _summary(found.logit_range),
        "ratios": rows,
        "tolerance": options.tolerance,
        "high_enough": {
            "guaranteed_all_images": float(found.guaranteed.max()),
            "measured_all_images": float(found.measured.max()),
            f"measured_{_SHARE}_percent": _percentile(found.measured),
            "measured_mean_loss": found.measured_mean,
            "first_order_mean_loss": found.first_order,
        },
    }


def _floats(values: Any) -> list[float]:
    return [float(x) for x in values]


def _percentile(values: np.ndarray) -> float:
    """Return the smallest value that is not exceeded by 95 % of them."""
    return float(np.percentile(values, _SHARE, method="inverted_cdf"))


def _summary(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        f"percentile_{_SHARE}": _percentile(values),
        "largest": float(values.max()),
    }


def _show(
    console: Console,
    networks: _Networks,
    dataset: ImageDataset,
    entries: dict[str, Any],
) -> None:
    """Print the table of ratios, and the temperatures that are high enough."""
    student = networks.student
    named = "none, so its logits are zero" if student is None else _name(student)
    console.tell(f"student: {named}")
    console.tell(f"teacher: {_name(networks.teacher)}")
    console.tell(
        f"{count(entries['num_examples'], 'test image')} of {dataset.name}, "
        f"{entries['num_classes']} classes"
    )
    ranges = entries["logit_range"]
    console.tell(
        f"range R of the logits: mean {ranges['mean']:.3g}, median "
        f"{ranges['median']:.3g}, {_SHARE} % of images up to "
        f"{ranges[f'percentile_{_SHARE}']:.3g}, largest {ranges['largest']:.3g}"
    )
    table = Table(title="Loss over its limit, half the variance of the differences")
    table.add_column("T", justify="right")
    table.add_column("factor e^(R/T)", justify="right")
    table.add_column("sharper bounds")
    table.add_column("mean loss", justify="right")
    table.add_column("5 % to 95 % of images")
    for row in entries["ratios"]:
        sharper, middle = (
            " to ".join(map(_short, row[name]))
            for name in ("sharper_bounds", "percentiles_5_95")
        )
        factor, mean = _short(row["bounds"][1]), f"{row['mean_loss']:.3f}"
        table.add_row(_short(row["temperature"]), factor, sharper, mean, middle)
    console.print(table)
    console.tell(
        "equal to logits matching without the gap of the means, within "
        f"{100 * entries['tolerance']:.3g} %:"
    )
    high = entries["high_enough"]
    for name, text in {
        "guaranteed_all_images": "for all images, guaranteed by R",
        "measured_all_images": "for all images, measured",
        f"measured_{_SHARE}_percent": f"for {_SHARE} % of the images, measured",
        "measured_mean_loss": "for the mean loss, measured",
        "first_order_mean_loss": "for the mean loss, first-order estimate",
    }.items():
        console.tell(f"  from T = {_short(high[name]):6} {text}")


def _short(number: float) -> str:
    """Return three digits, with an exponent only where it is shorter."""
    return f"{number:,.0f}" if 100 <= number < 1e5 else f"{number:.3g}"


def _name(loaded: runs.LoadedNetwork) -> str:
    return f"{loaded.network.model} ({loaded.version})"

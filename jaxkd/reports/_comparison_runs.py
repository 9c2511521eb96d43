"""Finished runs as the comparison reads them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxkd import distillers, runs
from jaxkd._errors import InvalidInputError

Settings = dict[str, str]

STUDENT = "student"
"""The method of a run without a teacher."""

# Options that may differ between runs that count as trials of one experiment.
_SEEDS = ("seed", "data_seed", "trials")
# Options that the identities of the networks and the dataset cover.
_IDENTIFIED = ("method", "model", "width", "teacher_trial", "dataset")
_IN_FINGERPRINT = (
    *("image_size", "subset", "train_split", "test_split"),
    *("background", "value_range"),
)


@dataclasses.dataclass(frozen=True)
class Named:
    """A teacher or a dataset.

    Attributes:
        name: Its name, which others may have, too.
        identity: Its fingerprint, or what else tells it from others.
    """

    name: str = dataclasses.field(compare=False)
    identity: str


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher and its student, on a dataset.

    Attributes:
        teacher: The teacher.
        student: The student's network.
        dataset: The dataset that trained and tested the student.
        teacher_accuracy: The teacher's test accuracy in ``[0, 1]``, if it is known. It
            is not part of the pair's identity.
    """

    teacher: Named
    student: str
    dataset: Named
    teacher_accuracy: float | None = dataclasses.field(default=None, compare=False)


class Run(NamedTuple):
    """One finished run.

    Attributes:
        folder: Its run folder.
        student: The network that was trained.
        dataset: Its dataset.
        pair: Both with the teacher; None if it was trained without one.
        method: Name of the recipe, or ``student`` without a teacher.
        settings: All options that trials of one experiment have in common, as text. An
            option with its default value of None is left out.
        seeds: Seed and data seed of each trial.
        last: Test accuracy of each trial after the last epoch.
        best: Test accuracy of each trial's best epoch.
        curves: Test accuracies, by epoch and trial.
    """

    folder: Path
    student: str
    dataset: Named
    pair: Pair | None
    method: str
    settings: Settings
    seeds: list[tuple[int, int]]
    last: list[float]
    best: list[float]
    curves: list[list[float]]


class UnfinishedError(InvalidInputError):
    """The training of a run has not finished."""


def read_run(folder: Path) -> Run:
    """Read a finished run from its folder.

    Raises:
        UnfinishedError: If the training of the run has not finished.
        ValueError: If the folder is not a run folder, is damaged, or lacks what a
            comparison needs.
    """
    if not folder.is_dir():
        raise InvalidInputError(
            f"there is no run folder {folder}. Check the path.", argument="folder"
        )
    config = runs.read_config(folder)
    summary = runs.read_summary(folder)
    if summary is None and "source" in config:
        raise InvalidInputError(
            f"{folder} contains a converted network, which has no training to compare. "
            "Leave it out.",
            argument="folder",
        )
    if summary is None:
        raise UnfinishedError(
            f"{folder} has no {runs.RunFolder(folder).summary.name}, because its "
            "training has not finished. Continue it with --resume.",
            argument="folder",
        )
    if "trials" not in summary or not config.get("options"):
        raise InvalidInputError(
            f"{folder} does not record its seeds and options, because `jaxkd "
            "quickstart` or an old version made it. Train it again with `jaxkd train` "
            "or `jaxkd distill`.",
            argument="folder",
        )
    records = runs.read_metrics(folder)
    try:
        run = _run(folder, config, summary, records)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(
            f"{folder} is damaged: what it records of its training cannot be read "
            f"({type(error).__name__}: {error}). Restore its files, or leave it out.",
            argument="folder",
        ) from error
    if not run.curves or run.curves[-1] != run.last:
        raise InvalidInputError(
            f"{folder} is damaged: its metrics do not end with the accuracies of its "
            "summary. Restore its files, or leave it out.",
            argument="folder",
        )
    return run


def _run(
    folder: Path,
    config: dict[str, Any],
    summary: dict[str, Any],
    records: list[dict[str, Any]],
) -> Run:
    options, trials = config["options"], summary["trials"]
    data_seed = int(summary["data_seed"])
    dataset = _dataset(config["dataset"])
    student, pair = _network(config["network"]), None
    if (teacher := config.get("teacher")) is not None:
        accuracy = teacher["test_accuracy"]
        pair = Pair(
            _teacher(teacher, options),
            student,
            dataset,
            None if accuracy is None else float(accuracy),
        )
    method = STUDENT if pair is None else str(options["method"])
    if pair is not None and method.split()[:1] == [STUDENT]:
        raise ValueError(f"no method is called {method}")
    return Run(
        folder,
        student,
        dataset,
        pair,
        method,
        _settings(config, method),
        seeds=[(int(seed), data_seed) for seed in trials["seeds"]],
        last=[float(x) for x in trials["test_accuracy_last"]["values"]],
        best=[float(x) for x in trials["test_accuracy_best"]["values"]],
        curves=[[float(x) for x in epoch] for epoch in runs.accuracies(records)],
    )


def _network(network: dict[str, Any]) -> str:
    width = network["width"]
    return network["model"] + ("" if width is None else f" (width {width})")


def _teacher(teacher: dict[str, Any], options: dict[str, Any]) -> Named:
    """Identify a teacher by its variables; old runs record only its accuracy."""
    name, identity = _network(teacher["network"]), teacher.get("fingerprint")
    if identity is None:
        trial = options.get("teacher_trial", 0)
        identity = f"{name}, accuracy {teacher['test_accuracy']}, trial {trial}"
    return Named(name, str(identity))


def _dataset(dataset: dict[str, Any]) -> Named:
    """Identify a dataset by its contents; old runs record only where it was."""
    source = str(dataset["source"])
    return Named(Path(source).stem, str(dataset.get("fingerprint") or source))


def _settings(config: dict[str, Any], method: str) -> Settings:
    """Return the options that trials have in common, as flat text."""
    options = runs.effective_options(config)
    for name in (*_SEEDS, *_IDENTIFIED):
        options.pop(name, None)
    if config["dataset"].get("fingerprint"):
        kept = options.get("data", {})
        options["data"] = {k: v for k, v in kept.items() if k not in _IN_FINGERPRINT}
    if method in distillers.RECIPES:
        mixture = distillers.RECIPES[method] | (options.get("weights") or {})
        options["weights"] = mixture
        if "kd" not in mixture:
            options.pop("temperature", None)
        if "hkd" not in mixture:
            options.pop("hkd", None)
    # Four digits, because a streamed dataset adds up its pixels in another order.
    options["normalization"] = {
        name: [f"{float(value):.4g}" for value in values]
        for name, values in (config.get("normalization") or {}).items()
    }
    return dict(_flat(options))


def _flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and text of every option that has a value, at any depth."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            values = value if isinstance(value, list) else [value]
            yield f"{prefix}{name}", " ".join(map(_text, values))


def _text(value: Any) -> str:
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)

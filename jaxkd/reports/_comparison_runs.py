"""Read finished runs for the comparison."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxkd import distillers, runs
from jaxkd._errors import InvalidInputError

Settings = dict[str, str]
Value = TypeVar("Value")

STUDENT = "student"
"""The method of a run without a teacher."""

# Options that may differ between runs that count as trials of one experiment.
_SEEDS = ("seed", "data_seed", "trials")
# Options that the identities of the networks and the dataset cover.
_IDENTIFIED = ("method", "model", "width", "teacher_trial", "dataset")
# Options of layers by their paths, which count only if they are given.
_LAYERS = tuple(
    f"{role}_{kind}"
    for role in ("student", "teacher")
    for kind in ("layers", "embedding")
)
_IN_FINGERPRINT = (
    *("image_size", "subset", "train_split", "test_split"),
    *("background", "value_range", "test_resize", "validation"),
)


@dataclasses.dataclass(frozen=True)
class Named:
    """A teacher or a dataset.

    Attributes:
        name: Its name, which need not be unique.
        identity: Its fingerprint, or a description if an old run has none.
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
        best: Highest test accuracy of each trial, of any epoch.
        curves: Test accuracies, by epoch and trial.
        remark: A sentence about a part of the run that cannot be compared, or "".
        top5: Top-5 test accuracy of each trial after the last epoch; empty if the run
            does not record it.
        chosen: Test accuracy of each trial at its best validation accuracy; empty
            without validation images.
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
    remark: str = ""
    top5: Sequence[float] = ()
    chosen: Sequence[float] = ()


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
    try:
        return _read(folder)
    except InvalidInputError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _damaged(
            folder,
            f"what it records of its training cannot be read ({type(error).__name__}: "
            f"{error})",
        ) from error


def _read(folder: Path) -> Run:
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
    if "trials" not in summary or not config["options"]:
        raise InvalidInputError(
            f"{folder} does not record its seeds and options, because `jaxkd "
            "quickstart` or an old version made it. Train it again with `jaxkd train` "
            "or `jaxkd distill`.",
            argument="folder",
        )
    run = _run(folder, config, summary)
    if not run.curves or run.curves[-1] != run.last:
        raise _damaged(
            folder, "its metrics do not end with the accuracies of its summary"
        )
    if not len(run.seeds) == len(run.last) == len(run.best):
        raise _damaged(folder, "its summary does not have one accuracy for each seed")
    if run.settings.get("keep") == "best" and not run.chosen:
        raise _damaged(folder, "its summary has no accuracy at the best validation")
    return run


def _damaged(folder: Path, problem: str) -> InvalidInputError:
    return InvalidInputError(
        f"{folder} is damaged: {problem}. Restore its files, or leave it out.",
        argument="folder",
    )


def _run(folder: Path, config: dict[str, Any], summary: dict[str, Any]) -> Run:
    options, trials = config["options"], summary["trials"]
    data_seed = _typed(int, summary["data_seed"])
    dataset = _dataset(config["dataset"])
    student, pair, remark = _network(config["network"]), None, ""
    if (teacher := config.get("teacher")) is not None:
        accuracy = teacher.get("test_accuracy")
        if accuracy is not None and (others := _other_test_set(config)):
            accuracy = None
            remark = (
                f"the teacher's accuracy is left out: it was tested on {others}, and "
                f"its student in {folder} on {dataset.identity}"
            )
        pair = Pair(
            _teacher(teacher, options),
            student,
            dataset,
            None if accuracy is None else _accuracy(accuracy),
        )
    method = STUDENT if pair is None else _typed(str, options["method"])
    if pair is not None and method.split()[:1] == [STUDENT]:
        raise ValueError(f"no method is called {method}")
    records = runs.accuracies(runs.read_metrics(folder))
    return Run(
        folder,
        student,
        dataset,
        pair,
        method,
        _settings(config, method),
        seeds=[(_typed(int, seed), data_seed) for seed in trials["seeds"]],
        last=list(map(_accuracy, trials["test_accuracy_last"]["values"])),
        best=list(map(_accuracy, trials["test_accuracy_best"]["values"])),
        curves=[list(map(_accuracy, epoch)) for epoch in records],
        remark=remark,
        top5=_values(trials, "test_top5_accuracy_last"),
        chosen=_values(trials, "test_accuracy_at_best_validation"),
    )


def _typed(kind: type[Value], value: Any) -> Value:
    """Return a value of the expected type; raise TypeError for another."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]!r} is not of type {kind.__name__}")
    return value


def _values(trials: dict[str, Any], name: str) -> list[float]:
    """Return the values of a result that not every run has."""
    return list(map(_accuracy, trials.get(name, {}).get("values", [])))


def _accuracy(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{str(value)[:40]!r} is not an accuracy in [0, 1]")
    return float(value)


def _network(network: dict[str, Any]) -> str:
    width = network.get("width")
    return _typed(str, network["model"]) + (
        "" if width is None else f" (width {width})"
    )


def _teacher(teacher: dict[str, Any], options: dict[str, Any]) -> Named:
    """Identify a teacher by its variables; old runs record only its accuracy."""
    name, identity = _network(teacher["network"]), teacher.get("fingerprint")
    if identity is None:
        trial = options.get("teacher_trial", 0)
        identity = f"{name}, accuracy {teacher.get('test_accuracy')}, trial {trial}"
    return Named(name, str(identity))


def _other_test_set(config: dict[str, Any]) -> str:
    """Return the dataset of the teacher's run if its test set is known to be another.

    A student records no more than its teacher's accuracy. The test set is known if the
    teacher's run folder still contains that network.
    """
    own = config["dataset"].get("fingerprint")
    try:
        teacher = runs.read_config(_typed(str, config["options"].get("teacher")))
    except (ValueError, TypeError, OSError, RuntimeError):  # it has moved
        return ""
    theirs = teacher["dataset"].get("fingerprint")
    same_network = teacher["network"] == config["teacher"]["network"]
    if not (own and theirs and same_network):
        return ""
    return "" if _test_set(own) == _test_set(theirs) else theirs


def _test_set(fingerprint: str) -> str:
    """Return a fingerprint without chosen training rows, which are not tested on."""
    unlabeled = r"(, \d+ unlabeled images \S+)?"
    chosen = r"(, \d+ of \d+ rows( held out)?, seed \d+)*"
    return re.sub(f"{chosen}{unlabeled}$", "", fingerprint)


def _dataset(dataset: dict[str, Any]) -> Named:
    """Identify a dataset by its contents; old runs record only where it was."""
    source = dataset["source"] or ""
    if not source and not dataset.get("fingerprint"):
        raise ValueError("the dataset is not recorded")
    return Named(Path(source).stem, str(dataset.get("fingerprint") or source))


def _settings(config: dict[str, Any], method: str) -> Settings:
    """Return the options that trials have in common, as flat text."""
    options = runs.effective_options(config)
    for name in (*_SEEDS, *_IDENTIFIED):
        options.pop(name, None)
    if config["dataset"].get("fingerprint"):
        kept = options.get("data", {})
        options["data"] = {k: v for k, v in kept.items() if k not in _IN_FINGERPRINT}
    for name in _LAYERS:
        if not options.get(name):
            options.pop(name, None)
    if not options.get("weight_warmup"):
        options.pop("weight_warmup", None)
        options.pop("weight_ramp", None)
    if method in distillers.RECIPES:
        mixture = distillers.RECIPES[method] | (options.get("weights") or {})
        options["weights"] = mixture
        if "kd" not in mixture:
            options.pop("temperature", None)
        if "hkd" not in mixture:
            options.pop("hkd", None)
    recording = config.get("recording", {})
    if not recording.get("exact", True):  # the others are the teacher itself
        options["recording"] = recording["fingerprint"]
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

"""``jaxkd distill``."""

import dataclasses
from typing import Any

from jaxkd import data, distillers, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli._optimizer import value_of
from jaxkd.cli._options import Distill, HolisticOptions
from jaxkd.cli.commands.train import (
    OTHERS_REFUSAL,
    begin,
    centered,
    load_dataset,
    train_network,
)
from jaxkd.runs import _folder


def run(options: Distill, arguments: list[str]) -> None:
    """Trains a student with the help of a trained teacher."""
    begin(options)
    settings = _settings(options)
    try:
        distiller = distillers.recipe(
            options.method, weights=options.weights, settings=settings
        )
    except TypeError as error:  # a number where a word belongs, or the reverse
        raise InvalidInputError(f"--settings: {error}") from error
    teacher, options, source, dataset = training.all_or_none(
        lambda: _load(options), OTHERS_REFUSAL
    )
    module = teacher.module
    if options.equal_means:
        module = centered(module, "teacher")
    frozen = training.freeze_teacher(module, teacher.normalization)
    train_network(
        options,
        arguments,
        source,
        dataset,
        distiller,
        frozen,
        equal_means=options.equal_means,
        taught_by=_folder.describe_teacher(
            options.teacher, options.teacher_trial, frozen
        ),
    )


def _load(
    options: Distill,
) -> tuple[runs.LoadedNetwork, Distill, str, data.ImageDataset]:
    """The teacher, the options with its image size, its student's dataset by name, it.

    The size is among the options from here on, because the student's run folder has to
    say it to whoever loads the student.
    """
    teacher = _folder.load_network(options.teacher, trial=options.teacher_trial)
    source = _folder.source_of(teacher, options.dataset)
    if options.dataset is None and options.data.image_size is None:
        sized = dataclasses.replace(options.data, image_size=teacher.image_size)
        options = dataclasses.replace(options, data=sized)
    dataset = load_dataset(source, options.data)
    check_fits(teacher, dataset)
    return teacher, options, source, dataset


def check_fits(loaded: runs.LoadedNetwork, dataset: data.ImageDataset) -> None:
    """Refuses a trained network that was made for other images or classes.

    Classes are compared by name where the network and the dataset both have names:
    numbers are what a class is called that has none.

    Raises:
        ValueError: Naming both.
    """
    network = loaded.network
    shape = tuple(dataset.train.images.shape[1:])
    if network.num_classes != dataset.num_classes:
        raise InvalidInputError(
            f"the network was trained on {network.num_classes} classes, dataset "
            f"{dataset.name} has {dataset.num_classes}; both must be the same"
        )
    if network.image_shape != shape:
        raise InvalidInputError(
            f"the network takes images of shape {network.image_shape}, those of "
            f"{dataset.name} are {shape}; both must be the same"
        )
    numbers = tuple(map(str, range(dataset.num_classes)))
    ours, theirs = loaded.class_names, dataset.class_names
    if ours is None or numbers in (ours, theirs):
        return
    others = [i for i in range(len(numbers)) if ours[i] != theirs[i]]
    if others:
        i = others[0]
        raise InvalidInputError(
            f"class {i} is {ours[i]!r} to the network and {theirs[i]!r} in dataset "
            f"{dataset.name} ({len(others)} of {len(numbers)} classes differ); give "
            "the dataset the network's classes, by the same names and in the same order"
        )


def _settings(options: Distill) -> dict[str, dict[str, Any]]:
    """Settings that differ from their defaults, by part; a recipe refuses strays."""
    settings: dict[str, dict[str, Any]] = {}
    if options.temperature != 4.0:
        settings["kd"] = {"temperature": options.temperature}
    holistic = {
        name: value
        for name, value in dataclasses.asdict(options.hkd).items()
        if value != getattr(HolisticOptions(), name)
    }
    if holistic:
        settings["hkd"] = holistic
    for key, text in options.settings.items():
        part, dot, name = key.partition(".")
        if not dot:
            raise InvalidInputError(
                f"--settings: {key!r} must be the name of a part, a dot and the name "
                "of one of its settings, such as crd.dim"
            )
        own = settings.setdefault(part, {})
        if name in own:
            raise InvalidInputError(f"--settings: {key} is set twice")
        own[name] = value_of(text)
    return settings

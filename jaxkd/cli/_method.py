"""From ``--method`` and its settings to a distiller."""

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jaxkd import distillers
from jaxkd._errors import InvalidInputError, InvalidTypeError, unknown_name
from jaxkd._messages import say
from jaxkd._text import count
from jaxkd.cli._options import Distill, HolisticOptions, MethodOptions
from jaxkd.cli._setting_values import check_values, parse_value
from jaxkd.distillers._recipes import ramps_of

Settings = dict[str, dict[str, Any]]

_DEFAULT_TEMPERATURE = MethodOptions().temperature


def make_distiller(options: Distill) -> distillers.Distiller:
    """Build the distiller of a run, and check everything that is said about it.

    Raises:
        InvalidInputError: If the method, a weight or a setting cannot be used.
    """
    mixture = _mixture(options)
    settings = _settings(options)
    _check_weights(options, mixture)
    ramps = _ramps(options, mixture)
    if options.unlabeled is not None:
        _check_unlabeled(options, mixture)
    for part, values in settings.items():
        _check_part(options, mixture, part, values)
    with _arguments_of("settings"):
        distiller = distillers.recipe(
            options.method,
            weights=options.weights,
            settings=settings,
            warmup_epochs={
                part: ramps.get(part, 0) for part, weight in mixture.items() if weight
            },
            ramp="cosine" if options.weight_ramp == "cosine" else "linear",
            layers=_layers(options),
        )
    if options.equal_means and distiller.student is not None:
        raise InvalidInputError(
            "--equal-means centers the student's classifier, but the student of "
            f"--method {options.method} predicts with another one. Leave --equal-means "
            "out",
            argument="equal_means",
        )
    return distiller


def _layers(options: Distill) -> distillers.Layers | None:
    """Return the layers that the options name, or None."""
    layers = distillers.Layers(
        student=options.student_layers,
        teacher=options.teacher_layers,
        student_embedding=options.student_embedding,
        teacher_embedding=options.teacher_embedding,
    )
    return None if layers == distillers.Layers() else layers


def with_ramps(options: Distill) -> Distill:
    """Return the options with the ramps of weights that the method implies.

    They become options of the run, so that its folder records what was trained even if
    a later version publishes another ramp.

    Raises:
        InvalidInputError: If the method is unknown, or a ramp cannot be used.
    """
    ramps = _ramps(options, _mixture(options))
    ramp = options.weight_ramp if ramps else "constant"
    return dataclasses.replace(options, weight_warmup=ramps, weight_ramp=ramp)


def warn_of_short_run(options: Distill) -> None:
    """Print a warning for every weight that still rises when training ends."""
    for part, epochs in with_ramps(options).weight_warmup.items():
        if epochs > options.epochs:
            say(
                f"warning: the weight of {part} rises for {count(epochs, 'epoch')}, "
                f"but training has {count(options.epochs, 'epoch')}, so it does not "
                f"reach its value. --weight-warmup {part} 0 makes it constant"
            )


def check_other_classes(options: Distill, difference: str) -> None:
    """Check that a method can learn from a teacher of other classes.

    Args:
        options: The options of the run.
        difference: How the classes differ, for the message.

    Raises:
        InvalidInputError: If a part of the method compares predictions.
    """
    needing = {m.part for m in distillers.METHODS if m.same_classes}
    mixture = _mixture(options)
    named = [part for part, weight in mixture.items() if weight and part in needing]
    if named:
        raise InvalidInputError(
            f"{difference}. --method {options.method} needs a teacher of the same "
            f"classes, because it compares predictions ({', '.join(named)}). Use the "
            "network's classes, with the same names in the same order, or a method "
            "that compares embeddings or feature maps alone, such as --method pkt, crd "
            "or at",
            argument="method",
        )


def _mixture(options: Distill) -> dict[str, float]:
    """Return the weight of each part."""
    if options.method not in distillers.RECIPES:
        raise unknown_name("method", options.method, distillers.RECIPES)
    return {**distillers.RECIPES[options.method], **options.weights}


def _ramps(options: Distill, mixture: Mapping[str, float]) -> dict[str, int]:
    """Return the parts whose weight rises, and over how many epochs."""
    ramps = ramps_of(mixture, options.weight_warmup)
    if options.weight_ramp == "constant":
        for part, epochs in options.weight_warmup.items():
            if epochs:
                raise InvalidInputError(
                    f"--weight-ramp constant makes all weights constant, but "
                    f"--weight-warmup {part} {epochs} makes one rise. Leave one of "
                    "them out",
                    argument="weight_ramp",
                )
        return {}
    if options.weight_ramp != "linear" and not ramps:
        raise InvalidInputError(
            f"--weight-ramp {options.weight_ramp} would have no effect, because no "
            "weight rises. Add --weight-warmup, such as --weight-warmup kd 20",
            argument="weight_ramp",
        )
    return ramps


def _settings(options: Distill) -> Settings:
    """Return the settings that differ from their defaults, by part."""
    settings: Settings = {}
    if options.temperature != _DEFAULT_TEMPERATURE:
        settings["kd"] = {"temperature": options.temperature}
    holistic = {
        name: value
        for name, value in dataclasses.asdict(options.hkd).items()
        if value != getattr(HolisticOptions(), name)
    }
    if holistic:
        settings["hkd"] = holistic
    for key, text in options.settings.items():
        part, _, name = key.partition(".")
        if not part or not name:
            raise InvalidInputError(
                f"--settings {key} must name a part and one of its settings, with a "
                "dot between them, such as crd.dim",
                argument="settings",
            )
        values = settings.setdefault(part, {})
        if name in values:
            raise InvalidInputError(
                f"--settings {key} and {_flag(part, name)} set the same value. Leave "
                "one of them out",
                argument="settings",
            )
        values[name] = parse_value(text)
    return settings


def _flag(part: str, name: str) -> str:
    """Return the flag that sets a value beside ``--settings``."""
    return "--temperature" if part == "kd" else f"--{part}.{name.replace('_', '-')}"


def _check_weights(options: Distill, mixture: Mapping[str, float]) -> None:
    for part, weight in options.weights.items():
        if part not in distillers.PARTS:
            raise unknown_name(
                "part of a method", part, distillers.PARTS, argument="weights"
            )
        if not 0 <= weight < math.inf:
            raise InvalidInputError(
                f"--weights {part} is {weight:g}, but a weight must be a finite number "
                "of at least 0: with a negative weight, training would maximize the "
                "part's loss",
                argument="weights",
            )
    if not any(mixture.values()):
        raise InvalidInputError(
            f"--weights sets every part of --method {options.method} to 0 "
            f"({', '.join(mixture)}): there is no loss to train with. Give at least "
            "one part a positive weight",
            argument="weights",
        )


def _check_unlabeled(options: Distill, mixture: Mapping[str, float]) -> None:
    """Check that some part learns from images without labels."""
    learns = {m.part: m.unlabeled != "zero" for m in distillers.METHODS}
    active = [part for part, weight in mixture.items() if weight]
    if not any(learns[part] for part in active):
        raise InvalidInputError(
            f"--unlabeled would have no effect: the loss of --method {options.method} "
            f"({', '.join(active)}) is zero for images without labels. Add a part that "
            "needs none, such as --weights kd 1, or leave --unlabeled out",
            argument="unlabeled",
        )


def _check_part(
    options: Distill, mixture: Mapping[str, float], part: str, values: dict[str, Any]
) -> None:
    """Check the settings of one part, and build it once to have its own checks."""
    if part not in distillers.PARTS:
        raise unknown_name(
            "part of a method", part, distillers.PARTS, argument="settings"
        )
    if not mixture.get(part):
        parts = ", ".join(name for name, weight in mixture.items() if weight)
        reason = f"--method {options.method} has no part {part!r}"
        if part in mixture:
            reason = f"the part {part!r} has the weight 0"
        raise InvalidInputError(
            f"{next(iter(values))} would have no effect: {reason}. Parts with a "
            f"weight: {parts}",
            argument=f"{part}.{next(iter(values))}",
        )
    build = distillers.PARTS[part]
    parameters = inspect.signature(build).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in values:
        if name not in parameters:
            raise unknown_name(
                f"setting of {part}", name, parameters, argument="settings"
            )
    check_values(values, parameters, part)
    with _arguments_of(part):
        build(**values)


@contextlib.contextmanager
def _arguments_of(prefix: str) -> Iterator[None]:
    """Put a prefix before the names of arguments in errors: ``crd.dim``."""
    try:
        yield
    except (InvalidInputError, InvalidTypeError) as error:
        named = f"{prefix}.{error.argument}" if error.argument else prefix
        raise InvalidInputError(str(error), argument=named) from error

"""Published recipes by name: the one place where a string selects a method."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.distillers import (
    _attention,
    _channel_relations,
    _class_relations,
    _contrastive,
    _divergences,
    _example_relations,
    _feature_maps,
    _holistic,
    _labeled,
    _overhaul,
    _relational,
    _reused_classifier,
    _review,
    _self_supervised,
    _semantic_calibration,
    _soft_targets,
    _softmax_regression,
    _stage_flow,
)
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._metadata import Method, methods
from jaxkd.distillers._named_layers import Layers, with_layers
from jaxkd.distillers._schedules import Ramp, Schedule, warmup
from jaxkd.distillers._weighted import check_weight, weighted

# The order of the families in tables and pages.
_FAMILIES = (
    _soft_targets,
    _divergences,
    _labeled,
    _class_relations,
    _feature_maps,
    _overhaul,
    _review,
    _softmax_regression,
    _semantic_calibration,
    _reused_classifier,
    _attention,
    _stage_flow,
    _example_relations,
    _relational,
    _self_supervised,
    _channel_relations,
    _contrastive,
    _holistic,
)

METHODS: tuple[Method, ...] = methods(*_FAMILIES)
"""The methods of the library, with the metadata of their decorators."""

PARTS: dict[str, Callable[..., Distiller]] = {m.part: m.build for m in METHODS}
"""The parts that a recipe can be made of."""

RECIPES: dict[str, dict[str, float]] = {
    **{m.recipe: dict(m.weights) for m in METHODS},
    **{f"{m.recipe}+kd": {**m.weights, "kd": 1.0} for m in METHODS if m.with_kd},
}
"""The weights of each recipe's parts: those of the published benchmark or of the
method's own paper, and 1 where a paper tunes the weight for every pair of networks."""

_READS = {m.part: m.reads for m in METHODS}

WARMUP_EPOCHS: dict[str, int] = {
    m.part: m.warmup_epochs for m in METHODS if m.warmup_epochs
}
"""The parts whose weight :func:`recipe` raises over the first epochs of training, as
published, with the number of epochs."""


def recipe(
    name: str,
    *,
    weights: Mapping[str, float] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    warmup_epochs: Mapping[str, int] | None = None,
    ramp: Ramp = "linear",
    layers: Layers | None = None,
) -> Distiller:
    """Build a published recipe, or a variation of it.

    The weights of the parts in :data:`WARMUP_EPOCHS` rise over the first epochs of
    training (:func:`warmup`), in every recipe. Training must know the number of steps
    in an epoch: :func:`jaxkd.training.compile_program` does, and
    :func:`jaxkd.training.make_train_step` takes ``steps_per_epoch``.

    Args:
        name: A key of :data:`RECIPES`. Each method also comes as ``name+kd``, together
            with softened predictions at weight 1.
        weights: Weights that replace the published ones, or add parts.
        settings: Keyword arguments for the parts, such as
            ``{"kd": {"temperature": 2.0}}``. Settings of a part that the recipe does
            not have raise an error, so that no setting is silently ignored.
        warmup_epochs: Numbers of epochs over which the weight of a part rises, such as
            ``{"kd": 10}``; they replace or extend :data:`WARMUP_EPOCHS`. With 0, the
            weight of the part is constant.
        ramp: The shape of the rise, as for :func:`warmup`.
        layers: Layers of your own networks, by their paths, which the parts read in
            place of stages and embeddings (:func:`with_layers`). ``hint`` compares one
            layer: name one of each network, or set its ``stage`` (from 1 on).

    Returns:
        The :func:`weighted` distiller.

    Raises:
        TypeError: If a number of epochs is not an integer.
        ValueError: If the recipe, a part, a setting or the ramp is unknown, a setting
            or a number of epochs belongs to no part, or a number of epochs is negative.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.recipe("kd", settings={"kd": {"temperature": 2.0}})
        >>> layers = distillers.Layers(student=("blocks.*",), teacher=("stages.*",))
        >>> objective = distillers.recipe("at+kd", layers=layers)
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    mixture = {**RECIPES[name], **(weights or {})}
    settings = settings or {}
    for part in (*mixture, *settings):
        if part not in PARTS:
            raise unknown_name("part of a recipe", part, PARTS)
    for part, own in settings.items():
        if not mixture.get(part):
            reason = f"has no part {part!r}"
            if part in mixture:
                reason = f"gives {part!r} the weight 0"
            raise InvalidInputError(
                f"recipe {name!r} {reason}, so the settings {dict(own)} "
                "would have no effect; parts with a weight: "
                f"{', '.join(key for key, weight in mixture.items() if weight)}",
                argument="settings",
            )
        known = inspect.signature(PARTS[part]).parameters
        for setting in own:
            if setting not in known:
                raise unknown_name(
                    f"setting of {part}", setting, known, argument=f"{part}.{setting}"
                )
    ramps = ramps_of(mixture, warmup_epochs or {})

    def weight_of(part: str) -> float | Schedule:
        weight, epochs = mixture[part], ramps.get(part)
        check_weight(part, weight)
        return warmup(weight, epochs=epochs, ramp=ramp) if epochs else weight

    if layers is not None:
        _check_are_read(layers, [part for part in mixture if mixture[part]])

    def build(part: str) -> Distiller:
        own, reads = dict(settings.get(part, {})), _READS[part]
        if layers is None or not reads:
            return PARTS[part](**own)
        if part == "hint" and "stage" not in own and layers.student:
            own["stage"] = _only_stage(layers)
        return with_layers(PARTS[part](**own), layers, stem="stem" not in reads)

    return weighted(
        **{part: (weight_of(part), build(part)) for part in mixture if mixture[part]}
    )


def _check_are_read(layers: Layers, parts: Sequence[str]) -> None:
    """Raise if layers are named that no part of a recipe reads."""
    named = {
        "stages": layers.student or layers.teacher,
        "embedding": layers.student_embedding or layers.teacher_embedding,
    }
    for kind, given in named.items():
        if given and not any(kind in _READS[part] for part in parts):
            raise InvalidInputError(
                f"layers names {given!r}, but no part of the recipe "
                f"({', '.join(parts)}) reads {kind}; methods that do: "
                f"{', '.join(part for part, reads in _READS.items() if kind in reads)}",
                argument="layers",
            )


def _only_stage(layers: Layers) -> int:
    """Return the stage that a method of one stage compares.

    Raises:
        InvalidInputError: If several layers are named.
    """
    for role in ("student", "teacher"):
        paths, _ = layers.of(role)
        if len(paths) != 1 or "*" in paths[0]:
            raise InvalidInputError(
                f"hint compares one layer, but {len(paths)} paths of the {role} are "
                f"given: {', '.join(paths) or 'none'}. Name one layer of each network, "
                "or set the stage (hint.stage), which counts the layers from 1.",
                argument="layers",
            )
    return 1


def ramps_of(
    mixture: Mapping[str, Any], warmup_epochs: Mapping[str, int]
) -> dict[str, int]:
    """Return the parts of a mixture whose weight rises, and over how many epochs.

    Args:
        mixture: The weight of each part.
        warmup_epochs: As for :func:`recipe`.

    Raises:
        TypeError: If a number of epochs is not an integer.
        ValueError: If it is negative, or of a part that is unknown or has no weight.
    """
    for part, epochs in warmup_epochs.items():
        if part not in PARTS:
            raise unknown_name("part", part, PARTS, argument="warmup_epochs")
        if not mixture.get(part):
            parts = ", ".join(name for name, weight in mixture.items() if weight)
            raise InvalidInputError(
                f"warmup_epochs of {part} would have no effect, because the part has "
                f"no weight; parts with a weight: {parts}",
                argument="warmup_epochs",
            )
        _checks.check_at_least(0, warmup_epochs=epochs)
    return {
        part: epochs
        for part, epochs in {**WARMUP_EPOCHS, **warmup_epochs}.items()
        if epochs and mixture.get(part)
    }

"""Published recipes by name: the one place where a string selects a method."""

import inspect
from collections.abc import Callable, Mapping
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

    Returns:
        The :func:`weighted` distiller.

    Raises:
        TypeError: If a number of epochs is not an integer.
        ValueError: If the recipe, a part, a setting or the ramp is unknown, a setting
            or a number of epochs belongs to no part, or a number of epochs is negative.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.recipe("kd", settings={"kd": {"temperature": 2.0}})
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

    return weighted(
        **{
            part: (weight_of(part), PARTS[part](**settings.get(part, {})))
            for part, weight in mixture.items()
            if weight
        }
    )


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

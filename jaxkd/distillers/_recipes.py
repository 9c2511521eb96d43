"""Published mixtures by name: the one place where a method is chosen by a string."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._holistic import holistic
from jaxkd.distillers._logits import cross_entropy, logit_matching, soft_targets
from jaxkd.distillers._weighted import weighted

PARTS: dict[str, Callable[..., Distiller]] = {
    "ce": cross_entropy,
    "kd": soft_targets,
    "lm": logit_matching,
    "hkd": holistic,
}
"""What a mixture can be made of."""

RECIPES: dict[str, dict[str, float]] = {
    "ce": {"ce": 1.0},
    "kd": {"ce": 0.1, "kd": 0.9},
    "logit-matching": {"lm": 1.0},
    "hkd": {"ce": 1.0, "hkd": 3.0},
    "hkd+kd": {"ce": 1.0, "kd": 1.0, "hkd": 3.0},
}
"""The published weights of each method's parts."""


def recipe(
    name: str,
    *,
    weights: Mapping[str, float] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Distiller:
    """Builds a published method, or a variation of it.

    Args:
        name: A key of :data:`RECIPES`.
        weights: Weights that replace or join the published ones.
        settings: Keyword arguments for the parts, such as
            ``{"kd": {"temperature": 2.0}}``. Settings of parts that the method does
            not have are refused: nothing is ignored in silence.

    Returns:
        The :func:`weighted` distiller.

    Raises:
        ValueError: If the recipe or a part is unknown, or a setting belongs to no part.

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
    for part in settings:
        if not mixture.get(part):
            raise InvalidInputError(
                f"recipe {name!r} has no part {part!r}, so its settings "
                f"{dict(settings[part])} would do nothing; its parts: "
                f"{', '.join(key for key, weight in mixture.items() if weight)}"
            )
    return weighted(
        **{
            part: (weight, PARTS[part](**settings.get(part, {})))
            for part, weight in mixture.items()
            if weight
        }
    )

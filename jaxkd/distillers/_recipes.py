"""Published mixtures by name: the one place where a method is chosen by a string."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._crd import contrastive_representation
from jaxkd.distillers._divergences import (
    jensen_shannon,
    reverse_kl,
    skewed_kl,
    transformed_teacher_matching,
    weighted_transformed_teacher_matching,
)
from jaxkd.distillers._features import (
    attention_transfer,
    hint,
    neuron_selectivity,
    variational_information,
)
from jaxkd.distillers._flow import flow_of_solution, singular_value
from jaxkd.distillers._holistic import holistic
from jaxkd.distillers._logits import cross_entropy, logit_matching, soft_targets
from jaxkd.distillers._overhaul import overhaul
from jaxkd.distillers._predictions import (
    class_relation,
    decoupled_kl,
    multi_level,
    normalized_kl,
    standardized_soft_targets,
)
from jaxkd.distillers._relations import (
    correlation_congruence,
    correlation_congruence_kernel,
    inter_channel_correlation,
    probabilistic_transfer,
    relational,
    similarity_preserving,
)
from jaxkd.distillers._reused import reused_classifier
from jaxkd.distillers._review import review
from jaxkd.distillers._self_supervised import self_supervised
from jaxkd.distillers._semantic import semantic_calibration
from jaxkd.distillers._srrl import softmax_regression
from jaxkd.distillers._two_stage import activation_boundary, factor_transfer
from jaxkd.distillers._weighted import weighted

PARTS: dict[str, Callable[..., Distiller]] = {
    "ce": cross_entropy,
    "kd": soft_targets,
    "lm": logit_matching,
    # Other divergences of predictions.
    "rkl": reverse_kl,
    "js": jensen_shannon,
    "skl": skewed_kl,
    "dkd": decoupled_kl,
    "nkd": normalized_kl,
    "dist": class_relation,
    "lskd": standardized_soft_targets,
    "mlkd": multi_level,
    "ttm": transformed_teacher_matching,
    "wttm": weighted_transformed_teacher_matching,
    # Feature maps.
    "hint": hint,
    "at": attention_transfer,
    "ft": factor_transfer,
    "nst": neuron_selectivity,
    "vid": variational_information,
    "ab": activation_boundary,
    "fsp": flow_of_solution,
    "kdsvd": singular_value,
    "ofd": overhaul,
    "review": review,
    "ickd": inter_channel_correlation,
    "srrl": softmax_regression,
    "semckd": semantic_calibration,
    "simkd": reused_classifier,
    # Relations among examples.
    "sp": similarity_preserving,
    "rkd": relational,
    "pkt": probabilistic_transfer,
    "cc": correlation_congruence,
    "cck": correlation_congruence_kernel,
    "sskd": self_supervised,
    # Contrast against a memory bank.
    "crd": contrastive_representation,
    "hkd": holistic,
}
"""What a mixture can be made of."""

_BESIDE_CROSS_ENTROPY: dict[str, float] = {
    "dkd": 1.0,
    "nkd": 1.0,
    "dist": 2.0,
    "mlkd": 1.0,
    "ttm": 1.0,
    "wttm": 1.0,
    "hint": 100.0,
    "at": 1000.0,
    "ft": 200.0,
    "nst": 50.0,
    "vid": 1.0,
    "ab": 1.0,
    "fsp": 1.0,
    "kdsvd": 1.0,
    "ofd": 1e-3,
    "review": 1.0,
    "ickd": 2.5,
    "srrl": 1.0,
    "semckd": 400.0,
    "sp": 3000.0,
    "rkd": 1.0,
    "pkt": 30000.0,
    "cc": 0.02,
    "cck": 0.02,
    "crd": 0.8,
    "hkd": 3.0,
}
_IN_PLACE_OF_KD = {"rkl": 0.9, "js": 0.9, "skl": 0.9, "lskd": 9.0}

_METHODS: dict[str, dict[str, float]] = {
    **{part: {"ce": 0.1, part: beta} for part, beta in _IN_PLACE_OF_KD.items()},
    **{part: {"ce": 1.0, part: beta} for part, beta in _BESIDE_CROSS_ENTROPY.items()},
}

RECIPES: dict[str, dict[str, float]] = {
    "ce": {"ce": 1.0},
    "kd": {"ce": 0.1, "kd": 0.9},
    "logit-matching": {"lm": 1.0},
    "sskd": {"ce": 0.1, "kd": 0.9, "sskd": 1.0},
    "simkd": {"simkd": 1.0},
    **_METHODS,
    **{f"{name}+kd": {**parts, "kd": 1.0} for name, parts in _METHODS.items()},
}
"""The weights of each method's parts: the published benchmark's, or the method's own
paper's; 1 where a paper tunes it for every pair of networks."""


def recipe(
    name: str,
    *,
    weights: Mapping[str, float] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Distiller:
    """Builds a published method, or a variation of it.

    Args:
        name: A key of :data:`RECIPES`. Each method also comes as ``name+kd``, together
            with softened predictions at weight 1.
        weights: Weights that replace or join the published ones.
        settings: Keyword arguments for the parts, such as
            ``{"kd": {"temperature": 2.0}}``. Settings of parts that the method does
            not have are refused: nothing is ignored in silence.

    Returns:
        The :func:`weighted` distiller.

    Raises:
        ValueError: If the recipe, a part or a setting is unknown, or a setting belongs
            to no part.

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
            raise InvalidInputError(
                f"recipe {name!r} has no part {part!r}, so its settings "
                f"{dict(own)} would do nothing; its parts: "
                f"{', '.join(key for key, weight in mixture.items() if weight)}"
            )
        known = inspect.signature(PARTS[part]).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
        for setting in own:
            if setting not in known and not takes_any:
                raise unknown_name(f"setting of {part}", setting, known)
    return weighted(
        **{
            part: (weight, PARTS[part](**settings.get(part, {})))
            for part, weight in mixture.items()
            if weight
        }
    )

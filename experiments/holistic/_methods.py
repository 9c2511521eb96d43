"""List the methods, and the settings that each may choose from.

Every method chooses among six settings: two learning rates, and three values of one
hyperparameter.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from jaxkd import distillers

LEARNING_RATES = (0.001, 0.003)
WEIGHT_DECAY = 0.1
# The published methods draw 16,384 negatives for each example.
NEGATIVES = {"negatives": "shared", "num_negatives": 256}
# Epochs of a ramp, as a share of all: DKD's published 20 of 40 here.
_RAMP = 0.5

_HKD, _CRD = {"hkd": NEGATIVES}, {"crd": NEGATIVES}


@dataclasses.dataclass(frozen=True)
class Method:
    """A method with the settings that it may choose from.

    Attributes:
        hyperparameter: Its name in tables.
        values: Its values.
        build: Returns the distiller from a value and the number of epochs of the run.
        decay: Returns AdamW's weight decay from a value.
    """

    hyperparameter: str
    values: Sequence[float]
    build: Callable[[float, int], distillers.Distiller]
    decay: Callable[[float], float] = lambda value: WEIGHT_DECAY

    @property
    def settings(self) -> list["Setting"]:
        """All settings that the method may choose from."""
        return [Setting(*s) for s in itertools.product(LEARNING_RATES, self.values)]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One choice.

    Attributes:
        learning_rate: Initial learning rate of a cosine schedule.
        value: Value of the method's hyperparameter.
    """

    learning_rate: float
    value: float


def _weighted(recipe: str, part: str, **options: Any):
    """Return a function from the weight of a part to the recipe."""
    return lambda weight, epochs: distillers.recipe(
        recipe, weights={part: weight}, **options
    )


def _softened(recipe: str, **options: Any):
    """Return a function from the temperature of the soft targets to the recipe."""
    settings = options.pop("settings", {})
    return lambda temperature, epochs: distillers.recipe(
        recipe, settings={"kd": {"temperature": temperature}, **settings}, **options
    )


def _ramped(temperature: float, epochs: int) -> distillers.Distiller:
    ramp = {"hkd": round(_RAMP * epochs)}
    build = _softened("hkd+kd", settings=_HKD, warmup_epochs=ramp)
    return build(temperature, epochs)


def _decoupled(weight: float, epochs: int) -> distillers.Distiller:
    ramp = {"dkd": round(_RAMP * epochs)}
    return distillers.recipe("dkd", weights={"dkd": weight}, warmup_epochs=ramp)


_TEMPERATURES = (2.0, 4.0, 8.0)

METHODS: dict[str, Method] = {
    "alone": Method(
        "weight decay",
        (0.01, 0.1, 0.3),
        lambda value, epochs: distillers.recipe("ce"),
        lambda value: value,
    ),
    "KD": Method("T", _TEMPERATURES, _softened("kd")),
    "KD, full labels": Method(
        "T", _TEMPERATURES, _softened("kd", weights={"ce": 1.0, "kd": 1.0})
    ),
    "KD, standardized": Method("weight", (0.9, 2.7, 9.0), _weighted("lskd", "lskd")),
    "DKD": Method("weight", (0.1, 0.3, 1.0), _decoupled),
    "PKT+KD": Method("weight", (3e3, 3e4, 3e5), _weighted("pkt+kd", "pkt")),
    "HKD": Method("weight", (0.1, 0.3, 1.0), _weighted("hkd", "hkd", settings=_HKD)),
    "HKD+KD": Method(
        "weight", (0.1, 0.3, 1.0), _weighted("hkd+kd", "hkd", settings=_HKD)
    ),
    "HKD+KD, weight 3": Method("T", _TEMPERATURES, _softened("hkd+kd", settings=_HKD)),
    "HKD+KD, ramp to 3": Method("T", _TEMPERATURES, _ramped),
    "CRD+KD": Method(
        "weight", (0.08, 0.24, 0.8), _weighted("crd+kd", "crd", settings=_CRD)
    ),
    "RKD+KD": Method("weight", (0.1, 1.0, 10.0), _weighted("rkd+kd", "rkd")),
}
"""All methods by the name in tables.

"KD, full labels" has the parts and weights of the combinations, without their third
part: it is what a combination is compared with.
"""

COMPARED = ("alone", "KD", "KD, full labels", "PKT+KD", "HKD", "HKD+KD")
"""The methods that are measured in every scenario."""

"""The metadata of a distillation method, attached where the method is defined."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from jaxkd.distillers._base import Distiller


class Method(NamedTuple):
    """A method of the library and its published recipe.

    Attributes:
        build: The function that builds the distiller. Its keyword arguments are the
            settings of the part, and its docstring names the reference.
        part: The name of the part in recipes, such as ``"kd"``.
        recipe: The name of the recipe, which is that of the part unless given.
        weights: The weights of the recipe's parts: those of the published benchmark or
            of the method's own paper, and 1 where a paper tunes the weight for every
            pair of networks.
        with_kd: Whether the recipe also comes as ``name+kd``, with softened predictions
            at weight 1.
        compares: What the method compares, for tables.
        losses: The functions of :mod:`jaxkd.losses` that hold its formulas.
        repdistiller: The method's name in RepDistiller, or "".
        warmup_epochs: Length of the published linear ramp of the part's weight
            (:func:`jaxkd.distillers.warmup`); 0 without one.
        unlabeled: What the part learns from images without a label: ``"all"``, what it
            learns from others; ``"negatives"``, each such image as a class of its own;
            ``"part"``, without a term that needs the label; or ``"zero"``, nothing.
        reads: The features that the part compares beside logits: ``"embedding"``,
            ``"stages"``, and ``"stem"`` if the stem's feature map is one of them.
        same_classes: Whether the teacher must have the student's classes, because the
            part compares predictions or the student predicts with the teacher's
            classifier.
    """

    build: Callable[..., Distiller]
    part: str
    recipe: str
    weights: Mapping[str, float]
    with_kd: bool
    compares: str
    losses: tuple[Callable[..., Any], ...]
    repdistiller: str
    warmup_epochs: int
    unlabeled: str
    reads: tuple[str, ...]
    same_classes: bool


_Build = TypeVar("_Build", bound=Callable[..., Distiller])
_ATTRIBUTE = "method"


def method(
    part: str,
    *,
    weights: Mapping[str, float],
    compares: str,
    losses: tuple[Callable[..., Any], ...] = (),
    recipe: str = "",
    with_kd: bool = True,
    repdistiller: str = "",
    warmup_epochs: int = 0,
    unlabeled: str = "all",
    reads: tuple[str, ...] = (),
    same_classes: bool | None = None,
) -> Callable[[_Build], _Build]:
    """Attach a :class:`Method` to a function, which is returned as it is.

    The arguments are the fields of :class:`Method`. By default, parts that read no
    features need the same classes.
    """

    def attach(build: _Build) -> _Build:
        record = Method(
            build,
            part,
            recipe or part,
            weights,
            with_kd,
            compares,
            losses,
            repdistiller,
            warmup_epochs,
            unlabeled,
            reads,
            not reads if same_classes is None else same_classes,
        )
        setattr(build, _ATTRIBUTE, record)
        return build

    return attach


def methods(*families: ModuleType) -> tuple[Method, ...]:
    """Collect the methods that the modules define, in order."""
    return tuple(
        getattr(value, _ATTRIBUTE)
        for family in families
        for value in vars(family).values()
        if hasattr(value, _ATTRIBUTE) and value.__module__ == family.__name__
    )

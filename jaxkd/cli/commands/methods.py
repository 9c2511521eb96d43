"""``jaxkd methods``."""

import inspect

from rich.table import Table

from jaxkd import distillers
from jaxkd.cli._console import Console
from jaxkd.cli._options import Methods

_UNLABELED = {
    "all": "as from others",
    "negatives": "as from others, each a class of its own",
    "part": "without a term",
    "zero": "nothing",
}


def run(options: Methods, arguments: list[str]) -> None:
    """Print all methods with their parts and weights, and the settings of the parts."""
    del options, arguments
    console = Console()
    methods = Table(title="values of `jaxkd distill --method`")
    methods.add_column("method")
    methods.add_column("parts and their weights")
    methods.add_column("description")
    methods.add_column("from unlabeled images")
    unlabeled = {method.part: method.unlabeled for method in distillers.METHODS}
    for name, weights in distillers.RECIPES.items():
        base, _, with_kd = name.partition("+")
        if with_kd:
            continue
        own = base if base in distillers.PARTS else next(iter(weights))
        also = f"{name}, {name}+kd" if f"{name}+kd" in distillers.RECIPES else name
        mixture = " ".join(_weight(*each) for each in weights.items())
        methods.add_row(also, mixture, _summary(own), _UNLABELED[unlabeled[own]])
    parts = Table(title="settings of the parts: `--settings part.name value`")
    parts.add_column("part")
    parts.add_column("settings and their defaults")
    for name, build in distillers.PARTS.items():
        settings = inspect.signature(build).parameters.values()
        text = ", ".join(f"{p.name} {p.default}" for p in settings)
        if text:
            parts.add_row(name, text)
    console.print(methods)
    console.print(parts)


def _weight(part: str, weight: float) -> str:
    """Return a part with its weight, and over how many epochs that rises."""
    epochs = distillers.WARMUP_EPOCHS.get(part)
    return f"{part} {weight:g}" + (f" (rises for {epochs} epochs)" if epochs else "")


def _summary(part: str) -> str:
    """Return the first line of a method's docstring."""
    return (inspect.getdoc(distillers.PARTS[part]) or "").splitlines()[0].rstrip(".")

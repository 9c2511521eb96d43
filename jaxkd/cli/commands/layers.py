"""``jaxkd layers``."""

from pathlib import Path

from flax import nnx

from jaxkd import _checks, models, runs
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._messages import announce
from jaxkd.cli._console import Console
from jaxkd.cli._options import Layers

_CLASSES, _CHANNELS = 10, 3


def run(options: Layers, arguments: list[str]) -> None:
    """Print the paths of a network's layers."""
    del arguments
    for name in ("image_size", "channels"):
        if (value := getattr(options, name)) is not None:
            _checks.check_at_least(1, **{name: value})
    network, shape = _network(options)
    announce(f"tracing {options.network}")
    console = Console()
    for line in repr(models.layers(network, (1, *shape))).splitlines():
        console.tell(line)


def _network(options: Layers) -> tuple[nnx.Module, tuple[int, int, int]]:
    """Return a network, which may be abstract, and the shape of its images."""
    name = options.network
    if name in models.names():
        size = options.image_size or models.published_image_size(name)
        shape = size, size, options.channels or _CHANNELS
        build = lambda: models.build(
            name, num_classes=_CLASSES, image_shape=shape, rngs=nnx.Rngs(0)
        )
        return nnx.eval_shape(build), shape
    if not Path(name).exists():
        raise unknown_name("network", name, models.names(), others=", or a run folder")
    loaded = runs.load_network(Path(name), trial=options.trial)
    for flag in ("image_size", "channels"):
        if getattr(options, flag) is not None:
            raise InvalidInputError(
                f"{name} is a run, whose images have the shape "
                f"{loaded.network.image_shape}. Leave --{flag.replace('_', '-')} out",
                argument=flag,
            )
    return loaded.module, loaded.network.image_shape

"""``jaxkd export``."""

from typing import Any

import numpy as np

from jaxkd import __version__, _json, interchange, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli._console import Console
from jaxkd.cli._options import Export
from jaxkd.runs import _folder


def run(options: Export, arguments: list[str]) -> None:
    """Writes a run's network in a format that other programs read."""
    del arguments
    out = options.out
    if out.exists():
        raise InvalidInputError(f"{out} exists already; choose another --out")
    loaded = _folder.load_network(options.run, trial=options.trial)
    description = _description(loaded)
    made = str(out)
    if options.format == "stablehlo":
        frozen = training.freeze(loaded.module, loaded.normalization)
        beside = interchange.write_stablehlo(
            out, frozen, loaded.network.image_shape, description=description
        )
        made = f"{out} and {beside.name}"
    elif options.format == "safetensors":
        # The format's header holds strings alone.
        metadata = {
            name: x if isinstance(x, str) else _json.dumps(x)
            for name, x in description.items()
            if x is not None
        }
        interchange.write_safetensors(out, loaded.module, metadata=metadata)
    else:
        interchange.write_orbax(out, loaded.module)
    Console().print(
        f"{loaded.network.model} ({loaded.version}) is in {made}",
        highlight=False,
        soft_wrap=True,
    )


def _description(loaded: runs.LoadedNetwork) -> dict[str, Any]:
    network, names = loaded.network, loaded.class_names
    return {
        "model": network.model,
        "width": network.width,
        "num_classes": network.num_classes,
        "class_names": None if names is None else list(names),
        "image_shape": list(network.image_shape),
        "normalization": {
            name: np.asarray(values, float).tolist()
            for name, values in loaded.normalization._asdict().items()
        },
        "jaxkd": __version__,
    }

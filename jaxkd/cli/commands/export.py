"""``jaxkd export``."""

import os
from typing import Any

import numpy as np

from jaxkd import __version__, _json, interchange, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import announce
from jaxkd.cli._console import Console
from jaxkd.cli._options import Export


def run(options: Export, arguments: list[str]) -> None:
    """Write a run's network to a file that other programs can read."""
    del arguments
    out = options.out
    if os.path.lexists(out):
        raise InvalidInputError(
            f"--out {out} exists already. Choose another path", argument="out"
        )
    announce(f"loading {options.run}")
    loaded = runs.load_network(options.run, trial=options.trial)
    description = _description(loaded)
    written = str(out)
    announce(f"writing {out}")
    if options.format == "stablehlo":
        frozen = training.freeze(loaded.module, loaded.normalization)
        beside = interchange.write_stablehlo(
            out, frozen, loaded.network.image_shape, description=description
        )
        written = f"{out} and {beside.name}"
    elif options.format == "safetensors":
        # The header of the format holds strings only.
        metadata = {
            name: x if isinstance(x, str) else _json.dumps(x)
            for name, x in description.items()
            if x is not None
        }
        interchange.write_safetensors(out, loaded.module, metadata=metadata)
    else:
        interchange.write_orbax(out, loaded.module)
    Console().tell(f"{loaded.network.model} ({loaded.version}) is in {written}")


def _description(loaded: runs.LoadedNetwork) -> dict[str, Any]:
    """Describe the network and its images."""
    network, names = loaded.network, loaded.class_names
    return {
        "model": network.model,
        "width": network.width,
        "num_classes": network.num_classes,
        "class_names": None if names is None else list(names),
        "image_shape": list(network.image_shape),
        "reused_features": network.reused_features,
        "normalization": {
            name: np.asarray(values, float).tolist()
            for name, values in loaded.normalization._asdict().items()
        },
        "jaxkd": __version__,
    }

"""Lower the training step of recipes for accelerators, without having any.

As a script, it needs eight devices, and prints one line for each recipe:

    XLA_FLAGS=--xla_force_host_platform_device_count=8 PYTHONPATH=.:tests \
        python tests/lowering_support.py [RECIPE ...]
"""

import functools
import itertools
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from support import make_dataset

from jaxkd import data, distillers, training
from jaxkd.models import ModelOutput
from jaxkd.training import _experiment

PLATFORMS = ("cuda", "tpu")
ARRANGEMENTS = {
    "one": {},
    "trials": {"trials": 2},
    "mesh": {"mesh": {"data": 8}},
    "trials on mesh": {"trials": 2, "mesh": {"trial": 2, "data": 4}},
}
BATCH = 16
# As small as the methods allow.
SETTINGS = {
    "hkd": {"dim": 8, "num_negatives": 20},
    "crd": {"dim": 8, "num_negatives": 20},
}


@functools.cache
def dataset():
    """Three batches of small images in color."""
    return make_dataset(channels=3)


class Network(nnx.Module):
    """Four convolutions and a linear classifier, with batch statistics."""

    def __init__(self, rngs):
        channels = (3, 4, 4, 8, 8)
        pairs = itertools.pairwise(channels)
        self.layers = nnx.List([nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in pairs])
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.classifier = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        """Return the output with the stages before and after their activation."""
        stages = []
        for i, layer in enumerate(self.layers):
            x = layer(jax.nn.relu(x))
            if i >= 2:  # half the size
                x = x[:, ::2, ::2]
            stages.append(x)
        stages[-1] = self.norm(x)
        after = tuple(map(jax.nn.relu, stages))
        embedding = after[-1].mean((1, 2))
        return ModelOutput(self.classifier(embedding), embedding, after, tuple(stages))


@functools.cache
def teacher():
    """A frozen network whose weights do not matter."""
    abstract = nnx.eval_shape(lambda: Network(nnx.Rngs(0)))
    graphdef, state = nnx.split(abstract)
    ones = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), state)
    statistics = data.channel_statistics(dataset().train.images)
    return training.freeze(nnx.merge(graphdef, ones), statistics)


def small_recipe(name):
    """A recipe with a small bank."""
    parts = distillers.RECIPES[name]
    settings = {part: values for part, values in SETTINGS.items() if part in parts}
    return distillers.recipe(name, settings=settings)


def compile_program(distiller, *, trials=None, mesh=None):
    """The program of a method, as it would be on an accelerator."""
    if mesh is not None:
        devices = np.array(jax.devices()[: int(np.prod(list(mesh.values())))])
        mesh = jax.sharding.Mesh(devices.reshape(tuple(mesh.values())), tuple(mesh))
    return training.compile_program(
        Network,
        dataset(),
        distiller,
        optimizer=optax.sgd(0.02, momentum=0.9),
        batch_size=BATCH,
        teacher=teacher(),
        trials=trials,
        mesh=mesh,
    )


def lower(distiller, arrangement):
    """Lower the steps of every stage of a method for every platform.

    Returns:
        The first line of each platform's error.
    """
    # Some defaults are those of the backend: how many steps share a call, the rows of a
    # bank that are read at once.
    gpu = mock.patch("jax.default_backend", return_value="gpu")
    # It would run both networks.
    unverified = mock.patch.object(_experiment, "verify_inference_mode")
    with gpu, unverified:
        program = compile_program(distiller, **ARRANGEMENTS[arrangement])
        assert program.steps_per_call == 3
        stages = [(program.training, program.pretraining_steps)]
        if program.pretraining is not None:
            stages.append((program.pretraining, 0))
        # `advance` is a functools.partial of a compiled function and its constants.
        order = jax.ShapeDtypeStruct((len(dataset().train.labels),), jnp.int32)
        traced = [
            stage.advance_many.func.trace(
                *stage.advance_many.args, program.like(step), order
            )
            for stage, step in stages
        ]
    if _error(traced, PLATFORMS) is None:  # for all at once: quicker
        return []
    errors = ((platform, _error(traced, (platform,))) for platform in PLATFORMS)
    return [f"{platform}: {error}" for platform, error in errors if error is not None]


def _error(traced, platforms):
    """Lower traced functions; return the first line of the error, or None."""
    try:
        for each in traced:
            each.lower(lowering_platforms=platforms)
    except Exception as error:  # whatever a primitive without a rule raises
        return str(error).splitlines()[0]
    return None


def main(recipes, arrangements=ARRANGEMENTS):
    """Print a line for each recipe; return whether everything was lowered."""
    good = True
    print(f"{'recipe':16}" + "".join(f"{name:>18}" for name in arrangements))
    for recipe in recipes or distillers.RECIPES:
        errors = {name: lower(small_recipe(recipe), name) for name in arrangements}
        cells = ("error" if each else " ".join(PLATFORMS) for each in errors.values())
        print(f"{recipe:16}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
        for name, each in errors.items():
            for error in each:
                print(f"  {name}, {error}", flush=True)
                good = False
    return good


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)

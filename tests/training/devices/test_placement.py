"""One program on one device, on a mesh of several, and over several processes."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh
from support import assert_bitwise_equal, build_mlp, build_resnet, make_dataset

from jaxkd import data, distillers, training
from jaxkd._errors import InvalidInputError


def mesh_of(*names, shape=None):
    devices = np.array(jax.devices())
    return Mesh(devices.reshape(shape or [-1] + [1] * (len(names) - 1)), names)


def compile_program(mesh=None, *, method="hkd+kd", rows=43, network=None, **settings):
    """Three steps an epoch; 43 rows divide by no number of devices."""
    hkd = {"hkd": {"dim": 8, "num_negatives": 20}} if "hkd" in method else {}
    return training.compile_program(
        network or build_resnet(),
        make_dataset(rows),
        distillers.recipe(method, settings=hkd),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=16,
        teacher=training.freeze(build_mlp()(nnx.Rngs(7))),
        augmentation=data.Augmentation(crop_padding=1, flip=True),
        mesh=mesh,
        **settings,
    )


def trained(program, epochs=2, **settings):
    loop, history = training.fit(program, program.start(3), epochs=epochs, **settings)
    timed = ("seconds", "images_per_second")
    return loop, [{k: v for k, v in r.items() if k not in timed} for r in history]


@functools.cache
def without_mesh():
    return trained(compile_program())


@pytest.mark.slow
def test_mesh_of_one_device_changes_no_bit():
    alone, history = without_mesh()
    loop, same = trained(compile_program(mesh_of("data")))
    assert_bitwise_equal(loop, alone)
    assert same == history


@pytest.mark.slow
def test_trials_on_a_mesh_of_one_device_change_no_bit():
    settings = {"method": "kd", "network": build_mlp(), "trials": 2, "fused": True}
    alone, history = trained(compile_program(**settings))
    loop, same = trained(compile_program(mesh_of("trial", "data"), **settings))
    assert_bitwise_equal(loop, alone)
    assert same == history


@pytest.mark.parametrize(
    ("names", "what"),
    [(("data", "model"), "axes data and trial"), (("rows",), "axes data and trial")],
)
def test_mesh_with_other_axes_is_refused(names, what):
    with pytest.raises(InvalidInputError, match=what):
        compile_program(mesh_of(*names), method="kd")

"""The training step can be lowered for accelerators that this machine does not have.

Lowering to StableHLO fails if an operation has no rule for the platform.
"""

import jax
import pytest
from device_support import TESTS, processes
from lowering_support import ARRANGEMENTS, lower, small_recipe

from jaxkd import distillers

ON_ONE_DEVICE = ("one", "trials")


@pytest.mark.parametrize("arrangement", ON_ONE_DEVICE)
@pytest.mark.parametrize(
    "recipe",
    ["kd", *(pytest.param(x, marks=pytest.mark.slow) for x in ("crd", "review"))],
)
def test_a_step_is_lowered_for_cuda_and_tpu(recipe, arrangement):
    assert lower(small_recipe(recipe), arrangement) == []


def test_an_operation_without_a_rule_is_named_for_each_platform():
    def loss(params, extra, student, teacher, batch):
        triangle, _ = jax.lax.linalg.schur(jax.lax.stop_gradient(student.logits[:4]))
        return student.logits.sum(-1) + triangle.sum(), extra, {}  # a rule for CPU

    distiller = distillers.Distiller(distillers.cross_entropy().init, loss)
    cuda, tpu = lower(distiller, "one")
    assert cuda.startswith("cuda: ")
    assert tpu.startswith("tpu: ")
    assert "schur" in cuda
    assert "schur" in tpu


def lowered_on_8_devices(*lists):
    """Lower lists of recipes in processes of their own; return their printed lines."""
    commands = [[str(TESTS / "lowering_support.py"), *names] for names in lists]
    codes, outputs, errors = processes(commands, devices=8, timeout=3600)
    assert codes == [0] * len(lists), (outputs, errors)
    return [line.split() for output in outputs for line in output.splitlines()[1:]]


@pytest.mark.slow
def test_a_step_is_lowered_on_a_mesh_of_8_devices():
    for line in lowered_on_8_devices(["hkd+kd", "crd"]):
        assert line[1:] == ["cuda", "tpu"] * len(ARRANGEMENTS)


@pytest.mark.slow
def test_every_recipe_is_lowered_alone_with_trials_and_on_a_mesh():
    names = list(distillers.RECIPES)
    lines = lowered_on_8_devices(names[::2], names[1::2])
    assert sorted(line[0] for line in lines) == sorted(names)
    assert all(line[1:] == ["cuda", "tpu"] * len(ARRANGEMENTS) for line in lines)

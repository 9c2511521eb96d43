"""Arguments that the losses of soft targets refuse, and what they import."""

import inspect
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError

LOSSES = [losses.soft_target_kl, losses.logit_matching, losses.mean_gap]


@pytest.fixture
def logits():
    return tuple(np.random.default_rng(0).normal(0, 3, (2, 4, 7)).astype(np.float32))


@pytest.mark.parametrize("loss", LOSSES)
def test_integer_logits_are_a_type_error(logits, loss):
    with pytest.raises(TypeError, match=r"teacher_logits.*(floating point|integers)?"):
        loss(logits[0], logits[1].astype(np.int32))
    with pytest.raises(TypeError, match="teacher_logits must be floating point"):
        inspect.unwrap(loss)(logits[0], logits[1].astype(np.int32))


@pytest.mark.parametrize("loss", LOSSES)
def test_different_shapes_are_an_error_that_names_both(logits, loss):
    with pytest.raises(InvalidInputError, match=r"\(4, 7\) and \(4, 6\)"):
        inspect.unwrap(loss)(logits[0], logits[1][:, :6])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_logits_without_classes_are_an_error(loss, shape):
    with pytest.raises(InvalidInputError, match="at least one class"):
        inspect.unwrap(loss)(jnp.zeros(shape), jnp.zeros(shape))


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_temperature_that_is_not_positive_is_an_error(logits, temperature):
    with pytest.raises(InvalidInputError, match="temperature must be positive"):
        losses.soft_target_kl(*logits, temperature=temperature)


def test_losses_import_neither_flax_nor_optax():
    code = (
        "import sys, jaxkd.losses; sys.exit(bool({'flax', 'optax'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

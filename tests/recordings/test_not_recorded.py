"""A method that reads an output that was not recorded names it, and the command."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_support import LABELS
from flax import nnx
from recording_support import draw, record

from jaxkd import distillers, recordings
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Spec
from jaxkd.models import ModelOutput

MAPS = [f"{kind}.{i}" for kind in ("stages", "preactivations") for i in range(3)]


def student():
    """An abstract output with everything that the methods read."""
    array = lambda *shape: jax.ShapeDtypeStruct((4, *shape), jnp.float32)
    maps = tuple(array(4, 4, n) for n in (2, 3, 4))
    return ModelOutput(array(4), array(4), maps, maps)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An abstract output of a recording with logits alone."""
    path = tmp_path_factory.mktemp("r") / "r"
    record(path, 0, {"logits": draw(0)}, available=["logits", "embedding", *MAPS])
    return recordings.open(path).abstract(4)


METHODS = {
    "holistic": (distillers.holistic, "embedding", "embedding"),
    "contrastive": (distillers.contrastive_representation, "embedding", "embedding"),
    "hint": (distillers.hint, "stages", "stages.0 stages.1 stages.2"),
    "attention": (distillers.attention_transfer, "stages", "stages.0 stages.1"),
    "review": (distillers.review, "stages", "stages.0 stages.1"),
    "overhaul": (distillers.overhaul, "preactivations", "preactivations.0"),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_names_what_it_needs_and_how_to_record_it(teacher, name):
    make, output, options = METHODS[name]
    with pytest.raises(InvalidInputError) as caught:
        make().init(nnx.Rngs(0), Spec(student(), teacher, 4, LABELS))
    text = str(caught.value)
    assert f"reads the teacher's {output}" in text
    assert f"jaxkd record --teacher RUN --out DIR --outputs logits {options}" in text
    assert "it has logits" in text
    assert "\n" not in text


@pytest.mark.parametrize("make", [distillers.soft_targets, distillers.decoupled_kl])
def test_a_method_that_compares_logits_needs_nothing_else(teacher, make):
    spec = Spec(student(), teacher, 4, LABELS)
    make().init(nnx.Rngs(0), spec)


def test_a_method_that_reads_one_map_is_told_to_record_that_map(teacher):
    with pytest.raises(InvalidInputError, match=r"--outputs logits stages\.2`"):
        teacher.stages[-1]


USES = {
    "attribute": lambda x: x.shape,
    "length": len,
    "iteration": list,
    "item": operator.itemgetter(0),
    "slice": operator.itemgetter(slice(2)),
    "truth": bool,
    "numpy": np.asarray,
    "jax": jnp.asarray,
    "function": jnp.sum,
    "sum": lambda x: x + 1,
    "product with an array": lambda x: jnp.ones(3) * x,
    "product with a NumPy array": lambda x: np.ones(3) * x,
    "matrix product": lambda x: x @ jnp.ones(3),
    "negation": operator.neg,
    "comparison": lambda x: x > 0,
    "call": lambda x: x(),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_is_refused(use):
    missing = recordings.NotRecorded("embedding", "some/folder")
    with pytest.raises(InvalidInputError, match="teacher's embedding, which the rec"):
        USES[use](missing)


def test_it_passes_through_jax_as_a_constant(teacher):
    output = teacher._replace(logits=jnp.ones((4, 4)))
    result = jax.jit(lambda x: jax.tree.map(lambda y: 2 * y, x))(output)
    assert result.embedding == teacher.embedding
    assert len(jax.tree.leaves(result)) == 1

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers
from jaxkd.models import ModelOutput

ROWS = 40
LABELS = np.arange(ROWS) % 5
# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


def abstract_outputs():
    """Networks of equal stages and widths, which is what every method can take."""
    shapes = ((8, 8, 4), (8, 8, 4), (4, 4, 8), (2, 2, 16))
    stages = tuple(jax.ShapeDtypeStruct((10, *s), jnp.float32) for s in shapes)
    logits = jax.ShapeDtypeStruct((10, 5), jnp.float32)
    embedding = jax.ShapeDtypeStruct((10, 16), jnp.float32)
    return ModelOutput(logits, embedding, stages, stages)


@functools.cache
def published(name):
    """The metrics and the mean loss of one step of a recipe as it is published."""
    return parts_and_total(name)


def parts_and_total(name, step=0, **overrides):
    """Runs one step of a recipe; returns its metrics and its mean loss."""
    rng = np.random.default_rng(0)
    student, teacher = (
        ModelOutput(
            jnp.asarray(rng.normal(size=(10, 5)), jnp.float32),
            jnp.asarray(rng.normal(size=(10, 6)), jnp.float32),
        )
        for _ in range(2)
    )
    rows = jnp.arange(10)
    images = jnp.zeros((10, 8, 8, 1), jnp.uint8)
    batch = distillers.Batch(
        *(images, jnp.asarray(LABELS)[rows], rows, jax.random.key(0)),
        step=jnp.int32(step),
        steps_per_epoch=2,
    )
    distiller = distillers.recipe(name, **overrides)
    spec = distillers.Spec(student, teacher, 5, LABELS)

    @jax.jit
    def step(key, student, teacher, batch):
        state = distiller.init(nnx.Rngs(key), spec)
        return distiller.loss(state.params, state.extra, student, teacher, batch)

    per_example, _, metrics = step(jax.random.key(0), student, teacher, batch)
    parts = {k: float(v) for k, v in metrics.items() if "/" not in k}
    return parts, float(per_example.mean())


@pytest.mark.parametrize(
    "name, weights",
    [
        ("ce", {"ce": 1.0}),
        ("kd", {"ce": 0.1, "kd": 0.9}),
        ("logit-matching", {"lm": 1.0}),
        ("hkd", {"ce": 1.0, "hkd": 3.0}),
        ("hkd+kd", {"ce": 1.0, "kd": 1.0, "hkd": 3.0}),
    ],
)
def test_mixes_the_parts_with_the_published_weights(name, weights):
    parts, total = published(name)
    assert parts.keys() == weights.keys()
    expected = sum(weights[part] * value for part, value in parts.items())
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_weights_given_replace_the_published_ones():
    parts, total = parts_and_total("kd", weights={"kd": 2.0})
    np.testing.assert_allclose(total, 0.1 * parts["ce"] + 2 * parts["kd"], rtol=1e-5)


def test_settings_reach_their_part():
    cold, _ = parts_and_total("kd", settings={"kd": {"temperature": 1.0}})
    warm, _ = published("kd")
    assert cold["kd"] != warm["kd"]
    assert cold["ce"] == warm["ce"]


def test_an_unknown_recipe_is_answered_with_the_nearest_names():
    with pytest.raises(ValueError, match=re.escape("did you mean 'hkd+kd'")):
        distillers.recipe("hkd-kd")


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="unknown part of a recipe 'kdd'"):
        distillers.recipe("kd", weights={"kdd": 1.0})


def test_settings_that_would_do_nothing_are_refused():
    with pytest.raises(ValueError, match="has no part 'hkd'"):
        distillers.recipe("kd", settings={"hkd": {"neighbors": 4}})


@pytest.mark.parametrize(
    "name",
    [
        # A method with KD is the method and one part more.
        pytest.param(
            name,
            marks=[pytest.mark.slow] * (name.endswith("+kd") and name != "hkd+kd"),
        )
        for name in distillers.RECIPES
    ],
)
def test_every_recipe_gives_one_value_per_example_in_each_of_its_stages(name):
    output = abstract_outputs()
    distiller = distillers.recipe(name)
    classifier = distillers.Classifier(jnp.zeros((16, 5)), jnp.zeros(5))
    spec = distillers.Spec(output, output, 5, LABELS, classifier)
    rows = jax.ShapeDtypeStruct((10,), jnp.int32)
    images = jax.ShapeDtypeStruct((10, 8, 8, 1), jnp.uint8)

    def both(images, rows, output):
        params, extra = distiller.init(nnx.Rngs(0), spec)
        batch = distillers.Batch(
            *(images, rows, rows, jax.random.key(0)),
            step=jnp.int32(0),
            steps_per_epoch=4,
        )
        if distiller.views is not None:
            views = jax.tree.map(lambda x: jnp.concatenate([x] * 3), output)
            batch = batch._replace(views=distillers.Views(views, views))
        values = []
        if distiller.pretraining is not None:
            value, extra, _ = distiller.pretraining.loss(
                params, extra, output, output, batch
            )
            values.append(value)
            params, extra = distiller.pretraining.finish(params, extra)
        values.append(distiller.loss(params, extra, output, output, batch)[0])
        return values

    values = jax.eval_shape(both, images, rows, output)
    stages = 1 + (distiller.pretraining is not None)
    assert [value.shape for value in values] == [(10,)] * stages


def test_published_methods_come_alone_and_with_kd():
    alone = {name for name in distillers.RECIPES if "+" not in name}
    assert alone - {"ce", "kd", "logit-matching", "simkd", "sskd"} == {
        name.removesuffix("+kd") for name in distillers.RECIPES if "+" in name
    }


def test_an_unknown_setting_is_answered_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown setting of crd 'dims'.*'dim'"):
        distillers.recipe("crd", settings={"crd": {"dims": 4}})


@pytest.mark.parametrize(
    "step, share", [(0, 1 / 20), (3, 2 / 20), (37, 19 / 20), (38, 1.0)]
)
def test_dkd_rises_over_twenty_epochs_as_published(step, share):
    parts, total = parts_and_total("dkd", step=step, weights={"dkd": 2.0})
    np.testing.assert_allclose(total, parts["ce"] + 2 * share * parts["dkd"], rtol=1e-6)


def test_the_ramps_are_those_of_dkd_and_review():
    assert distillers.WARMUP_EPOCHS == {"dkd": 20, "review": 20}


def test_a_warmup_of_no_epochs_leaves_the_weight_constant():
    parts, total = parts_and_total("dkd", warmup_epochs={"dkd": 0})
    np.testing.assert_allclose(total, parts["ce"] + parts["dkd"], rtol=1e-6)


def test_a_warmup_of_any_part_and_shape():
    parts, total = parts_and_total("kd", warmup_epochs={"kd": 2}, ramp="cosine")
    np.testing.assert_allclose(total, 0.1 * parts["ce"] + 0.45 * parts["kd"], rtol=1e-6)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"warmup_epochs": {"dkdd": 2}}, "unknown part 'dkdd'; did you mean 'dkd'"),
        ({"warmup_epochs": {"dkd": 2}}, "warmup_epochs of dkd would have no effect"),
        ({"warmup_epochs": {"kd": -1}}, "warmup_epochs must be at least 0, got -1"),
        (
            {"warmup_epochs": {"kd": 2}, "weights": {"kd": 0.0}},
            "the part has no weight",
        ),
        (
            {"warmup_epochs": {"kd": 2}, "weights": {"kd": -1.0}},
            "the weight of kd must",
        ),
    ],
)
def test_a_warmup_that_cannot_be_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        distillers.recipe("kd", **given)

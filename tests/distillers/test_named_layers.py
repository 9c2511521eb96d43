"""Methods that read layers by their paths in place of stages and embeddings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers
from jaxkd.distillers import Layers
from jaxkd.models import ModelOutput

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def plain(seed):
    """An output of logits alone, with the layers of a small network."""
    maps = tuple(draw(6, 4, 4, 5, seed=seed + i) for i in range(3))
    layers = {
        **{f"blocks.{i}": (x,) for i, x in enumerate(maps)},
        **{"blocks.*": maps, "pool": (draw(6, 7, seed=seed + 3),)},
        "tokens": (draw(6, 9, 5, seed=seed + 4),),
    }
    logits = draw(6, 3, seed=seed + 5)
    return ModelOutput(logits, jnp.zeros((6, 0)), layers=layers)


STUDENT, TEACHER = plain(0), plain(10)
LABELS = np.arange(6) % 3


def with_stages(output, *, stem=True):
    maps = output.layers["blocks.*"]
    maps = maps[:1] * stem + maps
    return output._replace(
        embedding=output.layers["pool"][0], stages=maps, preactivations=maps
    )


def evaluate(method, student, teacher):
    spec = distillers.Spec(student, teacher, 3, LABELS)
    state = method.init(nnx.Rngs(0), spec)
    batch = distillers.Batch(
        jnp.zeros((6, 1, 1, 1)), jnp.asarray(LABELS), jnp.arange(6), jax.random.key(0)
    )
    loss = method.loss if method.pretraining is None else method.pretraining.loss
    return loss(*state, student, teacher, batch)[0]


NAMED = Layers(("blocks.*",), ("blocks.*",), "pool", "pool")
SETTINGS = {
    "hkd": {"dim": 4, "num_negatives": 3, "neighbors": 2},
    "crd": {"dim": 4, "num_negatives": 3},
}


@pytest.mark.parametrize(
    "method",
    [
        m
        for m in distillers.METHODS
        if m.reads and m.part not in ("simkd", "srrl", "sskd", "hint")
    ],
    ids=lambda m: m.part,
)
def test_a_method_reads_the_layers_as_its_stages(method):
    distiller = method.build(**SETTINGS.get(method.part, {}))
    stem = "stem" not in method.reads
    named = distillers.with_layers(distiller, NAMED, stem=stem)
    given = (with_stages(output, stem=stem) for output in (STUDENT, TEACHER))
    np.testing.assert_allclose(
        evaluate(named, STUDENT, TEACHER), evaluate(distiller, *given), rtol=1e-5
    )


def test_a_recipe_reads_the_layers():
    layers = Layers(("blocks.0", "blocks.2"), ("blocks.1", "blocks.2"))
    method = distillers.recipe("at+kd", layers=layers)
    assert method.layers == distillers.LayerPaths(layers.student, layers.teacher)
    assert evaluate(method, STUDENT, TEACHER).shape == (6,)


def test_hint_compares_the_one_layer_that_is_named():
    method = distillers.recipe("hint", layers=Layers(("blocks.1",), ("blocks.2",)))
    at_layers = distillers.with_layers(
        distillers.hint(stage=2),
        Layers(("blocks.0", "blocks.1"), ("blocks.0", "blocks.2")),
    )
    reference = distillers.weighted(
        ce=(1.0, distillers.cross_entropy()), hint=(100.0, at_layers)
    )
    np.testing.assert_allclose(
        evaluate(method, STUDENT, TEACHER),
        evaluate(reference, STUDENT, TEACHER),
        rtol=1e-5,
    )


def test_hint_needs_a_stage_to_choose_from_several_layers():
    with pytest.raises(ValueError, match="hint compares one layer, but 2 paths"):
        distillers.recipe("hint", layers=Layers(("a", "b"), ("c", "d")))


def test_the_mean_of_a_map_or_sequence_is_an_embedding():
    layers = Layers(student_embedding="tokens", teacher_embedding="blocks.0")
    method = distillers.with_layers(distillers.relational(), layers)
    student, teacher = (
        output._replace(embedding=x.mean(axes))
        for output, x, axes in (
            (STUDENT, STUDENT.layers["tokens"][0], 1),
            (TEACHER, TEACHER.layers["blocks.0"][0], (1, 2)),
        )
    )
    np.testing.assert_allclose(
        evaluate(method, STUDENT, TEACHER),
        evaluate(distillers.relational(), student, teacher),
        rtol=1e-5,
    )


def test_a_sequence_is_a_map_of_one_column():
    method = distillers.with_layers(
        distillers.attention_transfer(), Layers(("tokens",), ("tokens",))
    )
    maps = [x.layers["tokens"][0][:, :, None] for x in (STUDENT, TEACHER)]
    given = (
        output._replace(stages=(x, x))
        for output, x in zip((STUDENT, TEACHER), maps, strict=True)
    )
    np.testing.assert_allclose(
        evaluate(method, STUDENT, TEACHER),
        evaluate(distillers.attention_transfer(), *given),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", ["pkt", "crd+kd", "hkd", "rkd", "cc", "review"])
def test_a_method_of_embeddings_refuses_logits_alone(name):
    maps = (draw(6, 4, 4, 5),) * 3
    output = ModelOutput(draw(6, 3), jnp.zeros((6, 0)), maps, maps)
    with pytest.raises(ValueError, match=r"the student returns logits alone.*Layers\("):
        evaluate(distillers.recipe(name), output, output)


def test_soft_targets_need_no_embedding():
    assert evaluate(distillers.recipe("kd"), STUDENT, TEACHER).shape == (6,)


@pytest.mark.parametrize(
    "layers, says",
    [
        (Layers(("a",), ("b",)), "no part of the recipe .ce, kd. reads stages"),
        (Layers(student_embedding="a"), "reads embedding; methods that do: .*pkt"),
    ],
)
def test_layers_that_no_part_reads_are_refused(layers, says):
    with pytest.raises(ValueError, match=says):
        distillers.recipe("kd", layers=layers)


@pytest.mark.parametrize(
    "layers, error, says",
    [
        (Layers("blocks", ("a",)), TypeError, r"such as \('blocks',\)"),
        (Layers((1,), ("a",)), TypeError, "must be strings, got 1"),
    ],
)
def test_paths_must_be_strings(layers, error, says):
    with pytest.raises(error, match=says):
        distillers.with_layers(distillers.attention_transfer(), layers)


def test_an_embedding_is_one_array():
    layers = Layers(student_embedding="blocks.*", teacher_embedding="pool")
    method = distillers.with_layers(distillers.relational(), layers)
    with pytest.raises(ValueError, match="embedding must be one array"):
        evaluate(method, STUDENT, TEACHER)


def test_a_method_that_changes_the_student_is_refused():
    with pytest.raises(ValueError, match="changes the student's network"):
        distillers.with_layers(distillers.reused_classifier(), NAMED)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_support import LABELS, batch, gradients, spec_of, without_stages
from flax import nnx
from reference import stage_flow as reference

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHAPES = ((4, 4, 2), (4, 4, 3), (2, 2, 4), (2, 2, 4))


def outputs(student=SHAPES, teacher=SHAPES):
    rng = np.random.default_rng(0)

    def output(shapes):
        draw = lambda *shape: jnp.asarray(
            rng.normal(0.3, 1.0, (len(LABELS), *shape)), jnp.float32
        )
        return ModelOutput(draw(3), draw(2), tuple(draw(*shape) for shape in shapes))

    return output(student), output(teacher)


def init(method, both):
    return method.init(nnx.Rngs(0), spec_of(*both))


def expected_parts(definition, student, teacher, first):
    s, t = ([np.float64(x) for x in output.stages] for output in (student, teacher))
    return [
        definition(s[i], s[i + 1], t[i], t[i + 1]) for i in range(first, len(s) - 1)
    ]


def test_the_flow_is_pretrained_on_all_consecutive_stages():
    method, both = distillers.flow_of_solution(), outputs()
    params, extra = init(method, both)
    value, extra, metrics = jax.jit(method.pretraining.loss)(
        params, extra, *both, batch()
    )
    parts = expected_parts(reference.flow_of_solution, *both, first=0)
    np.testing.assert_allclose(value, sum(parts), rtol=1e-4)
    assert metrics.keys() == {"stage0_1", "stage1_2", "stage2_3"}
    np.testing.assert_allclose(metrics["stage2_3"], parts[2].mean(), rtol=1e-4)
    assert (params, extra) == ({}, {})


def test_the_pretraining_of_the_flow_trains_the_student():
    pretraining = distillers.flow_of_solution(pretraining_epochs=7).pretraining
    assert pretraining.epochs == 7
    assert pretraining.trains_student


def test_after_pretraining_the_flow_is_zero():
    method, both = distillers.flow_of_solution(), outputs()
    value, extra, _ = method.loss(*init(method, both), *both, batch())
    np.testing.assert_array_equal(value, np.zeros(len(LABELS)))
    assert value.dtype == jnp.float32
    assert extra == {}


@pytest.mark.parametrize("k", [1, 2])
def test_singular_values_are_compared_without_the_stem(k):
    method, both = distillers.singular_value(k=k), outputs()
    params, extra = init(method, both)
    value, extra, metrics = jax.jit(method.loss)(params, extra, *both, batch())
    definition = functools.partial(reference.singular_value, k=k)
    parts = expected_parts(definition, *both, first=1)
    np.testing.assert_allclose(value, sum(parts), rtol=1e-4)
    assert metrics.keys() == {"stage1_2", "stage2_3"}
    np.testing.assert_allclose(metrics["stage1_2"], parts[0].mean(), rtol=1e-4)
    assert (params, extra) == ({}, {})


@pytest.mark.parametrize(
    "name, first", [("flow_of_solution", 0), ("singular_value", 1)]
)
def test_every_stage_of_the_student_learns_and_the_teacher_does_not(name, first):
    method, both = getattr(distillers, name)(), outputs()
    loss = method.pretraining.loss if method.pretraining else method.loss
    _, student, teacher = gradients(loss, *init(method, both), *both)
    for i, gradient in enumerate(student.stages):
        assert np.any(gradient) == (i >= first)
    assert not any(np.any(g) for g in jax.tree.leaves(teacher))


@pytest.mark.parametrize("name", ["flow_of_solution", "singular_value"])
def test_unequal_channels_are_refused(name):
    both = outputs(teacher=(*SHAPES[:3], (2, 2, 6)))
    with pytest.raises(InvalidInputError, match="stage 3 the student has 4 and the te"):
        init(getattr(distillers, name)(), both)


def test_stems_of_other_widths_matter_to_the_flow_alone():
    both = outputs(teacher=((4, 4, 5), *SHAPES[1:]))
    init(distillers.singular_value(), both)
    with pytest.raises(InvalidInputError, match="at stage 0"):
        init(distillers.flow_of_solution(), both)


@pytest.mark.parametrize("name", ["flow_of_solution", "singular_value"])
def test_networks_without_stages_are_refused(name):
    both = map(without_stages, outputs())
    with pytest.raises(InvalidInputError, match=f"{name} compares feature maps"):
        init(getattr(distillers, name)(), both)


def test_singular_values_need_two_stages_beside_the_stem():
    with pytest.raises(InvalidInputError, match="last is 1"):
        init(distillers.singular_value(), outputs(SHAPES[:2], SHAPES[:2]))


def test_more_singular_vectors_than_a_stage_has_are_refused():
    with pytest.raises(InvalidInputError, match="k is 4, but stage 1 of the student"):
        init(distillers.singular_value(k=4), outputs())


def test_settings_out_of_range_are_refused():
    with pytest.raises(InvalidInputError, match="pretraining_epochs must be at least"):
        distillers.flow_of_solution(pretraining_epochs=0)
    with pytest.raises(InvalidInputError, match="k must be at least 1"):
        distillers.singular_value(k=0)

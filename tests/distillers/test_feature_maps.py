import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_support import (
    LABELS,
    SHAPES,
    apply,
    batch,
    gradients,
    outputs,
    run,
    spec_of,
    start,
    without_stages,
)
from flax import nnx
from reference import attention
from reference import feature_maps as reference

from jaxkd import distillers, heads
from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

METHODS = {
    "hint": distillers.hint,
    "attention_transfer": distillers.attention_transfer,
    "neuron_selectivity": distillers.neuron_selectivity,
    "variational_information": distillers.variational_information,
}


assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)


def maps(student, teacher):
    return [
        [np.float64(x) for x in pair]
        for pair in zip(student.stages[1:], teacher.stages[1:], strict=True)
    ]


@pytest.mark.parametrize(
    "name, settings",
    [
        ("attention_transfer", {}),
        ("attention_transfer", {"power": 1}),
        ("neuron_selectivity", {}),
    ],
)
def test_the_sum_over_all_stages_but_the_stem(name, settings):
    method, params, extra = start(METHODS[name](**settings))
    assert (params, extra) == ({}, {})
    student, teacher = outputs()
    value, extra, metrics = run(method.loss, params, extra)
    definition = functools.partial(getattr(attention, name), **settings)
    parts = [definition(s, t) for s, t in maps(student, teacher)]
    np.testing.assert_allclose(value, sum(parts), rtol=1e-4)
    assert extra == {}
    assert metrics.keys() == {"stage1", "stage2"}
    np.testing.assert_allclose(metrics["stage2"], parts[1].mean(), rtol=1e-4)


@pytest.mark.parametrize("stage", [1, 2])
def test_hint_regresses_one_stage_on_the_teachers(stage):
    method, params, extra = start(distillers.hint(stage=stage))
    student, teacher = outputs()
    value, new, metrics = run(method.loss, params, extra)
    shapes = [SHAPES[name][stage] for name in ("student", "teacher")]
    make = lambda rngs: heads.Regressor(*shapes, rngs=rngs)
    mapped, statistics = apply(make, params, extra, student.stages[stage])
    expected = reference.hint(np.float64(mapped), np.float64(teacher.stages[stage]))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert metrics == {}
    jax.tree.map(assert_close, new, statistics)
    assert np.any(new["norm"]["mean"] != extra["norm"]["mean"])


def test_hint_takes_stage_two_by_default():
    values = []
    for settings in ({}, {"stage": 2}):
        method, params, extra = start(distillers.hint(**settings))
        values.append(run(method.loss, params, extra)[0])
    np.testing.assert_array_equal(*values)


def test_variational_information_predicts_every_stage_but_the_stem():
    method, params, extra = start(distillers.variational_information())
    student, teacher = outputs()
    value, extra, metrics = run(method.loss, params, extra)
    assert extra == {}
    parts = []
    for i, (s, t) in enumerate(maps(student, teacher), start=1):
        s, t = reference.matched(s, t)
        first, second, third = (
            np.float64(params[f"stage{i}"]["convs"][k]["kernel"])[0, 0]
            for k in range(3)
        )
        mean = np.maximum(np.maximum(s @ first, 0) @ second, 0) @ third
        scale = np.float64(params[f"stage{i}"]["log_scale"])
        np.testing.assert_allclose(np.logaddexp(0, scale), 5.0, rtol=1e-4)
        parts.append(reference.variational_information(mean, t, scale))
    np.testing.assert_allclose(value, sum(parts), rtol=1e-5)
    np.testing.assert_allclose(metrics["stage1"], parts[0].mean(), rtol=1e-5)


@pytest.mark.parametrize("name", ["hint", "variational_information"])
def test_every_head_is_trained_and_the_teacher_is_not(name):
    method, params, extra = start(METHODS[name]())
    student, teacher = outputs()
    on_params, on_student, on_teacher = gradients(
        method.loss, params, extra, student, teacher
    )
    for path, g in jax.tree_util.tree_leaves_with_path(on_params):
        # What comes before the normalization may add a constant unseen.
        assert np.any(g) or "bias" in jax.tree_util.keystr(path)
    assert any(np.any(g) for g in on_student.stages)
    assert not any(np.any(g) for g in jax.tree.leaves(on_teacher))


@pytest.mark.parametrize("name", ["attention_transfer", "neuron_selectivity"])
def test_the_student_is_trained_at_every_stage_and_the_teacher_is_not(name):
    method, params, extra = start(METHODS[name]())
    student, teacher = outputs()
    _, on_student, on_teacher = gradients(method.loss, params, extra, student, teacher)
    assert [bool(np.any(g)) for g in on_student.stages] == [False, True, True]
    assert not any(np.any(g) for g in jax.tree.leaves(on_teacher))


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_networks_have_float32_losses(name):
    method, params, extra = start(METHODS[name]())
    student, teacher = jax.tree.map(lambda x: x.astype(jnp.bfloat16), outputs())
    shape = jax.eval_shape(method.loss, params, extra, student, teacher, batch())
    assert shape[0].dtype == jnp.float32
    assert shape[0].shape == (len(LABELS),)
    before = jax.tree.map(lambda x: x.dtype, extra)
    assert jax.tree.map(lambda x: x.dtype, shape[1]) == before


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", METHODS)
def test_float64_networks_have_float64_heads_and_losses(name):
    student, teacher = outputs(dtype=np.float64)
    build = lambda key: METHODS[name]().init(nnx.Rngs(key), spec_of(student, teacher))
    state = jax.eval_shape(build, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(state)} <= {np.dtype("float64")}
    method = METHODS[name]()
    shape = jax.eval_shape(method.loss, *state, student, teacher, batch())
    assert {x.dtype for x in jax.tree.leaves(shape)} == {np.dtype("float64")}


@pytest.mark.parametrize("name", METHODS)
def test_networks_that_do_not_fit_are_refused(name):
    student, teacher = outputs()
    init = lambda s, t: METHODS[name]().init(nnx.Rngs(0), spec_of(s, t))
    with pytest.raises(InvalidInputError, match=f"{name} needs a teacher"):
        init(student, None)
    with pytest.raises(InvalidInputError, match="the student's output has 0 stages"):
        init(without_stages(student), teacher)
    flat = teacher._replace(stages=(*teacher.stages[:2], jnp.ones((4, 7, 3))))
    with pytest.raises(InvalidInputError, match="stage 2 of the teacher has the shape"):
        init(student, flat)


def test_networks_with_other_numbers_of_stages_are_refused():
    student, teacher = outputs()
    shorter = teacher._replace(stages=teacher.stages[:2])
    for name in METHODS.keys() - {"hint"}:
        with pytest.raises(InvalidInputError, match="the student has 3 and the teach"):
            METHODS[name]().init(nnx.Rngs(0), spec_of(student, shorter))
    with pytest.raises(InvalidInputError, match="the teacher has the stages 0 to 1"):
        distillers.hint().init(nnx.Rngs(0), spec_of(student, shorter))


def test_hint_refuses_maps_that_no_regressor_fits():
    student, teacher = outputs()
    larger = jnp.ones((4, 20, 20, 5))
    teacher = ModelOutput(*teacher[:2], (*teacher.stages[:2], larger))
    with pytest.raises(InvalidInputError, match="got maps of 2x2 and 20x20"):
        distillers.hint().init(nnx.Rngs(0), spec_of(student, teacher))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: distillers.hint(stage=-1), "stage must be at least 0"),
        (lambda: distillers.attention_transfer(power=0), "power must be at least 1"),
        (
            lambda: distillers.variational_information(initial_variance=0),
            "initial_variance must be positive",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()

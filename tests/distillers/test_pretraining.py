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
from reference import attention, feature_maps

from jaxkd import distillers, heads
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

METHODS = {
    "factor_transfer": distillers.factor_transfer,
    "activation_boundary": distillers.activation_boundary,
}


assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)


def finished(method):
    """The state that training starts with, had the pretraining changed nothing."""
    _, params, extra = start(method)
    return method.pretraining.finish(params, extra)


def trained_leaves(tree):
    """The leaves but the biases, which a normalization after them does not see."""
    return [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if "bias" not in jax.tree_util.keystr(path)
    ]


def is_zero(tree):
    return not any(np.any(leaf) for leaf in jax.tree.leaves(tree))


def test_both_pretrain_for_thirty_epochs_and_only_one_trains_the_student():
    factor, boundary = (make().pretraining for make in METHODS.values())
    assert (factor.epochs, factor.trains_student) == (30, False)
    assert (boundary.epochs, boundary.trains_student) == (30, True)
    assert distillers.factor_transfer(pretraining_epochs=2).pretraining.epochs == 2


@pytest.mark.parametrize(
    "normalize", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_the_paraphraser_learns_to_reconstruct_the_last_stage(normalize):
    method, params, extra = start(
        distillers.factor_transfer(normalize_paraphraser=normalize)
    )
    _, teacher = outputs()
    value, new, metrics = run(method.pretraining.loss, params, extra)
    make = lambda rngs: heads.Paraphraser(5, normalize=normalize, rngs=rngs)
    rebuilt, statistics = apply(
        make, params["paraphraser"], extra["paraphraser"], teacher.stages[2]
    )
    expected = feature_maps.hint(np.float64(rebuilt), np.float64(teacher.stages[2]))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert metrics == {}
    jax.tree.map(assert_close, new["paraphraser"], statistics)
    assert bool(jax.tree.leaves(new["paraphraser"])) == normalize
    jax.tree.map(assert_close, new["translator"], extra["translator"])


def test_pretraining_reaches_the_paraphraser_alone():
    method, params, extra = start(distillers.factor_transfer())
    on_params, on_student, on_teacher = gradients(
        method.pretraining.loss, params, extra, *outputs()
    )
    assert all(np.any(g) for g in jax.tree.leaves(on_params["paraphraser"]))
    assert is_zero((on_params["translator"], on_student, on_teacher))


@pytest.mark.parametrize(
    "settings", [{}, {"normalize_paraphraser": True, "power": 1, "rate": 0.8}]
)
def test_the_translator_follows_the_frozen_paraphraser(settings):
    method = distillers.factor_transfer(**settings)
    params, extra = finished(method)
    normalize = settings.get("normalize_paraphraser", False)
    rate = settings.get("rate", 0.5)
    if normalize:  # statistics unlike those of any batch
        statistics = extra["paraphraser"]["statistics"]
        statistics = jax.tree.map(lambda x: x + 0.5, statistics)
        extra["paraphraser"]["statistics"] = statistics
    student, teacher = outputs()
    value, new, _ = run(method.loss, params, extra)

    def make(rngs):
        module = heads.Paraphraser(5, rate=rate, normalize=normalize, rngs=rngs)
        return nnx.view(module, use_running_average=True) if normalize else module

    frozen = extra["paraphraser"]
    of_teacher, _ = apply(
        make, frozen["params"], frozen["statistics"], teacher.stages[2], "encode"
    )
    of_student, statistics = apply(
        lambda rngs: heads.Translator(4, int(5 * rate), rngs=rngs),
        params["translator"],
        extra["translator"],
        student.stages[2],
    )
    expected = attention.factor_transfer(
        np.float64(of_student),
        np.float64(of_teacher),
        power=settings.get("power", 2),
    )
    np.testing.assert_allclose(value, expected, rtol=1e-3)
    jax.tree.map(assert_close, new["paraphraser"], frozen)
    jax.tree.map(assert_close, new["translator"], statistics)


def test_finishing_moves_the_paraphraser_out_of_what_is_trained():
    method, params, extra = start(
        distillers.factor_transfer(normalize_paraphraser=True)
    )
    state = method.pretraining.finish(params, extra)
    assert state.params == {"translator": params["translator"]}
    assert state.extra["paraphraser"]["params"] is params["paraphraser"]
    assert state.extra["paraphraser"]["statistics"] is extra["paraphraser"]
    assert state.extra["translator"] is extra["translator"]


def test_factor_transfer_trains_translator_and_student():
    method = distillers.factor_transfer()
    params, extra = finished(method)
    on_params, on_student, on_teacher = gradients(
        method.loss, params, extra, *outputs()
    )
    assert all(np.any(g) for g in trained_leaves(on_params))
    assert [bool(np.any(g)) for g in on_student.stages] == [False, False, True]
    assert is_zero(on_teacher)


@pytest.mark.parametrize("margin", [1.0, 0.5])
def test_activation_boundary_halves_the_weight_from_stage_to_stage(margin):
    method, params, extra = start(distillers.activation_boundary(margin=margin))
    student, teacher = outputs()
    value, new, metrics = run(method.pretraining.loss, params, extra)
    parts = []
    for i, weight in ((1, 0.5 * 0.003), (2, 0.003)):
        shapes = SHAPES["student"][i], SHAPES["teacher"][i]
        make = lambda rngs, shapes=shapes: heads.Regressor(
            *shapes, activate=False, rngs=rngs
        )
        name = f"stage{i}"
        mapped, statistics = apply(
            make, params[name], extra[name], student.preactivations[i]
        )
        wanted = np.float64(teacher.preactivations[i])
        parts.append(
            weight
            * feature_maps.activation_boundary(np.float64(mapped), wanted, margin)
        )
        np.testing.assert_allclose(metrics[name], parts[-1].mean(), rtol=1e-4)
        jax.tree.map(assert_close, new[name], statistics)
    np.testing.assert_allclose(value, sum(parts), rtol=1e-4)


def test_its_pretraining_trains_connectors_and_student():
    method, params, extra = start(distillers.activation_boundary())
    on_params, on_student, on_teacher = gradients(
        method.pretraining.loss, params, extra, *outputs()
    )
    assert all(np.any(g) for g in trained_leaves(on_params))
    reached = [bool(np.any(g)) for g in on_student.preactivations]
    assert reached == [False, True, True]
    assert is_zero((on_teacher, on_student.stages, on_student.logits))


def test_activation_boundary_is_over_when_training_starts():
    method = distillers.activation_boundary()
    params, extra = finished(method)
    assert (params, extra) == ({}, {})
    value, extra, metrics = method.loss(params, extra, *outputs(), batch())
    np.testing.assert_array_equal(value, np.zeros(len(LABELS), np.float32))
    assert (extra, metrics) == ({}, {})


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", METHODS)
def test_float64_networks_have_float64_heads_and_losses(name):
    networks = outputs(dtype=np.float64)
    method = METHODS[name]()
    build = lambda key: method.init(nnx.Rngs(key), spec_of(*networks))
    state = jax.eval_shape(build, jax.random.key(0))
    before = jax.eval_shape(method.pretraining.loss, *state, *networks, batch())
    after = jax.eval_shape(
        method.loss, *method.pretraining.finish(*state), *networks, batch()
    )
    leaves = jax.tree.leaves((state, before, after))
    assert {x.dtype for x in leaves} == {np.dtype("float64")}


@pytest.mark.parametrize("name", METHODS)
def test_networks_that_do_not_fit_are_refused(name):
    student, teacher = outputs()
    init = lambda s, t: METHODS[name]().init(nnx.Rngs(0), spec_of(s, t))
    with pytest.raises(InvalidInputError, match=f"{name} needs a teacher"):
        init(student, None)
    with pytest.raises(InvalidInputError, match="the teacher's output has 0"):
        init(student, without_stages(teacher))
    flat = jnp.ones((4, 7, 3))
    with pytest.raises(InvalidInputError, match="stage 0 of the student has the shape"):
        init(student._replace(stages=(flat,) * 2, preactivations=(flat,) * 3), teacher)


@pytest.mark.parametrize("name", METHODS)
def test_training_without_the_pretraining_is_refused(name):
    method, params, extra = start(METHODS[name]())
    with pytest.raises(InvalidInputError, match="has a stage before this one"):
        method.loss(params, extra, *outputs(), batch())


@pytest.mark.parametrize("name", METHODS)
def test_no_epochs_of_pretraining_are_refused(name):
    with pytest.raises(InvalidInputError, match="pretraining_epochs must be at least"):
        METHODS[name](pretraining_epochs=0)


@pytest.mark.parametrize(
    "name, settings",
    [
        ("factor_transfer", {"rate": 0}),
        ("factor_transfer", {"power": 0}),
        ("activation_boundary", {"margin": 0.0}),
    ],
)
def test_bad_settings_are_refused(name, settings):
    with pytest.raises(InvalidInputError, match=f"{next(iter(settings))} must be"):
        METHODS[name](**settings)

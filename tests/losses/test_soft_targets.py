import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from reference import soft_targets as reference
from soft_target_support import TEMPERATURES, evaluate, kl, mask

from jaxkd import losses

LOSSES = [losses.soft_target_kl, losses.logit_matching, losses.mean_gap]


@pytest.fixture
def logits():
    return tuple(np.random.default_rng(0).normal(0, 3, (2, 4, 7)).astype(np.float32))


def total(student, teacher, temperature):
    return kl(temperature)(student, teacher).sum()


QUICK = {"xla_backend_optimization_level": 0}  # slow to compile well
hessians = jax.jit(jax.hessian(total, argnums=(0, 1, 2)), compiler_options=QUICK)


def quick_gradient(fn):
    """The gradient of the sum, of a program that runs once."""
    return jax.jit(jax.grad(lambda x: fn(x).sum()), compiler_options=QUICK)


def at_temperature(student, teacher, temperature):
    return losses.soft_target_kl(student, teacher, temperature=temperature)


# Compiled once for all temperatures.
TRANSFORMED = {
    "eager": at_temperature,
    "jit": lambda *x: evaluate(*x)[0],
    "vmap": jax.jit(jax.vmap(at_temperature, in_axes=(0, 0, None))),
}


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("transform", TRANSFORMED)
def test_kl_matches_its_definition(logits, temperature, transform):
    value = TRANSFORMED[transform](*logits, jnp.float32(temperature))
    expected = reference.soft_target_kl(*logits, temperature)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_matches_its_definition_in_float64(logits, temperature):
    values, _ = evaluate(*(np.float64(x) for x in logits), np.float64(temperature))
    expected = reference.soft_target_kl(*logits, temperature)
    assert values.dtype == jnp.float64
    np.testing.assert_allclose(values, expected, rtol=1e-13)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_matching_and_gap_match_their_definitions(logits, transform):
    np.testing.assert_allclose(
        transform(losses.logit_matching)(*logits),
        reference.logit_matching(*logits),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        transform(losses.mean_gap)(*logits), reference.mean_gap(*logits), rtol=1e-5
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradients_are_closed_forms(logits, temperature):
    # T (q - p) for the student, -p (d - sum p d) for the teacher.
    _, gradients = evaluate(*(np.float64(x) for x in logits), np.float64(temperature))
    expected = reference.soft_target_kl_gradients(*logits, temperature)
    np.testing.assert_allclose(gradients[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(gradients[1], expected[1], atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradients_of_matching_and_gap_are_closed_forms(logits):
    student, teacher = (np.float64(x) for x in logits)
    d, classes = student - teacher, 7
    gradient = quick_gradient(lambda s: losses.logit_matching(s, teacher))(student)
    np.testing.assert_allclose(gradient, d / classes, atol=1e-12)
    gradient = quick_gradient(lambda s: losses.mean_gap(s, teacher))(student)
    expected = np.broadcast_to(d.mean(axis=-1, keepdims=True) / classes, d.shape)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_hessian_is_the_covariance_of_the_students_prediction(logits, temperature):
    student, teacher = (np.float64(x[0]) for x in logits)
    hessian = hessians(student, teacher, np.float64(temperature))[0][0]
    q = np.asarray(jax.nn.softmax(student / temperature))
    np.testing.assert_allclose(hessian, np.diag(q) - np.outer(q, q), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_hessian_at_infinite_temperature_is_the_centering_matrix(logits):
    student, teacher = (np.float64(x[0]) for x in logits)
    hessian = hessians(student, teacher, np.float64(np.inf))[0][0]
    np.testing.assert_allclose(hessian, np.eye(7) / 7 - 1 / 49, atol=1e-15)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_reverse_mode_over_reverse_mode_gives_the_same_second_derivatives(logits):
    arguments = (0, 1, 2)
    reverse = jax.jit(jax.jacrev(jax.grad(total, arguments), arguments))
    for temperature in (4.0, np.inf):
        point = (*(np.float64(x[0]) for x in logits), np.float64(temperature))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13),
            reverse(*point),
            hessians(*point),
        )


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_kl_is_differentiable_twice_in_all_arguments_and_modes(logits, temperature):
    arguments = (*(np.float64(x) for x in logits), np.float64(temperature))
    check_grads(total, arguments, order=2, modes=("fwd", "rev"))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_kl_is_differentiable_twice_at_infinite_temperature_in_all_modes(logits):
    arguments = tuple(np.float64(x) for x in logits)
    check_grads(kl(np.inf), arguments, order=2, modes=("fwd", "rev"))


@pytest.mark.usefixtures("x64")
def test_third_derivative_is_that_of_the_cumulant(logits):
    student, teacher = (np.float64(x[0]) for x in logits)

    @jax.jit
    @jax.grad
    @jax.grad
    @jax.grad
    def third(s):
        return kl(2.0)(student + s * teacher, teacher)

    q = np.asarray(jax.nn.softmax(student / 2.0))
    centered = teacher - q @ teacher
    np.testing.assert_allclose(third(0.0), q @ centered**3 / 2.0, rtol=1e-12)


def test_infinite_temperature_is_matching_without_the_gap(logits):
    value = losses.soft_target_kl(*logits, temperature=np.inf)
    expected = losses.logit_matching(*logits) - losses.mean_gap(*logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_one_trace_serves_every_temperature(logits):
    traces = []

    @jax.jit
    def loss(temperature):
        traces.append(temperature)
        return losses.soft_target_kl(*logits, temperature=temperature)

    for temperature in TEMPERATURES:
        expected = losses.soft_target_kl(*logits, temperature=temperature)
        np.testing.assert_allclose(loss(jnp.float32(temperature)), expected, rtol=1e-6)
    assert len(traces) == 1


def test_temperatures_can_be_mapped_over(logits):
    temperatures = np.float32(TEMPERATURES)
    values = jax.jit(jax.vmap(lambda t: kl(t)(*logits)))(temperatures)
    expected = [kl(t)(*logits) for t in TEMPERATURES]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "temperature", [4, 4.0, np.float64(4), np.array(4), jnp.array(4), jnp.array(4.0)]
)
def test_temperature_may_be_any_real_scalar(logits, temperature):
    value = losses.soft_target_kl(*logits, temperature=temperature)
    np.testing.assert_array_equal(value, losses.soft_target_kl(*logits))


def test_derivative_in_the_temperature_is_zero_at_infinity(logits):
    _, gradients = evaluate(*logits, jnp.float32(np.inf))
    assert gradients[2] == 0.0


def test_learning_the_temperature_alone_works_under_jit(logits):
    fn = quick_gradient(lambda t: losses.soft_target_kl(*logits, temperature=t))
    step = 1e-2
    up, down = (reference.soft_target_kl(*logits, 4 + s).sum() for s in (step, -step))
    np.testing.assert_allclose(fn(4.0), (up - down) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_teacher_is_a_constant_unless_told_otherwise(logits, loss):
    stopped = quick_gradient(lambda t: loss(logits[0], t))(logits[1])
    flowing = quick_gradient(lambda t: loss(logits[0], t, stop_teacher_gradient=False))(
        logits[1]
    )
    assert not np.any(stopped)
    assert np.all(flowing != 0)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_of_equal_logits_is_exactly_zero(logits, temperature):
    results = evaluate(logits[1], logits[1], jnp.float32(temperature))
    assert not any(np.any(x) for x in jax.tree.leaves(results))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_of_one_class_is_zero(temperature):
    value = kl(temperature)(jnp.array([3.0]), jnp.array([-1.0]))
    assert value == 0.0


@pytest.mark.parametrize(
    "dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64]
)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_second_derivatives_with_masked_classes_are_finite(logits, temperature, dtype):
    with jax.enable_x64(dtype is np.float64):
        student, teacher = (mask(x[0]).astype(dtype) for x in logits)
        blocks = hessians(student, teacher, dtype(temperature))
    assert all(np.isfinite(block).all() for block in jax.tree.leaves(blocks))


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e8, np.inf])
def test_one_hot_like_logits_give_finite_values_and_gradients(temperature):
    one_hot = np.where(np.eye(4, 7, dtype=bool), np.float32(1e4), np.float32(-1e4))
    for student, teacher in [
        (one_hot, one_hot),
        (one_hot, one_hot[::-1]),
        (one_hot, np.zeros_like(one_hot)),
        (np.zeros_like(one_hot), one_hot),
    ]:
        results = evaluate(student, teacher, jnp.float32(temperature))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))


@pytest.mark.parametrize("temperature", [0.05, np.inf])
def test_no_step_on_the_way_makes_a_nan(logits, temperature):
    gradients = jax.grad(total, argnums=(0, 1, 2))
    with jax.debug_nans(True):
        gradients(*logits, jnp.float32(temperature))
        gradients(*(mask(x) for x in logits), jnp.float32(temperature))


@pytest.mark.parametrize("loss", [losses.soft_target_kl, losses.logit_matching])
def test_constant_added_to_both_changes_nothing(logits, loss):
    exact = [np.round(x * 64) / 64 for x in logits]  # so that sums are not rounded
    np.testing.assert_allclose(
        loss(exact[0] + 100, exact[1] + 100), loss(*exact), rtol=1e-6
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_constant_added_to_the_student_changes_no_kl(logits, temperature):
    exact = [np.round(x * 64) / 64 for x in logits]
    fn = kl(temperature)
    np.testing.assert_allclose(fn(exact[0] + 100, exact[1]), fn(*exact), rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "batch", [(), pytest.param((1,), marks=pytest.mark.slow), (0,), (2, 2)]
)
def test_leading_axes_are_free(logits, loss, batch):
    student, teacher = (x.reshape(2, 2, 7) for x in logits)
    index = {(): (0, 0), (1,): (0, slice(1)), (0,): (0, slice(0)), (2, 2): ()}[batch]
    value = jax.jit(loss)(student[index], teacher[index])
    assert value.shape == batch
    expected = jax.jit(loss)(student, teacher)[index]
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_bfloat16_is_computed_in_float32(logits, loss):
    low = [jnp.asarray(x, jnp.bfloat16) for x in logits]
    value = loss(*low)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, loss(*(x.astype(jnp.float32) for x in low)))
    gradient = jax.grad(lambda s: loss(s, low[1]).sum())(low[0])
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("loss", LOSSES)
def test_mixed_precision_is_widened(logits, loss):
    student, teacher = jnp.asarray(logits[0], jnp.bfloat16), logits[1]
    expected = loss(student.astype(jnp.float32), teacher)
    np.testing.assert_array_equal(loss(student, teacher), expected)

"""What is special about the zoo's losses of logits."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import divergences as reference
from reference import soft_targets
from zoo import CASES

from jaxkd import losses
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELS = np.array([3, 0, 6, 2], np.int32)
ROWS = {  # a loss of every row for itself
    losses.soft_target_kl: {},
    losses.logit_matching: {},
    losses.mean_gap: {},
    losses.reverse_kl: {},
    losses.jensen_shannon: {"mixture": 0.3},
    losses.skewed_kl: {},
    losses.transformed_teacher_matching: {},
    losses.weighted_transformed_teacher_matching: {},
    losses.decoupled_kl: {},
    losses.normalized_kl: {},
    losses.inter_class_relation: {},
}
RELATIONAL = {losses.intra_class_relation: {}, losses.multi_level: {}}
MASKABLE = ROWS | RELATIONAL
OF_SOFTMAX = [x for x in MASKABLE if x not in (losses.logit_matching, losses.mean_gap)]
LABELED = {losses.decoupled_kl, losses.normalized_kl}
SMALL = [losses.reverse_kl, losses.intra_class_relation]  # quick to compile
SOFTENED = [losses.reverse_kl, losses.jensen_shannon, losses.skewed_kl]


DEFINITIONS = {case.loss: case.definition for case in CASES} | {
    losses.soft_target_kl: functools.partial(
        soft_targets.soft_target_kl, temperature=4.0
    ),
    losses.logit_matching: soft_targets.logit_matching,
    losses.mean_gap: soft_targets.mean_gap,
}


def name(loss):
    return loss.__name__


def with_settings(loss):
    loss_of = functools.partial(loss, **MASKABLE[loss])
    if loss not in LABELED:
        return loss_of
    return lambda s, t, labels=LABELS, **settings: loss_of(s, t, labels, **settings)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(loss, student, teacher, where=None):
    """The sum's value and student gradient, and the values."""

    def total(s):
        values = with_settings(loss)(s, teacher, where=where)
        return values.sum(), values

    return jax.value_and_grad(total, has_aux=True)(student)


@functools.partial(jax.jit, static_argnums=0)
def softened(loss, student, teacher, temperature):
    """The loss at a temperature, compiled once for all of them."""
    return with_settings(loss)(student, teacher, temperature=temperature)


@pytest.fixture
def logits():
    return tuple(np.random.default_rng(0).normal(0, 3, (2, 4, 7)).astype(np.float32))


KEPT = np.array([True, False, *[True] * 6, False])
ROWS_KEPT = np.array([True, False, True, True])


def with_further_classes(logits):
    """The logits, with NaN in two classes that ``KEPT`` masks."""
    return [np.float32(np.insert(x, [1, 7], np.nan, axis=-1)) for x in logits]


def masked(loss, logits, where):
    """Values and gradient, of one program for all masks of a loss."""
    labels = LABELS + (LABELS >= 1)  # they move with the classes
    return _masked(loss, *logits, labels, np.broadcast_to(where, (4, 9)))


@functools.partial(jax.jit, static_argnums=0)
def _masked(loss, student, teacher, labels, where):
    extra = (labels,) if loss in LABELED else ()

    def total(s):
        values = loss(s, teacher, *extra, **MASKABLE[loss], where=where)
        return values.sum(), values

    gradient, values = jax.grad(total, has_aux=True)(student)
    return values, gradient


def definition(loss, **settings):
    """The loss in NumPy, of logits and, where it has them, the labels."""
    formula = DEFINITIONS[loss]
    extra = (LABELS,) if loss in LABELED else ()
    return lambda s, t: formula(s, t, *extra, **MASKABLE[loss], **settings)


@pytest.mark.parametrize("loss", OF_SOFTMAX, ids=name)
def test_the_gradient_of_a_loss_of_softmax_sums_to_zero(logits, loss):
    _, gradient = masked(loss, with_further_classes(logits), KEPT)
    total = np.abs(gradient).sum(axis=-1)
    assert np.all(total > 0)
    assert np.all(np.abs(gradient.sum(axis=-1)) < 1e-5 * total.max())


@pytest.mark.parametrize("loss", MASKABLE, ids=name)
def test_a_masked_row_has_no_loss_and_no_gradient_and_hides_nan(logits, loss):
    rows = ROWS_KEPT
    logits = with_further_classes(logits)
    padded = [np.where(rows[:, None], x, np.nan) for x in logits]
    values, gradient = masked(loss, padded, KEPT & rows[:, None])
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], np.zeros(9))
    if loss is losses.intra_class_relation:
        values = values[KEPT]
    else:
        assert values[1] == 0.0
        values = values[rows]
    if loss in ROWS:
        expected, _ = masked(loss, logits, KEPT)
        expected = expected[rows]
    else:
        expected = definition(loss)(*(x[rows][:, KEPT] for x in logits))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", MASKABLE, ids=name)
def test_masking_classes_is_dropping_them_and_hides_nan(logits, loss):
    expected = definition(loss)(*logits)
    values, gradient = masked(loss, with_further_classes(logits), KEPT)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, ~KEPT], 0.0)
    if loss is losses.intra_class_relation:
        np.testing.assert_array_equal(values[~KEPT], 0.0)
        values = values[KEPT]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


# Without a mask, and with one that is broadcast, a loss is a program of its own.
small = pytest.mark.parametrize(
    "loss",
    [
        pytest.param(loss, marks=() if loss in SMALL else pytest.mark.slow)
        for loss in MASKABLE
    ],
    ids=name,
)


@small
def test_masking_classes_leaves_value_and_gradient_of_the_others(logits, loss):
    (_, expected), expected_gradient = value_and_gradient(loss, *logits)
    values, gradient = masked(loss, with_further_classes(logits), KEPT)
    np.testing.assert_allclose(
        gradient[:, KEPT], expected_gradient, rtol=1e-4, atol=1e-5
    )
    if loss is losses.intra_class_relation:
        values = values[KEPT]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@small
def test_a_mask_of_rows_or_of_classes_is_broadcast(logits, loss):
    for where in (ROWS_KEPT[:, None], KEPT[:7]):
        got = value_and_gradient(loss, *logits, where)
        full = np.broadcast_to(where, (4, 7))
        expected = value_and_gradient(loss, *logits, full)
        for one, other in zip(
            jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", MASKABLE, ids=name)
def test_a_mask_of_another_shape_or_type_is_refused(logits, loss):
    fn = with_settings(loss)
    with pytest.raises(InvalidInputError, match=r"where must .* \(3, 1\) and \(4, 7\)"):
        fn(*logits, where=np.ones((3, 1), bool))


def test_a_mask_of_numbers_is_refused():
    unchecked = inspect.unwrap(losses.reverse_kl)
    with pytest.raises(TypeError, match="where must be boolean"):
        unchecked(np.ones((2, 3)), np.ones((2, 3)), where=np.ones((2, 3)))


@pytest.mark.parametrize("temperature", [100.0, 1e4, 1e8])
@pytest.mark.parametrize("loss", SOFTENED, ids=name)
def test_a_high_temperature_costs_no_digits(logits, loss, temperature):
    variance = np.var(np.float64(logits[0]) - np.float64(logits[1]), axis=-1)
    share = {"reverse_kl": 1.0, "jensen_shannon": 0.3 * 0.7, "skewed_kl": 0.9**2}
    limit = 0.5 * share[loss.__name__] * variance
    value = softened(loss, *logits, temperature)
    np.testing.assert_allclose(value, limit, rtol=10 / temperature + 1e-5)
    if temperature == 100.0:
        expected = getattr(reference, loss.__name__)(
            *logits, **MASKABLE[loss], temperature=temperature
        )
        np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", SOFTENED, ids=name)
def test_an_infinite_temperature_gives_the_limit(logits, loss):
    value = softened(loss, *logits, np.inf)
    near = softened(loss, *logits, 1e8)
    np.testing.assert_allclose(value, near, rtol=1e-5)


def test_without_skew_it_is_the_divergence_of_soft_targets(logits):
    without = functools.partial(losses.skewed_kl, skew=0.0, temperature=2.0)
    expected = definition(losses.soft_target_kl, temperature=2.0)(*logits)
    np.testing.assert_allclose(jax.jit(without)(*logits), expected, rtol=1e-5)


def test_jensen_shannon_is_bounded_where_one_network_excludes_a_class(logits):
    student, teacher = (np.array(x) for x in logits)
    student[:, 1] = -np.inf
    teacher[:, 4] = -np.inf
    excluding = with_further_classes([student, teacher])
    values, gradient = masked(losses.jensen_shannon, excluding, KEPT)
    assert np.all((values > 0) & (values < np.log(2)))
    assert np.isfinite(gradient).all()


def test_soft_targets_are_the_decoupled_parts_weighted_by_the_teacher(logits):
    p = np.asarray(jax.nn.softmax(logits[1] / 4.0))[np.arange(4), LABELS]
    # Compiled once for both weightings.
    part = jax.jit(
        lambda target, rest: losses.decoupled_kl(
            *logits, LABELS, target_weight=target, non_target_weight=rest
        )
    )
    target, rest = part(1.0, 0.0), part(0.0, 1.0)
    expected = losses.soft_target_kl(logits[0], logits[1])
    np.testing.assert_allclose(target + (1 - p) * rest, expected, rtol=1e-5)


def test_a_sure_teacher_leaves_the_decoupled_rest_its_digits():
    # 1 - p is 0 in float32, what remains of the other classes is not.
    student = np.array([[40.0, 0.0, 1.0]], np.float32)
    teacher = np.array([[40.0, 1.0, 0.0]], np.float32)
    value = losses.decoupled_kl(
        student, teacher, np.zeros(1, np.int32), temperature=1.0
    )
    np.testing.assert_allclose(value, [8 * np.tanh(0.5)], rtol=1e-6)


@pytest.mark.parametrize("loss", sorted(LABELED, key=name), ids=name)
def test_labels_must_be_integers_one_for_each_row(logits, loss):
    with pytest.raises(
        InvalidInputError, match="labels must have the shape of the logits"
    ):
        inspect.unwrap(loss)(*logits, LABELS[:3])
    with pytest.raises(TypeError, match="labels must be integers"):
        inspect.unwrap(loss)(*logits, np.ones(4))


def test_a_column_that_is_constant_up_to_rounding_has_no_gradient():
    rows = np.tile(np.array([[0.1, 0.7, -0.4]], np.float32), (7, 1))
    (_, values), gradient = value_and_gradient(losses.intra_class_relation, rows, -rows)
    np.testing.assert_array_equal(values, np.zeros(3))
    np.testing.assert_array_equal(gradient, np.zeros((7, 3)))


def test_relations_refuse_further_axes(logits):
    three = [x[None] for x in logits]
    for loss in RELATIONAL:
        with pytest.raises(InvalidInputError, match=r"must be \[batch, classes\]"):
            inspect.unwrap(loss)(*three)


@pytest.mark.parametrize("mixture", [0.0, 1.0, -0.1, float("nan")])
def test_a_mixture_of_one_side_alone_is_refused(logits, mixture):
    with pytest.raises(InvalidInputError, match="mixture must lie"):
        losses.jensen_shannon(*logits, mixture=mixture)


def test_standardized_logits_have_mean_zero_and_deviation_one(logits):
    x = losses.standardize_logits(logits[0])
    np.testing.assert_allclose(x.mean(-1), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(x.std(-1), np.ones(4), rtol=1e-6)
    expected = (logits[0] - logits[0].mean(-1, keepdims=True)) / logits[0].std(
        -1, keepdims=True
    )
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_standardizing_equal_logits_gives_zero_and_no_gradient():
    total = lambda x: jnp.sum(losses.standardize_logits(x) * jnp.arange(7.0)[None])
    x = np.full((2, 7), 0.1, np.float32)
    np.testing.assert_array_equal(losses.standardize_logits(x), np.zeros((2, 7)))
    gradient = jax.jit(jax.grad(total))(x)
    np.testing.assert_array_equal(gradient, np.zeros((2, 7)))


def test_standardizing_leaves_masked_classes_out(logits):
    where = np.array([True] * 5 + [False] * 2)
    masked = np.where(where, logits[0], np.nan)
    x = losses.standardize_logits(masked, where=where)
    expected = losses.standardize_logits(logits[0][:, :5])
    np.testing.assert_allclose(x[:, :5], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x[:, 5:], np.zeros((4, 2)))

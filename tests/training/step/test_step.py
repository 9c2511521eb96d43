import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, make_dataset
from training_support import NormalizedMLP, banked

from jaxkd import data, distillers, training
from jaxkd._errors import InvalidInputError


@pytest.fixture(scope="module")
def parts():
    """A student, a teacher, a batch and the published SGD on a small problem."""
    dataset = make_dataset()
    student = NormalizedMLP(nnx.Rngs(0))
    teacher = training.freeze(
        NormalizedMLP(nnx.Rngs(1)), data.channel_statistics(dataset.train.images)
    )
    images, labels = dataset.train.images[:12], dataset.train.labels[:12]
    examples = training.Examples(
        jnp.asarray(images), jnp.asarray(labels), jnp.arange(12)
    )
    output = jax.eval_shape(teacher.apply, teacher.variables, examples.images)
    spec = distillers.Spec(output, output, 4, dataset.train.labels)
    return student, teacher, examples, spec


def make(parts, distiller, optimizer):
    student, teacher, examples, spec = parts
    step = training.make_train_step(
        nnx.graphdef(student),
        distiller,
        optimizer,
        teacher=teacher,
        normalization=data.channel_statistics(np.asarray(examples.images)),
    )
    state = training.init_train_state(
        student, distiller, spec, optimizer, key=jax.random.key(0)
    )
    return jax.jit(step), state


@pytest.fixture(scope="module")
def stepped(parts):
    """The states before and after one step of KD with SGD, and the step's metrics."""
    _, teacher, examples, _ = parts
    step, state = make(parts, distillers.recipe("kd"), optax.sgd(0.1))
    after, metrics = step(state, teacher.variables, examples)
    return state, after, metrics


@pytest.fixture(scope="module")
def stepped_banked():
    """The states before and after one step with a bank, and the rows of its batch."""
    program, _ = banked()
    loop = program.start(0)
    before, order = jax.tree.map(jnp.copy, loop.train), program.order(loop)
    after, _ = program.training.advance(loop, order)
    return before, after.train, np.asarray(order)[:16]


def test_one_step_of_sgd_follows_the_gradient_of_the_mean_loss(parts, stepped):
    student, teacher, examples, _ = parts
    state, after, metrics = stepped
    normalization = data.channel_statistics(np.asarray(examples.images))

    def by_hand(params):
        graphdef, _, rest = nnx.split(student, nnx.Param, ...)
        network = nnx.merge(graphdef, params, rest, copy=True)
        z = network(data.normalize(examples.images, normalization)).logits
        v = teacher.apply(teacher.variables, examples.images).logits
        p, q = jax.nn.softmax(v / 4), jax.nn.softmax(z / 4)
        ce = -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(12), examples.labels])
        return 0.1 * ce + 0.9 * 16 * jnp.mean(jnp.sum(p * jnp.log(p / q), -1))

    loss, grads = jax.jit(jax.value_and_grad(by_hand))(state.student)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in arrays(grads)]))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.student, grads)
    for a, b in zip(arrays(after.student), arrays(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_heads_are_trained_by_the_same_optimizer(stepped_banked):
    state, after, _ = stepped_banked
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(arrays(state.heads), arrays(after.heads), strict=True)
    ]
    assert moved
    assert all(moved)


def test_the_bank_of_the_batchs_rows_alone_is_updated(stepped_banked):
    state, after, rows = stepped_banked
    banks = (arrays(each.extra["bank"]) for each in (state, after))
    for before, now in zip(*banks, strict=True):
        changed = np.any(before != now, axis=-1)
        np.testing.assert_array_equal(np.flatnonzero(changed), np.sort(rows))


def test_batch_statistics_of_the_student_move(stepped):
    before, after, _ = stepped
    assert all(
        np.any(a != b)
        for a, b in zip(arrays(before.rest), arrays(after.rest), strict=True)
    )


def test_teacher_sees_its_own_normalization_and_running_statistics(parts):
    _, teacher, examples, _ = parts
    whole = teacher.apply(teacher.variables, examples.images).logits
    alone = teacher.apply(teacher.variables, examples.images[:1]).logits
    np.testing.assert_allclose(whole[:1], alone, rtol=1e-5)


def test_the_same_state_gives_the_same_step_and_the_next_step_draws_anew(parts):
    _, teacher, examples, _ = parts
    drawn = distillers.Distiller(
        init=lambda rngs, spec: distillers.DistillerState({}, {}),
        loss=lambda params, extra, student, teacher, batch: (
            student.logits.sum(-1),
            extra,
            {"draw": jax.random.uniform(batch.key)},
        ),
    )
    step, state = make(parts, drawn, optax.sgd(0.0))
    after, first = step(state, teacher.variables, examples)
    _, again = step(state, teacher.variables, examples)
    _, second = step(after, teacher.variables, examples)
    assert float(first["draw"]) == float(again["draw"])
    assert float(first["draw"]) != float(second["draw"])


def test_a_function_can_be_the_teacher(parts):
    _, _, examples, _ = parts

    def function(images):
        flat = images.reshape(len(images), -1)
        return flat[:, :4], flat[:, :7]

    normalization = data.Normalization(np.float32([0.5]), np.float32([0.25]))
    teacher = training.freeze(function, normalization)
    output = teacher.apply(teacher.variables, examples.images)
    flat = (np.asarray(examples.images) / 255 - 0.5) / 0.25
    expected = flat.reshape(12, -1)[:, :4]
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5)


def test_initial_state_shares_no_buffer_with_the_network_given(parts):
    student, _, _, spec = parts
    state = training.init_train_state(
        student, distillers.cross_entropy(), spec, optax.sgd(0.1), key=jax.random.key(0)
    )
    jax.tree.map(lambda x: x.delete(), (state.student, state.rest))
    assert not any(x.is_deleted() for x in jax.tree.leaves(nnx.state(student)))


@pytest.mark.parametrize("name", ["loss", "accuracy", "grad_norm", "learning_rate"])
def test_a_metric_with_the_name_of_the_steps_own_is_refused(parts, name):
    _, teacher, examples, _ = parts
    plain = distillers.cross_entropy()
    loss = lambda *given: (*plain.loss(*given)[:2], {name: jnp.float32(1.0)})
    step, state = make(parts, plain._replace(loss=loss), optax.sgd(0.1))
    with pytest.raises(InvalidInputError, match=f"metric named '{name}'") as caught:
        jax.eval_shape(step, state, teacher.variables, examples)
    assert caught.value.argument == "distiller"

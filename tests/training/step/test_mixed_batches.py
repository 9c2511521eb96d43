"""What the networks and the methods see of a mixed batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import build_mlp, make_dataset

from jaxkd import data, distillers, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DATASET = make_dataset()
EXAMPLES = training.Examples(
    jnp.asarray(DATASET.train.images[:12]),
    jnp.asarray(DATASET.train.labels[:12]),
    jnp.arange(12),
)
NORMALIZATION = data.channel_statistics(DATASET.train.images)


def report(params, extra, student, teacher, batch):
    seen = {
        "images": batch.images,
        "mixed": batch.mixed,
        "labels": batch.labels,
        "rows": batch.rows,
        "student": student.logits,
        "teacher": teacher.logits,
    }
    return student.logits.sum(-1), extra, seen


def stepped(distiller, augmentation):
    student, teacher = build_mlp()(nnx.Rngs(0)), build_mlp()(nnx.Rngs(1))
    frozen = training.freeze(teacher, NORMALIZATION)
    step = training.make_train_step(
        nnx.graphdef(student),
        distiller,
        optax.sgd(0.1),
        teacher=frozen,
        normalization=NORMALIZATION,
        augmentation=augmentation,
    )
    output = nnx.eval_shape(lambda m, x: m(x), student, jnp.zeros((12, 8, 8, 1)))
    spec = distillers.Spec(output, output, 4, DATASET.train.labels)
    state = training.init_train_state(
        student, distiller, spec, optax.sgd(0.1), key=jax.random.key(0)
    )
    return jax.jit(step)(state, frozen.variables, EXAMPLES)[1]


@pytest.fixture(scope="module")
def seen():
    init = lambda rngs, spec: distillers.DistillerState({}, {})
    distiller = distillers.Distiller(init, report)
    return stepped(distiller, data.Augmentation(1, True, cutmix=1.0))


def test_teacher_and_student_see_the_same_mixed_images(seen):
    assert np.any(seen["images"] != EXAMPLES.images)
    inputs = data.normalize(seen["images"], NORMALIZATION)
    for name, seed in (("student", 0), ("teacher", 1)):
        logits = build_mlp()(nnx.Rngs(seed))(inputs).logits
        np.testing.assert_allclose(seen[name], logits, rtol=1e-4, atol=1e-5)


def test_labels_and_rows_are_those_of_the_dominant_image(seen):
    np.testing.assert_array_equal(seen["labels"], EXAMPLES.labels)
    np.testing.assert_array_equal(seen["rows"], EXAMPLES.rows)
    assert seen["mixed"].share <= 0.5


def test_cross_entropy_is_with_both_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(12, 4)).astype(np.float32)
    partner, share = rng.integers(0, 4, 12), np.float32(0.3)
    batch = distillers.Batch(
        *EXAMPLES, jax.random.key(0), mixed=data.Mixed(jnp.asarray(partner), share)
    )
    from jaxkd.models import ModelOutput

    output = ModelOutput(jnp.asarray(logits), jnp.zeros((12, 2)))
    loss, _, _ = distillers.cross_entropy().loss({}, {}, output, None, batch)
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = 0.7 * np.eye(4)[np.asarray(EXAMPLES.labels)] + 0.3 * np.eye(4)[partner]
    np.testing.assert_allclose(loss, -(target * log_q).sum(-1), rtol=1e-5)


def test_nothing_is_mixed_unless_asked():
    init = lambda rngs, spec: distillers.DistillerState({}, {})
    distiller = distillers.Distiller(init, report)
    assert stepped(distiller, data.Augmentation(1, True))["mixed"] is None

"""A distiller as a Flax module, and the specification of live networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import build_mlp, build_resnet, make_dataset

from jaxkd import distillers, losses, models, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")

HKD = {"hkd": {"dim": 4, "num_negatives": 5, "neighbors": 2}}


class Plain(nnx.Module):
    """Returns logits, and has batch statistics and dropout."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, images, train=False):
        x = self.norm(self.hidden(images.reshape(len(images), -1)))
        return self.head(self.dropout(nnx.relu(x), deterministic=not train))


@pytest.fixture(scope="module")
def split():
    train = make_dataset().train
    return jnp.asarray(train.images, jnp.float32) / 255, jnp.asarray(train.labels)


@pytest.fixture
def networks():
    return Plain(nnx.Rngs(0)), build_mlp()(nnx.Rngs(1))


def test_a_spec_describes_both_networks_and_changes_neither(split, networks):
    images, labels = split
    before = jax.tree.map(jnp.copy, nnx.state(networks[0], nnx.BatchStat))
    spec = distillers.spec(*networks, images[:8], labels)
    assert spec.student.logits.shape == spec.teacher.logits.shape == (8, 4)
    assert spec.student.embedding.shape == (8, 0)
    assert spec.num_classes == 4
    assert spec.classifier is not None
    after = nnx.state(networks[0], nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"num_classes": 5}, "the student has 4 logits, but num_classes is 5"),
        ({"labels": [0, 4]}, "labels must be class numbers below 4, .* got 0 to 4"),
        ({"student": lambda x: x}, "student must be a Flax NNX module, got function"),
        ({"teacher": lambda x: (x, x)}, "must return logits or .* tuple of length 2"),
    ],
)
def test_what_a_spec_cannot_describe_is_refused(
    split, networks, changes, says, unchecked
):
    arguments = dict(zip(("student", "teacher"), networks, strict=True))
    arguments |= {"images": split[0][:8], "labels": split[1]} | changes
    with pytest.raises((ValueError, TypeError), match=says):
        distillers.spec(**arguments)


def test_the_loss_and_its_gradient_are_those_of_the_distiller(split, networks):
    student, teacher = networks
    images, labels = split
    distiller = distillers.recipe("kd")
    spec = distillers.spec(student, teacher, images, labels)
    objective = distillers.Objective(distiller, spec, rngs=nnx.Rngs(0))
    fixed = training.inference_view(student)

    def by_hand(student):
        s, t = student(images), teacher(images).logits
        kd = losses.soft_target_kl(s, t, temperature=4.0)
        labeled = optax.softmax_cross_entropy_with_integer_labels(s, labels)
        weights = distillers.RECIPES["kd"]
        return jnp.mean(weights["ce"] * labeled + weights["kd"] * kd)

    def by_objective(student, objective):
        return objective(student, teacher, images, labels)[0]

    # The flag of the call is set in training; without dropout it makes no difference.
    fixed.dropout.rate = 0.0
    expected, gradient = nnx.value_and_grad(by_hand)(fixed)
    value, found = nnx.value_and_grad(by_objective)(fixed, objective)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        gradient,
        found,
    )


def test_banks_and_heads_are_updated_by_one_optimizer(split):
    images, labels = split
    student, teacher = build_resnet()(nnx.Rngs(0)), build_resnet()(nnx.Rngs(1))
    spec = distillers.spec(student, teacher, images[:8], labels)
    distiller = distillers.recipe("hkd+kd", settings=HKD)
    learner = nnx.Dict(
        student=student,
        objective=distillers.Objective(distiller, spec, rngs=nnx.Rngs(2)),
    )
    optimizer = nnx.Optimizer(learner, optax.sgd(0.01), wrt=nnx.Param)
    frozen = training.freeze_teacher(teacher)
    before = jax.tree.map(jnp.copy, nnx.state(learner.objective))

    @nnx.jit
    def step(learner, optimizer, images, labels, rows):
        def loss(learner):
            return learner.objective(learner.student, frozen, images, labels, rows)

        (value, metrics), grads = nnx.value_and_grad(loss, has_aux=True)(learner)
        optimizer.update(learner, grads)
        return value, metrics

    for i in range(3):
        rows = jnp.arange(8) + 8 * i
        value, metrics = step(learner, optimizer, images[rows], labels[rows], rows)
    assert np.isfinite(value)
    assert metrics["hkd"].shape == ()
    assert learner.objective.step[...] == 3
    after = nnx.state(learner.objective)
    heads = jax.tree.map(
        lambda a, b: bool((a != b).any()), before["heads"], after["heads"]
    )
    assert all(jax.tree.leaves(heads))
    moved = np.any(
        np.asarray(jax.tree.leaves(before["extra"])[0])
        != np.asarray(jax.tree.leaves(after["extra"])[0]),
        axis=-1,
    )
    assert set(np.flatnonzero(moved)) == set(range(24))


def test_a_bank_needs_row_numbers(split, networks):
    images, labels = split
    student, teacher = build_mlp()(nnx.Rngs(0)), networks[1]
    spec = distillers.spec(student, teacher, images, labels)
    distiller = distillers.recipe("hkd", settings=HKD)
    objective = distillers.Objective(distiller, spec, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"batch\.rows is None.* memory bank"):
        objective(student, teacher, images, labels)


@pytest.mark.parametrize(
    "name, says",
    [
        ("fsp", "has a stage of pretraining"),
        ("simkd", "changes the student's network"),
    ],
)
def test_methods_of_more_than_a_repeated_step_are_refused(split, name, says):
    network = build_resnet()(nnx.Rngs(0))
    spec = distillers.spec(network, network, *split)
    for build in (
        lambda d: distillers.Objective(d, spec, rngs=nnx.Rngs(0)),
        lambda d: training.make_step(network, network, d, optax.sgd(0.1)),
    ):
        with pytest.raises(ValueError, match=f"distiller {says}"):
            build(distillers.recipe(name))


def test_layers_of_both_networks_are_recorded(split, networks):
    student, teacher = networks
    images, labels = split
    distiller = distillers.at_layers(
        {("hidden", "layers.0"): losses.hint}, project="linear"
    )
    spec = distillers.spec(student, teacher, images, labels, distiller=distiller)
    objective = distillers.Objective(distiller, spec, rngs=nnx.Rngs(0))
    value, metrics = objective(student, teacher, images, labels)
    weights = {k: np.asarray(v[...]) for k, v in objective.heads["hidden"].items()}
    hidden = np.asarray(student.hidden(images.reshape(len(images), -1)))
    projected = hidden @ weights["kernel"] + weights["bias"]
    expected = losses.hint(
        projected, models.output_of(teacher, images, ["layers.0"]).layers["layers.0"][0]
    )
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    assert metrics.keys() == {"hidden"}

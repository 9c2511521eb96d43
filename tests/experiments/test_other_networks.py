"""Networks of other packages, unchanged, as students and teachers."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import other_networks
from jaxkd import data, distillers, models, training


def digits(rows):
    return data.take_subset(data.load("digits"), rows, seed=0)


def test_an_equinox_network_teaches_as_a_function():
    pytest.importorskip("equimo")
    dataset = digits(64)
    function = other_networks.equimo_function(dataset, epochs=0)
    normalization = data.channel_statistics(dataset.train.images)
    teacher = training.freeze_teacher(function, normalization)
    image = data.normalize(dataset.train.images[:1], normalization)
    np.testing.assert_allclose(
        teacher(dataset.train.images[:1]).logits, function(image).logits, rtol=1e-4
    )
    pairs = {("layers.0", "tokens"): lambda s, t: (s.mean(-1) - t.mean((1, 2))) ** 2}
    distiller = distillers.weighted(
        kd=(1.0, distillers.soft_targets()), tokens=(1.0, distillers.at_layers(pairs))
    )
    step = training.make_step(
        models.MLP(64, (8,), num_classes=10, rngs=nnx.Rngs(0)),
        teacher,
        distiller,
        optax.adam(0.01),
    )
    batch = dataset.train.images[:32], dataset.train.labels[:32]
    state = step.init(*batch)
    first, last = [], []
    for _ in range(10):
        state, metrics = step(state, batch)
        (last if first else first).append(float(metrics["loss"]))
    assert last[-1] < first[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(other_networks.METHODS))
def test_a_jimm_transformer_learns_from_another(name):
    pytest.importorskip("jimm")
    with other_networks.mesh():
        teacher = other_networks.jimm_transformer(16, 2)(nnx.Rngs(1))
        state = jax.tree.map(np.asarray, nnx.state(teacher))
        student, before, after = other_networks.run(
            other_networks.jimm_transformer(16, 2),
            other_networks.METHODS[name](),
            None if name == "without a teacher" else teacher,
            data.load("digits"),
            epochs=1,
        )
    assert type(student).__module__.startswith("jimm.")
    assert 0 <= before <= 1
    assert 0 <= after <= 1
    jax.tree.map(np.testing.assert_array_equal, state, nnx.state(teacher))

"""Distill networks of packages that know nothing of jaxkd, unchanged.

    python -m experiments.other_networks

jimm (`jax-image-models`) is written in Flax NNX and runs its blocks by `nnx.scan`;
equimo in Equinox. A jimm vision transformer learns the handwritten digits, and teaches
a smaller one by soft targets, by a layer of tokens, and by holistic distillation. An
equimo network joins as a function that answers for images. The script prints the test
accuracy of each student before and after training, beside one without a teacher.

jimm needs tokamax, which pins an old typeguard that tyro refuses. Install both aside:

    pip install --target others --no-deps jax-image-models==0.4.0 tokamax==0.0.12 \
        typeguard==2.13.3 einshape qwix pydantic pydantic_core==2.50.5 \
        annotated-types typing-inspection
    pip install equimo
    PYTHONPATH=others python -m experiments.other_networks
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AxisType

from jaxkd import data, distillers, losses, models, training

SIZE, PATCH, BATCH = 8, 2, 64

Answer = Callable[[jax.Array], models.ModelOutput]


def mesh():
    """Return the context in which jimm builds and calls its networks: one device."""
    axes = (AxisType.Auto,) * 2
    return jax.set_mesh(jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=axes))


def jimm_transformer(width: int, depth: int) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return a builder of a jimm vision transformer for the digits."""
    import jimm

    return lambda rngs: jimm.VisionTransformer(
        num_classes=10,
        in_channels=1,
        img_size=SIZE,
        patch_size=PATCH,
        num_layers=depth,
        num_heads=2,
        mlp_dim=2 * width,
        hidden_size=width,
        dropout_rate=0.0,
        rngs=rngs,
    )


def equimo_function(dataset: data.ImageDataset, epochs: int) -> Answer:
    """Train an equimo vision transformer with Equinox; return it as a function."""
    import equimo.models
    import equinox

    network = equimo.models.VisionTransformer(
        img_size=SIZE,
        in_channels=1,
        dim=32,
        patch_size=PATCH,
        num_heads=[2],
        depths=[2],
        num_classes=10,
        key=jax.random.key(0),
    )
    normalization = data.channel_statistics(dataset.train.images)
    optimizer = optax.adam(2e-3)
    state = optimizer.init(equinox.filter(network, equinox.is_array))

    def answer(network, images, inference=True):
        images = jnp.moveaxis(images, -1, 1)
        call = lambda each: network(each, jax.random.key(0), inference=inference)
        features = lambda each: network.features(
            each, jax.random.key(0), inference=inference
        )
        tokens = jax.vmap(features)(images)
        return models.ModelOutput(
            jax.vmap(call)(images), tokens.mean(1), layers={"tokens": tokens}
        )

    @equinox.filter_jit
    def step(network, state, images, labels):
        def loss(network):
            logits = answer(network, images, inference=False).logits
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean()

        grads = equinox.filter_grad(loss)(network)
        updates, state = optimizer.update(grads, state)
        return equinox.apply_updates(network, updates), state

    images = data.normalize(jnp.asarray(dataset.train.images), normalization)
    labels = jnp.asarray(dataset.train.labels)
    for epoch in range(epochs):
        order = jax.random.permutation(jax.random.key(epoch), len(labels))
        for first in range(0, len(labels) - BATCH + 1, BATCH):
            rows = order[first : first + BATCH]
            network, state = step(network, state, images[rows], labels[rows])
    return lambda images: answer(network, images)


METHODS = {
    "without a teacher": lambda: distillers.cross_entropy(),
    "kd": lambda: distillers.recipe("kd"),
    "tokens by a linear layer": lambda: distillers.weighted(
        ce=(1.0, distillers.cross_entropy()),
        kd=(1.0, distillers.soft_targets(temperature=4.0)),
        hint=(
            1.0,
            distillers.at_layers(
                {("encoder.ln_post", "encoder.ln_post"): losses.hint}, project="linear"
            ),
        ),
    ),
    "hkd+kd": lambda: distillers.recipe(
        "hkd+kd",
        weights={"hkd": 0.3},
        settings={"hkd": {"num_negatives": 256}},
        layers=distillers.Layers(
            student_embedding="encoder", teacher_embedding="encoder"
        ),
    ),
}
"""Methods by name. Paths are those that `models.layers` prints."""


def run(
    build: Callable[[nnx.Rngs], nnx.Module],
    distiller: distillers.Distiller,
    teacher: object,
    dataset: data.ImageDataset,
    epochs: int,
    seed: int = 0,
) -> tuple[nnx.Module, float, float]:
    """Train a network; return it, and its test accuracies before and after."""
    program = training.compile_program(
        build, dataset, distiller, optimizer=optax.adam(5e-3), teacher=teacher
    )
    start = program.start(seed)
    before = program.evaluate(start).accuracy
    loop, history = training.fit(program, start, epochs=epochs)
    return program.student(loop), before, history[-1]["test/accuracy"]


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    digits = data.load("digits")
    with mesh():
        teacher, before, after = run(
            jimm_transformer(32, 4),
            distillers.cross_entropy(),
            None,
            digits,
            2 * options.epochs,
        )
        print(f"jimm teacher: {before:.2%} before, {after:.2%} after")
        for name, make in METHODS.items():
            known = None if name == "without a teacher" else teacher
            _, before, after = run(
                jimm_transformer(16, 2), make(), known, digits, options.epochs
            )
            print(f"jimm student, {name}: {before:.2%} before, {after:.2%} after")
        function = equimo_function(digits, options.epochs)
        normalization = data.channel_statistics(digits.train.images)
        frozen = training.freeze_teacher(function, normalization)
        accuracy = training.evaluate(frozen, digits.test).accuracy
        distiller = distillers.recipe(
            "pkt+kd", layers=distillers.Layers(student_embedding="encoder")
        )
        _, before, after = run(
            jimm_transformer(16, 2), distiller, frozen, digits, options.epochs
        )
    print(f"equimo teacher: {accuracy:.2%}")
    print(f"jimm student of it, pkt+kd: {before:.2%} before, {after:.2%} after")


if __name__ == "__main__":
    main()

"""Programs and runs that the tests of training share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import arrays, build_mlp, make_dataset

from jaxkd import data, distillers, training
from jaxkd.distillers import Distiller, DistillerState
from jaxkd.models import ModelOutput

TIMED = ("seconds", "images_per_second")


class NormalizedMLP(nnx.Module):
    """Two linear layers with batch statistics between them: quick to compile."""

    def __init__(self, rngs: nnx.Rngs, classes: int = 4, hidden: int = 8):
        self.hidden = nnx.Linear(64, hidden, rngs=rngs)
        self.norm = nnx.BatchNorm(hidden, momentum=0.9, rngs=rngs)
        self.classifier = nnx.Linear(hidden, classes, rngs=rngs)

    def __call__(self, images):
        """Classify images of 8x8 pixels with one channel."""
        flat = images.reshape(len(images), -1)
        embedding = nnx.relu(self.norm(self.hidden(flat)))
        return ModelOutput(self.classifier(embedding), embedding)


def with_a_bank():
    """A method with all that a run must carry on: a bank, a head and randomness."""

    def init(rngs, spec):
        width = spec.student.embedding.shape[-1]
        bank = jnp.zeros((len(spec.labels), width))
        probe = jax.random.normal(rngs.params(), (width,))
        return DistillerState({"probe": probe}, {"bank": bank})

    def loss(params, extra, student, teacher, batch):
        bank = extra["bank"]
        drawn = bank[jax.random.randint(batch.key, (), 0, len(bank))]
        distance = student.embedding - bank[batch.rows] - drawn[None]
        projected = distance @ params["probe"] - teacher.logits.mean(-1)
        newest = 1.0 + jax.lax.stop_gradient(student.embedding)
        bank = bank.at[batch.rows].set(newest)
        return jnp.tanh(jnp.square(projected)), {"bank": bank}, {}

    return Distiller(init, loss)


def compile_small(distiller, trials=None):
    """Compile a program with batch statistics, a teacher and augmentation.

    Three steps make an epoch: two whole batches of 16, and a remainder of 8.

    Returns:
        The program, and a list that grows with every trace of its loss.
    """
    counted, traces = counting(distiller)
    program = training.compile_program(
        NormalizedMLP,
        make_dataset(),
        counted,
        optimizer=training.decayed_sgd(0.05, momentum=0.9, weight_decay=1e-4),
        batch_size=16,
        teacher=training.freeze(build_mlp()(nnx.Rngs(7))),
        augmentation=data.Augmentation(crop_padding=1, flip=True),
        trials=trials,
    )
    return program, traces


@functools.cache
def banked(trials=None):
    """The program of a mixture with a bank, and its traces."""
    mixture = distillers.weighted(
        ce=(1.0, distillers.cross_entropy()),
        kd=(1.0, distillers.soft_targets(temperature=4.0)),
        bank=(0.5, with_a_bank()),
    )
    return compile_small(mixture, trials)


@functools.cache
def holistic(trials=None):
    """The program of HKD+KD, and its traces: slow to compile."""
    settings = {"hkd": {"dim": 8, "num_negatives": 20}}
    return compile_small(distillers.recipe("hkd+kd", settings=settings), trials)


class Killed(Exception):
    """Raised in place of a kill."""


class FragileCheckpoints(training.Checkpoints):
    """Checkpoints whose run is killed after the save of a step.

    Args:
        directory: As for ``Checkpoints``.
        killed_at: The step.
        every_steps: As for ``Checkpoints``.
    """

    def __init__(self, directory, *, killed_at, every_steps):
        super().__init__(directory, every_steps=every_steps)
        self._killed_at = killed_at

    def save(self, step, loop, record, *, wait=True):
        """Save, and kill the run."""
        super().save(step, loop, record, wait=wait)
        if step >= self._killed_at:
            self.wait()
            raise Killed


def killed_and_resumed(program, folder, *, at, epochs, every_steps=2):
    """Return the end and the records of a run that was killed once and resumed."""
    fragile = FragileCheckpoints(folder, killed_at=at, every_steps=every_steps)
    with pytest.raises(Killed):
        training.fit(program, program.start(0), epochs=epochs, checkpoints=fragile)
    checkpoints = training.Checkpoints(folder)
    assert checkpoints.latest() == at
    loop, record = checkpoints.restore(program.like(at))
    assert int(loop.train.step) == at
    return training.fit(program, loop, epochs=epochs, history=record["history"])


def without_times(history):
    """Return the records without the fields that depend on the clock."""
    return [{k: v for k, v in record.items() if k not in TIMED} for record in history]


def counting(distiller):
    """Return the distiller, and a list that grows with every trace of its loss."""
    traces = []

    def loss(*arguments):
        traces.append(None)
        return distiller.loss(*arguments)

    return distiller._replace(loss=loss), traces


def assert_close(left, right, *, rtol=1e-5, atol=1e-6):
    """Assert that two pytrees hold nearly the same numbers."""
    for a, b in zip(arrays(left), arrays(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def changed(before, after):
    """Return for each leaf, by name, whether it differs."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): bool(np.any(a != b))
        for (path, a), b in zip(
            jax.tree_util.tree_flatten_with_path(before)[0],
            jax.tree.leaves(after),
            strict=True,
        )
    }

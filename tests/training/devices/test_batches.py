"""Training on streamed images is training on the same images in memory."""

import dataclasses
import functools
import os

import numpy as np
import optax
import pytest
from device_support import _network
from support import assert_bitwise_equal, build_mlp, build_resnet, make_dataset

from jaxkd import data, distillers, training

DATASET = dataclasses.replace(make_dataset(), augmentation=data.Augmentation(1, True))


def streamed(dataset, workers=0):
    def split(part):
        return data.Split(data.Streamed(part.images, workers=workers), part.labels)

    return dataclasses.replace(
        dataset, train=split(dataset.train), test=split(dataset.test)
    )


def make_program(dataset, build=build_mlp, batch_size=16, **settings):
    return training.compile_program(
        build(),
        dataset,
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=batch_size,  # 40 rows: the last batch of an epoch is filled up
        **settings,
    )


def losses(program, steps, seed=0):
    """The loss of each of the first steps."""
    loop, found = program.start(seed), []
    with program.feeding():
        for step in range(steps):
            loop, report = program.training.advance(loop, program.order(loop))
            found.append(float(report.metrics["loss"]))
            assert int(loop.train.step) == step + 1
    return found


@pytest.fixture(scope="module")
def plain():
    return make_program(DATASET)


@pytest.fixture(scope="module")
def program():
    return make_program(streamed(DATASET))


def test_the_losses_of_every_step_are_the_same(plain, program):
    assert losses(program, 100) == losses(plain, 100)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(plain, workers):
    program = make_program(streamed(DATASET, workers))
    assert losses(program, 20) == losses(plain, 20)


def test_a_run_ends_in_the_same_state_and_history(plain, program):
    ours, theirs = (training.fit(p, p.start(3), epochs=3) for p in (program, plain))
    assert_bitwise_equal(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        for name in ("step", "train/loss", "test/accuracy", "test/loss"):
            assert a[name] == b[name]


@pytest.mark.slow
def test_convolutions_and_batch_statistics_agree():
    build = lambda: functools.partial(_network, np.float32)
    ours = make_program(streamed(DATASET), build)
    theirs = make_program(DATASET, build)
    assert losses(ours, 4) == losses(theirs, 4)


def test_blocks_of_epochs_follow_on_one_another(plain, program, monkeypatch):
    monkeypatch.setattr("jaxkd.training._devices.feed._MAX_BLOCK_EPOCHS", 2)
    short = make_program(streamed(DATASET))
    assert losses(short, 14) == losses(plain, 14)


def test_a_run_resumes_within_an_epoch(tmp_path, program):
    whole, _ = training.fit(program, program.start(0), epochs=2)
    loop = program.start(0)
    for _ in range(4):
        loop, _ = program.training.advance(loop, program.order(loop))
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(4, loop, {"history": []})
    again = make_program(streamed(DATASET))
    resumed, _ = checkpoints.restore(again.like(4))
    resumed, _ = training.fit(again, resumed, epochs=2)
    assert_bitwise_equal(resumed.train, whole.train)


def test_another_seed_reads_its_own_batches(plain, program):
    assert losses(program, 5, seed=0) != losses(program, 5, seed=1)
    assert losses(program, 5, seed=1) == losses(plain, 5, seed=1)


def test_several_steps_a_call_take_their_batches_together(plain):
    many = make_program(streamed(DATASET), steps_per_call=3)
    loop = many.start(0)
    loop, report = many.training.advance_many(loop, many.order(loop))
    assert int(loop.train.step) == 3
    np.testing.assert_allclose(report.metrics["loss"], losses(plain, 3)[-1], rtol=1e-5)


class Counting:
    """A source that notes how many rows it is asked for at once."""

    def __init__(self, images):
        self.images, self.shape, self.counts = images, images.shape, []

    def read(self, rows):
        self.counts.append(len(rows))
        return self.images[rows], None


def test_no_more_than_a_batch_is_read_at_once():
    source = Counting(DATASET.train.images)
    train = data.Split(data.Streamed(source), DATASET.train.labels)
    dataset = dataclasses.replace(DATASET, train=train)
    halves = data.Normalization(np.float32([0.5]), np.float32([0.5]))
    losses(make_program(dataset, normalization=halves), 6)
    assert set(source.counts) == {16}


@pytest.mark.slow
@pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ,
    reason="needs prepared data: set TFDS_DATA_DIR to a folder with fashion_mnist",
)
def test_fashion_mnist_streamed_and_in_memory_give_the_same_losses():
    def program(**settings):
        dataset = data.load("fashion_mnist", **settings)
        return make_program(dataset, lambda: build_resnet(10, 28), 64)

    assert losses(program(stream=True), 20) == losses(program(), 20)

"""Layers of a teacher that were recorded by their paths."""

import dataclasses

import numpy as np
import pytest
from flax import nnx
from support import assert_bitwise_equal, build_mlp, make_dataset
from training_support import NormalizedMLP, without_times

from jaxkd import data, distillers, losses, training
from jaxkd._errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

AUGMENTATION = data.Augmentation(crop_padding=1, flip=True)
DATASET = dataclasses.replace(make_dataset(), augmentation=AUGMENTATION)


class Plain(nnx.Module):
    """Returns logits alone."""

    def __init__(self, rngs):
        self.body = build_mlp()(rngs)

    def __call__(self, images):
        return self.body(images).logits


def record(path, *outputs, network=None):
    teacher = training.freeze_teacher(network or build_mlp()(nnx.Rngs(7)))
    chosen = outputs or None
    settings = {"outputs": chosen, "epochs": 2, "batch_size": 16}
    return teacher, training.record(teacher, DATASET, path, **settings)


def trained(teacher, distiller):
    program = training.compile_program(
        NormalizedMLP,
        DATASET,
        distiller,
        optimizer=training.decayed_sgd(0.05, momentum=0.9, weight_decay=1e-4),
        batch_size=16,
        teacher=teacher,
    )
    loop, history = training.fit(program, program.start(0), epochs=2)
    return loop, without_times(history)


def hint(path="layers.-1"):
    pairs = {("norm", path): losses.hint}
    return distillers.weighted(
        ce=(1.0, distillers.cross_entropy()),
        kd=(1.0, distillers.soft_targets()),
        hint=(1.0, distillers.at_layers(pairs, project="linear")),
    )


def test_a_student_has_the_bits_of_the_teachers_student(tmp_path):
    teacher, recording = record(tmp_path / "teacher", "logits", "layers.-1")
    assert recording.outputs == ("logits", "path=layers.-1")
    (live, expected), (recorded, history) = (
        trained(source, hint()) for source in (teacher, recording)
    )
    assert_bitwise_equal(live, recorded)
    assert history == expected


def test_a_layer_that_was_not_recorded_is_refused(tmp_path):
    _, recording = record(tmp_path / "teacher", "logits", "layers.-1")
    with pytest.raises(InvalidInputError, match=r"no layer 'layers\.0' \(it has 'lay"):
        trained(recording, hint("layers.0"))


def test_a_network_of_logits_alone_is_recorded_without_an_embedding(tmp_path):
    _, recording = record(tmp_path / "teacher", network=Plain(nnx.Rngs(0)))
    assert recording.outputs == ("logits",)
    _, history = trained(recording, distillers.recipe("kd"))
    assert np.isfinite(history[-1]["train/loss"])


def test_an_unknown_path_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"outputs names other.*did you mean 'l"
    ):
        record(tmp_path / "teacher", "logits", "layer.0")
    assert not (tmp_path / "teacher").exists()


def test_a_wildcard_is_refused_because_it_has_no_single_name(tmp_path):
    with pytest.raises(InvalidInputError, match="stands for several layers"):
        record(tmp_path / "teacher", "layers.*")


def test_layers_of_a_function_that_no_file_can_name_are_left_out(tmp_path):
    body = build_mlp()(nnx.Rngs(0))

    def answer(images):
        output = body(images)
        layers = {"a b": output.embedding, "two": (output.embedding,) * 2}
        return output._replace(layers=layers)

    teacher = training.freeze_teacher(answer)
    recording = training.record(
        teacher, DATASET, tmp_path / "t", epochs=1, batch_size=16
    )
    assert {*recording.outputs} == {"logits", "embedding"}
    with pytest.raises(InvalidInputError, match="outputs names 'path=two'"):
        training.record(
            teacher, DATASET, tmp_path / "two", epochs=1, batch_size=16, outputs=["two"]
        )

"""``jaxkd layers``, and the options of ``jaxkd distill`` that name layers."""

import json

import pytest
from cli_arguments import distill_arguments, refusal

from jaxkd import cli, models, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def test_the_layers_of_a_network_are_listed_with_shapes_and_parameters(capsys):
    cli.main(["layers", "resnet8x4", "--image-size", "16"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["path", "class", "output", "parameters"]
    assert lines[-1] == ["classifier", "Linear", "1x10", "2,570"]


def test_the_layers_of_a_run_are_those_of_its_network(teacher, capsys):
    cli.main(["layers", str(teacher)])
    loaded = runs.load_run(teacher)
    table = models.layers(loaded.module, (1, *loaded.network.image_shape))
    assert capsys.readouterr().out == f"{table!r}\n"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["resnet8x"], "unknown network 'resnet8x'; did you mean 'resnet8x4'"),
        (["mlp", "--channels", "0"], "--channels must be at least 1, got 0"),
    ],
)
def test_unknown_networks_and_sizes_are_refused(arguments, says, capsys):
    assert says in refusal(["layers", *arguments], capsys)


def test_the_shape_of_a_run_is_its_own(teacher, capsys):
    message = refusal(["layers", str(teacher), "--image-size", "9"], capsys)
    assert "Leave --image-size out" in message


def test_a_student_learns_from_the_layers_that_are_named(tmp_path, teacher, capsys):
    out = tmp_path / "student"
    named = ("--student-layers", "layers.0", "--teacher-layers", "layers.0")
    embeddings = ("--student-embedding", "layers.0", "--teacher-embedding", "layers.0")
    cli.main(distill_arguments(teacher, out, "--method", "pkt", *embeddings))
    options = json.loads((out / "config.json").read_text())["options"]
    assert options["student_embedding"] == "layers.0"
    assert options["student_layers"] == []
    capsys.readouterr()
    other = distill_arguments(teacher, tmp_path / "other", "--method", "pkt", *named)
    assert "no part of the recipe" in refusal(other, capsys)


def test_an_unknown_path_is_refused_with_the_nearest(tmp_path, teacher, capsys):
    named = ("--student-embedding", "layer.0", "--teacher-embedding", "layers.0")
    arguments = distill_arguments(teacher, tmp_path / "s", "--method", "pkt", *named)
    message = refusal(arguments, capsys)
    assert "no layer has the path 'layer.0'; did you mean 'layers.0'" in message

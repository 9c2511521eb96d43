import dataclasses
import inspect
import json
import shutil

import jax
import jax.numpy as jnp
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from flax import nnx

from jaxkd import cli, distillers, models, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def test_every_recipe_and_every_setting_is_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    cli.main(["methods"])
    words = set(capsys.readouterr().out.replace(",", " ").split())
    assert set(distillers.RECIPES) <= words
    settings = {
        setting
        for build in distillers.PARTS.values()
        for setting in inspect.signature(build).parameters
    }
    assert settings <= words


def test_a_setting_reaches_its_part(tmp_path, teacher, monkeypatch):
    given = {}

    class Reached(Exception):
        pass

    def crd(**settings):
        given.update(settings)
        raise Reached

    crd.__signature__ = inspect.signature(distillers.contrastive_representation)
    monkeypatch.setitem(distillers.PARTS, "crd", crd)
    more = ("--method", "crd+kd", "--settings", "crd.dim", "16", "crd.negatives", "all")
    with pytest.raises(Reached):
        cli.main(distill_arguments(teacher, tmp_path / "run", *more))
    assert given == {"dim": 16, "negatives": "all"}


@pytest.mark.parametrize(
    "method, setting, message",
    [
        ("crd", ("dim", "16"), "--settings dim must name a part and one of its"),
        ("crd", ("crd.dims", "16"), "unknown setting of crd 'dims'; did you mean"),
        ("crd", ("crd.dim", "wide"), "--settings crd.dim must be an integer"),
        ("crd", ("rkd.angle_weight", "1"), "has no part 'rkd'"),
        ("fsp", ("fsp.pretraining_epochs", "0"), "epochs must be at least 1, got 0"),
        (
            "mlkd",
            ("mlkd.temperatures", "2,3"),
            "--settings mlkd.temperatures must be",
        ),
        ("mlkd", ("mlkd.temperatures", "3"), "must be a list of numbers such as [2"),
        ("kd", ("kd.temperature", "hot"), 'temperature must be a number, got "hot"'),
        ("kd", ("kd.temperature", "[1,2]"), "--settings kd.temperature must be a num"),
        ("ft", ("ft.normalize_paraphraser", "1"), "must be true or false, got 1"),
        ("crd", ("crd.bank_dtype", "x"), "crd.bank_dtype must be a dtype such as"),
        ("crd", ("crd.num_negatives", "x"), "must be an integer or null, got"),
        ("crd", ("crd.negatives", "3"), "must be a word such as sampled, got 3"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    tmp_path, teacher, capsys, method, setting, message
):
    arguments = distill_arguments(
        teacher, tmp_path / "run", "--method", method, "--settings", *setting
    )
    assert message in refusal(arguments, capsys)
    assert not (tmp_path / "run").exists()


def test_a_method_that_needs_feature_maps_refuses_networks_without(
    tmp_path, teacher, capsys
):
    arguments = distill_arguments(teacher, tmp_path / "run", "--method", "at")
    assert "the student's output has 0 stages" in refusal(arguments, capsys)


# tests/training/test_two_stages.py shows the same of the loop.
@pytest.mark.slow
def test_a_method_of_two_stages_is_trained_and_resumed(tmp_path, teacher):
    more = ("--method", "sskd", "--settings", "sskd.pretraining_epochs", "1")
    arguments = distill_arguments(teacher, tmp_path / "run", *more)
    cli.main(arguments)
    metrics = tmp_path / "run" / "metrics.jsonl"
    stages = [r["stage"] for r in runs.read_metrics(metrics)]
    assert stages == ["pretraining", "training", "training"]
    before = metrics.read_bytes()
    cli.main([*arguments, "--resume"])
    assert metrics.read_bytes() == before


def test_a_student_with_its_teachers_classifier_is_built_again_from_its_config():
    config = runs.NetworkConfig("resnet8", 4, "float32", 3, (8, 8, 1))
    own = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))

    def reuse():
        kernel, bias = jnp.ones((6, 3)), jnp.ones(3)
        network, rngs = config.build(nnx.Rngs(0)), nnx.Rngs(0)
        return models.ReusedClassifier(network, 16, kernel, bias, rngs=rngs)

    trained = nnx.eval_shape(reuse)
    again = runs.NetworkConfig(**dataclasses.asdict(config.trained_as(trained)))

    def shapes(module):
        return jax.tree.map(lambda x: x.shape, nnx.to_pure_dict(nnx.state(module)))

    assert shapes(again.abstract()) == shapes(trained)
    assert config.trained_as(own) == config


@pytest.mark.slow
def test_a_student_with_its_teachers_classifier_is_evaluated_without_it(
    tmp_path, quadrants, capsys
):
    network = ("--model", "resnet8", "--width", "4", "--epochs", "1")
    teacher, run = tmp_path / "teacher", tmp_path / "run"
    cli.main(train_arguments(quadrants, teacher, *network))
    cli.main(distill_arguments(teacher, run, *network, "--method", "simkd"))
    shutil.rmtree(teacher)
    capsys.readouterr()
    cli.main(["evaluate", str(run)])
    last = json.loads((run / "summary.json").read_text())["test_accuracy_last"]
    assert f"test accuracy {last:.2%}" in " ".join(capsys.readouterr().out.split())


def test_equal_means_are_refused_where_the_students_classifier_is_not_used(
    tmp_path, teacher, capsys
):
    more = ("--method", "simkd", "--equal-means")
    arguments = distill_arguments(teacher, tmp_path / "run", *more)
    assert "predicts with another one" in refusal(arguments, capsys)

import json

import numpy as np
import pytest
from cli_arguments import distill_arguments, train_arguments
from flax import nnx
from support import build_mlp, make_dataset

from jaxkd import cli, data, models, runs, training
from jaxkd.models import _registry

pytestmark = pytest.mark.slow

KD = ("--method", "kd", "--epochs", "5", "--weight-decay", "0.01")
AT_INFINITY = ("--method", "kd", "--weights", "ce", "0", "kd", "1")
AT_INFINITY += ("--temperature", "inf", "--epochs", "5")
MATCHING = ("--method", "logit-matching", "--epochs", "5")


def distill(teacher, out, *more):
    """Runs `jaxkd distill`; returns the student's logits on the test images."""
    cli.main(distill_arguments(teacher, out, *more))
    student = build_mlp(hidden=8)(nnx.Rngs(0))
    training.Checkpoints(out / "checkpoints").restore_network(student)
    return logits_of(training.freeze(student, NORMALIZATION))


NORMALIZATION = data.channel_statistics(make_dataset().train.images)


def logits_of(network):
    images = make_dataset().test.images
    return np.float64(network.apply(network.variables, images).logits)


def largest_mean(logits):
    """The largest mean logit, relative to the largest logit."""
    return np.abs(logits.mean(-1)).max() / np.abs(logits).max()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, teacher):
    """The run folder of KD by plain SGD from equal means, and its student's logits."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    return out, distill(teacher, out, *KD, "--momentum", "0", "--equal-means")


@pytest.mark.parametrize("equal_means", [True, False])
def test_with_the_option_both_networks_start_with_mean_logits_of_zero(
    tmp_path, teacher, monkeypatch, equal_means
):
    class Reached(Exception):
        pass

    given = {}

    def compile_program(build, dataset, distiller, *, teacher, **settings):
        student = training.freeze(build(nnx.Rngs(0)), NORMALIZATION)
        given.update(student=logits_of(student), teacher=logits_of(teacher))
        raise Reached

    monkeypatch.setattr(training, "compile_program", compile_program)
    more = ("--equal-means",) if equal_means else ()
    with pytest.raises(Reached):
        cli.main(distill_arguments(teacher, tmp_path / "run", *more))
    for role in ("student", "teacher"):
        if equal_means:
            assert largest_mean(given[role]) < 1e-6, role
        else:
            assert largest_mean(given[role]) > 1e-2, role


def test_plain_sgd_with_weight_decay_keeps_the_mean_logits_at_zero(
    tmp_path, teacher, plain
):
    assert largest_mean(plain[1]) < 1e-6
    own = distill(teacher, tmp_path / "own", *KD, "--momentum", "0")
    assert largest_mean(own) > 1e-2


def test_the_published_optimizer_keeps_them_and_kd_at_infinity_is_logit_matching(
    tmp_path, teacher
):
    softened = distill(teacher, tmp_path / "kd", *AT_INFINITY, "--equal-means")
    matched = distill(teacher, tmp_path / "lm", *MATCHING, "--equal-means")
    for logits in (softened, matched):
        assert largest_mean(logits) < 1e-6
    np.testing.assert_allclose(softened, matched, atol=1e-5)
    losses = [
        [record[f"train/{part}"] for record in runs.read_metrics(path)]
        for part, path in (
            ("kd", tmp_path / "kd" / "metrics.jsonl"),
            ("lm", tmp_path / "lm" / "metrics.jsonl"),
        )
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][-1] < 0.9 * losses[0][0]


def test_the_option_is_part_of_a_runs_identity(teacher, plain, capsys):
    run = plain[0]
    assert json.loads((run / "config.json").read_text())["options"]["equal_means"]
    with pytest.raises(SystemExit) as caught:
        cli.main(distill_arguments(teacher, run, *KD, "--momentum", "0", "--resume"))
    assert caught.value.code == 2
    assert ": equal_means was True, is False" in capsys.readouterr().err


class Headless(nnx.Module):
    """A network that makes its logits elsewhere than in `classifier`."""

    def __init__(self, mlp):
        self.body = mlp

    def __call__(self, images):
        return self.body(images)


@pytest.fixture
def headless(monkeypatch):
    """Puts such a network into the registry, by its name."""

    def construct(*, image_shape, width, **settings):
        size = int(np.prod(image_shape))
        return Headless(models.MLP(size, (width or 8,), **settings))

    monkeypatch.setitem(_registry._MODELS, "headless", construct)
    return "headless"


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_network_without_a_linear_classifier_is_refused(
    tmp_path, teacher, quadrants, capsys, headless, role
):
    out = tmp_path / "run"
    if role == "student":
        arguments = distill_arguments(teacher, out, "--model", headless)
    else:
        other = tmp_path / "teacher"
        cli.main(train_arguments(quadrants, other, "--model", headless))
        arguments = distill_arguments(other, out)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--equal-means"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--equal-means, {role}: model must have an nnx.Linear" in line
    assert not out.exists()

"""Which flag an error of the library is about."""

import pytest

import proofs_checks
from jaxkd import data, runs
from jaxkd._errors import InvalidInputError
from jaxkd.cli._errors import flag_of, message_for
from jaxkd.cli._method import make_distiller
from jaxkd.cli._options import parse

TRAIN = "train --dataset d --model m --out o"
DISTILL = "distill --teacher t --model m --out o"


@pytest.mark.parametrize(
    "line, argument, flag",
    [
        (TRAIN, "batch_size", "--batch-size"),
        (TRAIN, "milestones", "--milestones"),
        (TRAIN, "image_size", "--image-size"),
        (TRAIN, "num_processes", "--num-processes"),
        (TRAIN, "every_steps", "--checkpoint-every"),
        (TRAIN, "ema_decay", "--ema"),
        (TRAIN, "n", "--subset"),
        (TRAIN, "randaugment_magnitude", "--randaugment"),
        (TRAIN, "optimizer_settings.b1", "--optimizer-settings b1"),
        (TRAIN, "temperature", None),
        (TRAIN, "student_logits", None),
        (DISTILL, "temperature", "--temperature"),
        (DISTILL, "kd.temperature", "--temperature"),
        (DISTILL, "hkd.temperature", "--hkd.temperature"),
        (DISTILL, "hkd.bank_momentum", "--hkd.bank-momentum"),
        (DISTILL, "bank_momentum", "--hkd.bank-momentum"),
        (DISTILL, "hkd.chunk_size", "--settings hkd.chunk_size"),
        (DISTILL, "mlkd.temperatures", "--settings mlkd.temperatures"),
        (DISTILL, "trial", "--teacher-trial"),
        (DISTILL, "recipe", "--method"),
        (
            f"{DISTILL} --settings kd.temperature 2",
            "kd.temperature",
            "--settings kd.te",
        ),
        (f"{DISTILL} --settings hkd.dim 2", "hkd.dim", "--settings hkd.dim"),
        (f"{DISTILL} --method crd --settings crd.dim 2", "dim", "--settings crd.dim"),
        (f"{DISTILL} --method crd", "dim", None),
        ("evaluate r", "trial", "--trial"),
        ("evaluate r", "run", None),
        ("data digits", "name", None),
    ],
)
def test_the_flag_of_an_argument(line, argument, flag):
    found = flag_of(argument, parse(line.split()))
    assert found == flag or found.startswith(flag)


@pytest.mark.parametrize(
    "line, says",
    [
        ("--settings rkd.angle_weight -1", "--settings rkd.angle_weight must be"),
        (
            "--method rkd --settings rkd.distance_weight 0 rkd.angle_weight 0",
            "--settings rkd.distance_weight and angle_weight are both 0",
        ),
        ("--method hkd --hkd.embedding-weight -1", "--hkd.embedding-weight must be"),
        ("--method hkd --hkd.graph-weight nan", "--hkd.graph-weight must be"),
        (
            "--method hkd --hkd.embedding-weight 0 --hkd.graph-weight 0",
            "--hkd.embedding-weight and graph_weight are both 0",
        ),
        (
            "--method mlkd --settings mlkd.temperatures []",
            "--settings mlkd.temperatures must hold at least one temperature",
        ),
        (
            "--method mlkd --settings mlkd.temperatures [0]",
            "--settings mlkd.temperatures must be",
        ),
    ],
)
def test_an_error_of_a_method_begins_with_the_flag(line, says):
    method = [] if "--method" in line else ["--method", "rkd"]
    options = parse([*DISTILL.split(), *method, *line.split()])
    with pytest.raises(InvalidInputError) as caught:
        make_distiller(options)
    assert message_for(caught.value, options).startswith(says)


@pytest.mark.parametrize(
    "line, fails, says",
    [
        (
            f"{TRAIN} --width 7",
            lambda: runs.NetworkConfig("vit_ti", 7, "float32", 3, (8, 8, 1)).abstract(),
            "--width must be a multiple of",
        ),
        (
            f"{TRAIN} --width 7",
            lambda: runs.NetworkConfig(
                "ShuffleV1", 7, "float32", 3, (32, 32, 3)
            ).abstract(),
            "--width must be a multiple of 12",
        ),
        (
            "verify --cases 0",
            lambda: proofs_checks.main_from_options(cases=0),
            "--cases must be at least 1, got 0",
        ),
        (
            "verify --seed -1",
            lambda: proofs_checks.main_from_options(seed=-1),
            "--seed must not be negative, got -1",
        ),
        (
            TRAIN,
            lambda: data.load("./nowhere"),
            "--dataset: there is no folder or file",
        ),
    ],
)
def test_an_error_of_the_library_begins_with_the_flag(line, fails, says):
    with pytest.raises(InvalidInputError) as caught:
        fails()
    assert message_for(caught.value, parse(line.split())).startswith(says)


@pytest.mark.parametrize(
    "message, shown",
    [
        (
            "temperature must be positive, got 0",
            "--temperature must be positive, got 0",
        ),
        ("temperatures differ", "--temperature: temperatures differ"),
        ("--temperature has no effect", "--temperature has no effect"),
        ("it is too hot", "--temperature: it is too hot"),
    ],
)
def test_a_message_begins_with_the_flag(message, shown):
    options = parse(DISTILL.split())
    error = InvalidInputError(message, argument="temperature")
    assert message_for(error, options) == shown
    assert message_for(InvalidInputError(message), options) == message

"""Which flag an error of the library is about."""

import pytest

from jaxkd._errors import InvalidInputError
from jaxkd.cli._errors import flag_of, message_for
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

"""Values of settings that make no sense, of every method and every optimizer."""

import contextlib
import inspect
from pathlib import Path

import pytest

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.cli import _errors, _method, _optimizer
from jaxkd.cli._options import Distill, HolisticOptions, OptimizerOptions

SETTINGS = [
    (part, name)
    for part, build in distillers.PARTS.items()
    for name in inspect.signature(build).parameters
]
RECIPES = {m.part: m.recipe for m in distillers.METHODS}
NONSENSE = ["2,3", "[[1]]", "{}", '"x"', "nan", 5000 * "9"]


def options(method, **more):
    folder = Path("folder")
    return Distill(model="mlp", teacher=folder, out=folder, method=method, **more)


def refusal(call, given):
    """The message of an error that must be raised, as the command line prints it."""
    with pytest.raises(InvalidInputError) as caught:
        call(given)
    return _errors.message_for(caught.value, given)


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: text[:8])
def test_no_setting_takes_nonsense_but_says_so_in_one_line(text):
    for part, name in SETTINGS:
        given = options(RECIPES[part], settings={f"{part}.{name}": text})
        message = refusal(_method.make_distiller, given)
        assert f"--settings {part}.{name}" in message or f"unknown {name}" in message
        assert len(message) < 300
        assert "\n" not in message


@pytest.mark.parametrize(
    "text", ["inf", "1e39", "1e-46", "1" + 30 * "0", "-1", "true", "[1,2]", "3.5"]
)
def test_every_setting_takes_a_value_or_says_why_not(text):
    for part, name in SETTINGS:
        given = options(RECIPES[part], settings={f"{part}.{name}": text})
        with contextlib.suppress(InvalidInputError):
            _method.make_distiller(given)


@pytest.mark.parametrize(
    "setting, text, says",
    [
        ("dkd.target_weight", "-1", "target_weight must be finite and not negative"),
        ("nkd.non_target_weight", "inf", "non_target_weight must be finite in float32"),
        ("dist.inter_weight", "nan", "inter_weight must be finite in float32, got nan"),
        ("sskd.tf_weight", "1e39", "tf_weight must be finite in float32, got 1e+39"),
        ("rkd.angle_weight", "1e-46", "angle_weight is 1e-46, which is too small"),
        ("kd.temperature", "1e-40", "kd.temperature is 1e-40, which is too small"),
        ("dkd.temperature", "1e20", "dkd.temperature is 1e+20, which is too large"),
        ("mlkd.temperatures", "[]", "mlkd.temperatures must hold at least one"),
        ("mlkd.temperatures", "[4,0]", "mlkd.temperatures must be positive, got 0"),
        ("crd.bank_dtype", "null", "bank_dtype must be a dtype such as bfloat16"),
        ("crd.bank_dtype", "1_0", "bank_dtype must be a dtype such as bfloat16"),
        ("js.mixture", "1e-46", "js.mixture is 1e-46, which is too small for float32"),
        ("cck.order", "1000000000", "order must be at most 64, got 1000000000"),
        ("crd.dim", "1000000000", "dim must be at most 65536, got 1000000000"),
    ],
)
def test_the_line_names_the_setting_and_the_limit(setting, text, says):
    given = options(RECIPES[setting.partition(".")[0]], settings={setting: text})
    message = refusal(_method.make_distiller, given)
    assert says in message
    assert f"--settings {setting}" in message


@pytest.mark.parametrize(
    "values, says",
    [
        ({"hops": 1000000}, "--hkd.hops must be at most 64, got 1000000"),
        ({"dim": 2**30}, "--hkd.dim must be at most 65536"),
        ({"neighbors": 0}, "--hkd.neighbors must be at least 1, got 0"),
        ({"bank_momentum": 1.5}, "--hkd.bank-momentum must lie in [0, 1], got 1.5"),
        ({"smoothing": float("nan")}, "--hkd.smoothing must lie in [0, 1], got nan"),
        ({"num_negatives": 0}, "--hkd.num-negatives must be at least 1, got 0"),
        ({"temperature": 1e-40}, "--hkd.temperature is 1e-40, which is too small"),
        ({"temperature": float("inf")}, "--hkd.temperature must be finite"),
        ({"embedding_weight": -1.0}, "--hkd.embedding-weight must be finite and not"),
        ({"graph_weight": 1e39}, "--hkd.graph-weight must be finite in float32"),
    ],
)
def test_extreme_settings_of_hkd_are_refused(values, says):
    given = options("hkd", hkd=HolisticOptions(**values))
    assert says in refusal(_method.make_distiller, given)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_makes_no_sense_is_refused_with_the_reason(weight):
    message = refusal(_method.make_distiller, options("kd", weights={"ce": weight}))
    assert message.startswith(f"--weights ce is {weight:g}, but a weight must be a fin")
    assert "would maximize the part's loss" in message


@pytest.mark.parametrize(
    "more, flag",
    [
        ({"temperature": 2.0}, "--temperature"),
        ({"settings": {"kd.temperature": "2"}}, "--settings kd.temperature"),
    ],
)
def test_a_setting_of_a_part_whose_weight_is_zero_is_refused(more, flag):
    given = options("kd", weights={"kd": 0.0}, **more)
    message = refusal(_method.make_distiller, given)
    assert message == (
        f"{flag} would have no effect: the part 'kd' has the weight 0. Parts with a "
        "weight: ce"
    )


@pytest.mark.parametrize(
    "values, says",
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite"),
        ({"learning_rate": 1e39}, "learning_rate must be finite in float32"),
        ({"learning_rate": 1e-46}, "learning_rate is 1e-46, which is too small"),
        ({"momentum": 1.01}, "momentum must lie in [0, 1], got 1.01"),
        ({"weight_decay": -1e-4}, "--weight-decay must be a finite number of at least"),
        ({"milestones": (150.0, 180.0)}, "got 150 180. Divide epochs by the number of"),
        ({"schedule": "warmup-cosine", "warmup": 1.5}, "warmup must lie in [0, 1]"),
        ({"clip_norm": float("nan")}, "clip_norm must be positive, got nan"),
    ],
)
def test_an_optimizer_that_makes_no_sense_is_refused(values, says):
    with pytest.raises(InvalidInputError) as caught:
        _optimizer.check(OptimizerOptions(**values))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "setting, text, says",
    [
        ("b1", "1", "b1 must lie in [0, 1), got 1"),
        ("b2", "-0.1", "b2 must lie in [0, 1), got -0.1"),
        ("b1", "nan", "b1 must be finite, got nan"),
        ("eps", "inf", "eps must be finite, got inf"),
        ("eps", "-1e-8", "eps must not be negative, got -1e-08"),
        ("weight_decay", "-1", "weight_decay must not be negative, got -1"),
        ("weight_decay", "1,2", 'weight_decay must be a number, got "1,2"'),
        ("nesterov", "1", "nesterov must be true or false, got 1"),
    ],
)
def test_a_setting_of_an_optax_optimizer_that_makes_no_sense_is_refused(
    setting, text, says
):
    given = OptimizerOptions(optimizer="adamw", optimizer_settings={setting: text})
    with pytest.raises(InvalidInputError) as caught:
        _optimizer.check(given)
    assert says in str(caught.value)
    assert caught.value.argument == f"optimizer_settings.{setting}"

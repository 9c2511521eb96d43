import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import _checks, distillers, losses, training
from jaxkd._errors import InvalidInputError, InvalidTypeError, unknown_name


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_floats_become_at_least_float32(dtype):
    assert _checks.as_float_array(jnp.ones(2, dtype), "x").dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_float64_stays_float64():
    assert _checks.as_float_array(np.ones(2), "x").dtype == jnp.float64


def test_the_error_for_integers_names_the_remedy():
    with pytest.raises(TypeError, match=r"x must be floating point, got dtype int32"):
        _checks.as_float_array(jnp.ones(2, jnp.int32), "x")


@pytest.mark.usefixtures("x64")
def test_arrays_are_widened_to_the_widest():
    arrays = _checks.common_float_arrays(a=jnp.ones(1, jnp.bfloat16), b=np.ones(1))
    assert [x.dtype for x in arrays] == [jnp.float64] * 2


def test_the_error_for_different_shapes_names_both():
    with pytest.raises(ValueError, match=r"a and b .*\(2,\) and \(3,\)"):
        _checks.check_same_shape(a=jnp.ones(2), b=jnp.ones(3))


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_value_that_is_not_positive_raises(value):
    with pytest.raises(ValueError, match=f"t must be positive, got {value}"):
        _checks.check_positive(t=value)


def test_infinity_is_positive_but_not_finite():
    _checks.check_positive(t=float("inf"))
    with pytest.raises(ValueError, match="t must be finite"):
        _checks.check_finite_positive(t=float("inf"))


def test_a_traced_value_passes_unchecked():
    @jax.jit
    def f(t):
        _checks.check_positive(t=t)
        return t

    assert f(-1.0) == -1.0


def test_an_integer_below_the_minimum_raises():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        _checks.check_at_least(1, k=0)


@pytest.mark.parametrize("value", [1.0, True, "1"])
def test_a_value_that_is_not_an_integer_raises(value):
    with pytest.raises(TypeError, match="k must be an integer"):
        _checks.check_at_least(1, k=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_value_out_of_range_raises(value):
    with pytest.raises(ValueError, match=r"m must lie in \[0, 1\]"):
        _checks.check_in_range(0.0, 1.0, m=value)


def test_the_error_for_an_unknown_name_suggests_the_closest_names():
    error = unknown_name("model", "resnet21", ["resnet20", "resnet32", "mlp"])
    assert str(error).startswith("unknown model 'resnet21'; did you mean")


def test_the_error_lists_all_names_if_none_is_close():
    error = unknown_name("model", "zzz", ["resnet20", "mlp"])
    assert str(error) == "unknown model 'zzz'; known: mlp, resnet20"


@pytest.mark.parametrize("seed", [2**31, -(2**31) - 1, 2**32, np.int64(2**40)])
def test_a_seed_of_more_than_32_bits_raises(seed):
    with pytest.raises(ValueError, match=f"s is {seed}, but a seed must be an integer"):
        _checks.check_seed(s=seed)


@pytest.mark.parametrize("seed", [0.5, "1", None, True])
def test_a_seed_that_is_not_an_integer_raises(seed):
    with pytest.raises(TypeError, match="s must be an integer"):
        _checks.check_seed(s=seed)


def test_the_seeds_of_all_trials_must_fit():
    _checks.check_seed(2, s=2**31 - 2)
    with pytest.raises(ValueError, match="the last seed would be 2147483648"):
        _checks.check_seed(2, s=2**31 - 1)


@pytest.mark.parametrize("value", ["1", None, [1.0], True, 1j])
def test_what_is_not_one_number_raises(value):
    for check in (
        _checks.check_positive,
        _checks.check_finite_positive,
        _checks.check_finite_not_negative,
        lambda t: _checks.check_in_range(0.0, 1.0, t=t),
    ):
        with pytest.raises((TypeError, ValueError), match="t must be a number"):
            check(t=value)


@pytest.mark.parametrize("value", [10**400, 1e39, float("inf")])
def test_what_float32_cannot_hold_is_not_finite(value):
    with pytest.raises(ValueError, match="t must be finite in float32"):
        _checks.check_finite_positive(t=value)


def test_a_count_beyond_32_bits_raises():
    with pytest.raises(ValueError, match="k must be at most 2147483647"):
        _checks.check_at_least(1, k=2**31)


@pytest.mark.usefixtures("x64")
def test_a_seed_may_have_64_bits_if_jax_has():
    _checks.check_seed(s=2**40)


def test_a_program_refuses_a_seed_of_more_than_32_bits():
    class Untrained:
        trials = 2

    start = inspect.unwrap(training.Program.start)
    for seeds, says in [
        ((2**32,), "seed is 4294967296"),
        ((0, 2**32), "data_seed is 4294967296"),
        ((2**31 - 1,), "with 2 trials the last seed"),
    ]:
        with pytest.raises(InvalidInputError, match=says):
            start(Untrained(), *seeds)


def test_a_name_that_is_no_text_is_unknown_too():
    assert "unknown model '3'; known: mlp" in str(unknown_name("model", 3, ["mlp"]))


@pytest.mark.parametrize("temperatures", ["2,3", 3.0, None])
def test_temperatures_must_be_a_sequence(temperatures):
    logits = np.ones((2, 3), np.float32)
    loss = functools.partial(inspect.unwrap(losses.multi_level), logits, logits)
    for takes in (inspect.unwrap(distillers.multi_level), loss):
        with pytest.raises(TypeError, match="temperatures must be a sequence"):
            takes(temperatures=temperatures)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"bank_dtype": "x"}, "bank_dtype must be floating point, such as bfloat16"),
        ({"bank_dtype": None}, "bank_dtype must be floating point"),
        ({"bank_dtype": "int8"}, "bank_dtype must be floating point"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ({"smoothing": "much"}, "smoothing must be a number, got 'much'"),
        ({"dim": "wide"}, "dim must be an integer, got 'wide'"),
    ],
)
def test_a_setting_of_another_type_is_refused_in_python_too(settings, says):
    with pytest.raises((InvalidInputError, InvalidTypeError), match=says):
        inspect.unwrap(distillers.holistic)(**settings)

import json
import math

import numpy as np

from jaxkd import _json


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_non_finite_numbers_become_strings_at_any_depth():
    value = {"a": [math.inf, (1.5, -math.inf)], "b": {"c": math.nan}, "d": 2}
    text = _json.dumps(value)
    read = json.loads(text, parse_constant=refuse)
    assert read == {"a": ["inf", [1.5, "-inf"]], "b": {"c": "nan"}, "d": 2}


def test_float_converts_the_strings_back():
    values = [math.inf, -math.inf, math.nan]
    np.testing.assert_array_equal([float(s) for s in _json.strict(values)], values)


def test_all_other_values_are_unchanged():
    value = {"text": "inf", "none": None, "yes": True, "number": 1e308, "list": []}
    assert _json.strict(value) == value
    assert json.loads(_json.dumps(value)) == value


def test_numpy_floats_are_floats():
    assert _json.dumps([np.float64(np.inf)]) == '["inf"]'

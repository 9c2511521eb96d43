"""Paths of layers, and the layers that they name."""

import pytest

from jaxkd.models._layer_paths import Named, find_layers

KNOWN = [
    *[("stem",), ("blocks", "0"), ("blocks", "0", "a"), ("blocks", "1")],
    *[("blocks", "1", "a"), ("blocks", "10"), ("head",)],
]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("stem", ["stem"]),
        ("blocks.0.a", ["blocks.0.a"]),
        ("blocks.-1", ["blocks.10"]),
        ("blocks.-3.a", ["blocks.0.a"]),
        ("blocks.*", ["blocks.0", "blocks.1", "blocks.10"]),
        ("blocks.*.a", ["blocks.0.a", "blocks.1.a"]),
        ("*", ["stem", "head"]),
    ],
)
def test_a_path_names_layers_in_their_order(pattern, expected):
    found = find_layers(pattern, KNOWN)
    assert found == [Named(tuple(path.split(".")), None) for path in expected]


def test_a_number_in_brackets_is_a_call():
    assert find_layers("blocks.-1[2]", KNOWN) == [Named(("blocks", "10"), 2)]


@pytest.mark.parametrize(
    "pattern, near",
    [
        ("block.0.a", "'blocks.0.a'"),
        ("blocks.2", "'blocks.0'"),
        ("blocks.-4", "'blocks.0'"),
        ("blocks.1.norm", "'blocks.1.a'"),
        ("blocks", "'blocks.0'"),
        ("zzz", "'stem'"),
    ],
)
def test_the_nearest_paths_are_suggested(pattern, near):
    with pytest.raises(ValueError, match=r"no layer has the path .*did you mean") as e:
        find_layers(pattern, KNOWN)
    assert near in str(e.value)

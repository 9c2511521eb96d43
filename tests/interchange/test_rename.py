import pytest

from jaxkd import InvalidInputError, interchange

RENAMED = {"a.x.w": 1, "a.y.w": 2, "a.xy.w": 3}


@pytest.mark.parametrize(
    "pairs, expected",
    [
        ([], RENAMED),
        ([("x.", "z.")], {"z.w": 1, "y.w": 2, "xy.w": 3}),
        ([("a.x.", "a.z.")], {"z.w": 1, "y.w": 2, "xy.w": 3}),
        ([("x.", "z."), ("z.w", "q"), ("y.", "")], {"q": 1, "w": 2, "xy.w": 3}),
        ([("", "b.")], {"b.x.w": 1, "b.y.w": 2, "b.xy.w": 3}),
        ([("x", "z")], {"z.w": 1, "y.w": 2, "zy.w": 3}),
    ],
)
def test_beginnings_of_names_are_replaced_one_after_the_other(pairs, expected):
    assert interchange.rename(RENAMED, pairs) == expected


NUMBERED = {"layer_0.a.w": 1, "layer_12.a.w": 2, "layer_12.b.w": 3, "head.a.w": 4}


@pytest.mark.parametrize(
    "pair, expected",
    [
        (("layer_*.a.", "blocks.*.x."), ["blocks.0.x.w", "blocks.12.x.w"]),
        (("*_*.a.w", "*.*"), ["layer.0", "layer.12"]),
        (("*.a.", "*-"), ["layer_0-w", "layer_12-w", None, "head-w"]),
        (("layer_0.*.w", "first"), ["first"]),
    ],
)
def test_a_star_stands_for_characters_without_a_dot(pair, expected):
    found = interchange.rename(NUMBERED, [pair])
    new = expected + [None] * (len(NUMBERED) - len(expected))
    names = [own or old for own, old in zip(new, NUMBERED, strict=True)]
    assert found == dict(zip(names, NUMBERED.values(), strict=True))


def test_a_star_does_not_reach_across_a_dot():
    state = {"x.w": 1, "a.b.w": 2}
    assert interchange.rename(state, [("*.w", "*.v")]) == {"x.v": 1, "a.b.w": 2}


def test_other_characters_of_a_prefix_stand_for_themselves():
    with pytest.raises(InvalidInputError, match="not the beginning of any name"):
        interchange.rename(NUMBERED, [("layer.0", "x")])


@pytest.mark.parametrize(
    "pairs, says",
    [
        ([("x.", "*.")], r"more \* in the replacement '\*\.' than in 'x\.'"),
        ([("*.", "z.")], r"two tensors the name 'z\.w'"),
        ([("w.", "z.")], r"'w\.' is not the beginning .* x \(1\), y \(1\), xy \(1\)"),
        ([("x.", "y.")], r"two tensors the name 'y\.w'"),
    ],
)
def test_a_renaming_that_cannot_be_meant_is_refused(pairs, says):
    with pytest.raises(InvalidInputError, match=says) as caught:
        interchange.rename(RENAMED, pairs)
    assert caught.value.argument == "rename"

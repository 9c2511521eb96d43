"""The patches of the tutorial: no pixel is both trained and tested on."""

import itertools

import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_sample_image

from experiments import photo_patches

PARTS = [
    pytest.param(photo, part, id=f"{material}-{part}")
    for material, (photo, boxes) in photo_patches.MATERIALS.items()
    for box in boxes
    for part in photo_patches.split_box(box)
]


def overlap(one, other):
    return max(one[0], other[0]) < min(one[2], other[2]) and max(
        one[1], other[1]
    ) < min(one[3], other[3])


def test_no_two_parts_share_a_pixel():
    parts = [part.values for part in PARTS]
    parts.append(("flower.jpg", photo_patches.NEW))
    shared = [
        (one, other)
        for (photo, one), (other_photo, other) in itertools.combinations(parts, 2)
        if photo == other_photo and overlap(one, other)
    ]
    assert shared == []


@pytest.mark.parametrize("photo, part", PARTS)
def test_every_part_is_in_its_photo_and_holds_the_largest_patch(photo, part):
    height, width, _ = load_sample_image(photo).shape
    left, top, right, bottom = part
    assert 0 <= left <= right - photo_patches.LARGEST
    assert 0 <= top <= bottom - photo_patches.LARGEST
    assert right <= width
    assert bottom <= height

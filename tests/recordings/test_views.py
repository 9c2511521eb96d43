"""The views of a recording survive its manifest."""

import json

import pytest
from recording_support import DATASET

from jaxkd import data
from jaxkd.data import Augmentation
from jaxkd.recordings import Views, _views

# A value of each setting that is not its default.
CHANGED = {
    "crop_padding": 3,
    "flip": True,
    "randaugment": data.RandAugment(3, 7.0),
    "mixup": 0.2,
    "cutmix": 0.5,
    "random_resized_crop": (0.25, 0.75),
}


def views_with(name):
    views = Views.of(DATASET, epochs=2, batch_size=8, data_seed=3)
    return views._replace(augmentation=Augmentation(**{name: CHANGED[name]}))


@pytest.mark.parametrize("name", Augmentation._fields)
def test_each_setting_of_the_augmentation_is_stored(name):
    views = views_with(name)
    stored = json.loads(json.dumps(_views.to_json(views)))
    assert _views.from_json(stored) == views


@pytest.mark.parametrize("name", Augmentation._fields)
def test_each_setting_of_the_augmentation_is_kept_and_described(name):
    augmentation = views_with(name).augmentation
    assert _views.plain(augmentation) == augmentation
    assert _views.describe(augmentation) != _views.describe(None)

import numpy as np
import pytest
from flax import nnx
from model_support import abstract_rngs

from jaxkd import InvalidInputError, interchange, models
from jaxkd.interchange import _recognize
from jaxkd.interchange._layout import tensors
from jaxkd.models import _registry


def state_of(name, *, classes=10, channels=3, width=None):
    """Zeros of the network's shapes: values do not matter."""

    def build():
        return models.build(
            name,
            num_classes=classes,
            image_shape=(32, 32, channels),
            width=width,
            rngs=abstract_rngs(),
        )

    found = tensors(nnx.eval_shape(build))
    return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in found}


@pytest.mark.parametrize(
    "name, classes, channels", [("resnet8", 100, 3), ("resnet8x4", 7, 1)]
)
def test_the_network_its_classes_and_channels_are_found(name, classes, channels):
    state = state_of(name, classes=classes, channels=channels)
    assert interchange.recognize(state) == (name, classes, channels)


def test_all_networks_are_distinguished():
    templates = {name: _recognize._template(name, None, 32) for name in models.names()}
    named = {name: found for name, found in templates.items() if found.published}
    assert set(models.names()) - set(named) == {"mlp"}
    for name, template in named.items():
        state = {
            tensor: np.broadcast_to(np.float32(0), shape)
            for tensor, shape in template.shapes.items()
        }
        assert interchange.recognize(state) == (name, 10, 3)


def test_counts_of_batches_are_not_needed():
    state = {n: x for n, x in state_of("resnet8").items() if "num_batches" not in n}
    assert interchange.recognize(state).name == "resnet8"


def test_another_width_is_found_when_it_is_given():
    state = state_of("resnet8", width=4)
    among = ("resnet8", "resnet8x4", "resnet14")
    found = interchange.recognize(state, width=4, among=among)
    assert found.name == "resnet8"
    with pytest.raises(InvalidInputError, match="nearest is resnet8"):
        interchange.recognize(state)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda s: s.pop("layer2.0.bn2.bias"), "1 missing: layer2.0.bn2.bias"),
        (lambda s: s.update(extra=np.zeros(1)), "1 left over: extra"),
        (
            lambda s: s.update({"conv1.weight": s["conv1.weight"][:, :, 1:]}),
            r"1 of another shape: conv1.weight \(\[16, 3, 2, 3\], must be",
        ),
        (lambda s: s.pop("fc.weight"), "1 missing: fc.weight"),
        (
            lambda s: s.update({"fc.weight": np.zeros(3)}),
            r"1 of another shape: fc.weight \(\[3\], must be \[12, 64\]\)$",
        ),
        (lambda s: s.pop("fc.bias"), "1 missing: fc.bias"),
    ],
)
def test_the_error_names_the_nearest_network_and_the_differences(change, says):
    state = state_of("resnet8", classes=12)
    change(state)
    with pytest.raises(InvalidInputError, match=f"nearest is resnet8, with {says}"):
        interchange.recognize(state)


def test_a_state_dict_of_something_else_raises():
    state = {"encoder.weight": np.zeros((3, 3))}
    with pytest.raises(InvalidInputError, match="no network has exactly"):
        interchange.recognize(state)


def test_a_requested_network_that_does_not_fit_raises():
    with pytest.raises(InvalidInputError, match="does not fit resnet8: 6 left over"):
        interchange.recognize(state_of("resnet8x4"), among=("resnet8",))


@pytest.fixture
def twins(monkeypatch):
    """Two networks of the same names and shapes."""
    monkeypatch.setitem(_registry._MODELS, "twin", _registry._MODELS["resnet8"])


def test_the_error_lists_networks_with_the_same_tensors(twins):
    state = state_of("resnet8")
    among = ("resnet8", "resnet14", "twin")
    with pytest.raises(InvalidInputError, match="several networks: resnet8, twin;"):
        interchange.recognize(state, among=among)
    assert interchange.recognize(state, among=("twin",)).name == "twin"


class Tail(nnx.Module):
    """Its classifier is not what its checkpoints end with, and not called fc."""

    def __init__(self, *, num_classes, image_shape, width, dtype, rngs):
        del width, dtype
        self.scale = nnx.Linear(6, 6, rngs=rngs)
        self.classifier = nnx.Linear(6, num_classes, rngs=rngs)
        self.patches = nnx.Conv(image_shape[-1], 6, (4, 4), rngs=rngs)
        self.token = nnx.Param(rngs.normal((1, 1, 6)))

    def torch_layers(self):
        yield "token", self.token
        yield "patches", self.patches
        yield "head.1", self.classifier
        yield "scale", self.scale


def test_the_classifier_determines_the_number_of_classes_wherever_it_is(monkeypatch):
    monkeypatch.setitem(_registry._MODELS, "tail", Tail)
    state = state_of("tail", classes=17, channels=5)
    assert interchange.recognize(state, among=("tail",)) == ("tail", 17, 5)


def test_images_that_are_too_small_for_all_networks_raise():
    with pytest.raises(InvalidInputError, match="accepts images of 2x2"):
        interchange.recognize(state_of("resnet8"), image_size=2)

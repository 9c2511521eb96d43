import json
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from model_support import quickly_built
from support import build_resnet

from jaxkd import InvalidInputError, data, interchange, models, training
from jaxkd.interchange._to_onnx.translate import _RULES as RULES

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHAPE = (8, 8, 3)
NORMALIZATION = data.Normalization(
    np.float32([0.5071, 0.4867, 0.4408]), np.float32([0.2675, 0.2565, 0.2761])
)


def random_images(count, shape=SHAPE):
    return np.random.default_rng(5).integers(0, 256, (count, *shape), dtype=np.uint8)


def moved(network):
    """Moves a network's statistics and biases away from zero and one."""
    random = np.random.default_rng(1)
    state = nnx.state(network)
    for path, variable in nnx.to_flat_state(state):
        values = np.asarray(variable.get_value())
        if path[-1] in ("scale", "var"):
            variable.set_value(random.uniform(0.7, 1.3, values.shape).astype("float32"))
        elif path[-1] in ("bias", "mean"):
            variable.set_value(random.normal(0, 0.2, values.shape).astype("float32"))
    nnx.update(network, state)
    return network


@pytest.fixture(scope="module")
def frozen():
    network = moved(quickly_built(build_resnet(channels=3)))
    return training.freeze_teacher(network, NORMALIZATION)


@pytest.mark.parametrize("count", [1, 5])
def test_stored_images_give_the_logits_of_jax(tmp_path, frozen, count):
    interchange.write_onnx(tmp_path / "x.onnx", frozen, SHAPE)
    images = random_images(count)
    expected = jax.jit(frozen.apply)(frozen.variables, images).logits
    found = interchange.run_onnx(tmp_path / "x.onnx", images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_batches_do_not_change_the_logits(tmp_path, frozen):
    interchange.write_onnx(tmp_path / "x.onnx", frozen, SHAPE)
    images = random_images(5)
    whole = interchange.run_onnx(tmp_path / "x.onnx", images)
    found = interchange.run_onnx(tmp_path / "x.onnx", images, batch_size=2)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_the_file_is_valid_and_has_folded_normalizations(tmp_path, frozen):
    check = interchange.write_onnx(tmp_path / "x.onnx", frozen, SHAPE)
    model = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Sub") == 1  # of the images' normalization
    assert check.size == (tmp_path / "x.onnx").stat().st_size


def test_the_metadata_are_strings_and_json(tmp_path, frozen):
    description = {"model": "resnet8", "class_names": ["é", "b"], "width": None}
    path = tmp_path / "x.onnx"
    interchange.write_onnx(path, frozen, SHAPE, description=description)
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert found.keys() == {"model", "class_names"}
    assert found["model"] == "resnet8"
    assert json.loads(found["class_names"]) == ["é", "b"]


def test_the_file_is_the_same_every_time(tmp_path, frozen):
    for name in ("a", "b"):
        interchange.write_onnx(tmp_path / name, frozen, SHAPE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_deviation_is_that_from_jax(tmp_path, frozen, monkeypatch):
    """A rule that is off by 1e-3 is seen, and its file is not written."""
    right = RULES["dot_general"]

    def wrong(graph, equation, operands):
        (product,) = right(graph, equation, operands)
        factor = graph.constant(np.float32(1.001))
        return [product._replace(name=graph.add("Mul", [product.name, factor]))]

    monkeypatch.setitem(RULES, "dot_general", wrong)
    path = tmp_path / "x.onnx"
    with pytest.raises(InvalidInputError, match="differ from JAX's by up to"):
        interchange.write_onnx(path, frozen, SHAPE)
    assert not list(tmp_path.iterdir())
    check = interchange.write_onnx(path, frozen, SHAPE, tolerance=0.1)
    assert 2e-4 < check.deviation / check.largest < 2e-3


def test_what_exists_is_not_overwritten(tmp_path, frozen):
    (tmp_path / "x.onnx").write_text("precious")
    with pytest.raises(InvalidInputError, match="exists already"):
        interchange.write_onnx(tmp_path / "x.onnx", frozen, SHAPE)
    assert (tmp_path / "x.onnx").read_text() == "precious"


def test_a_missing_package_is_named_with_the_command(tmp_path, frozen, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InvalidInputError, match=r"onnxruntime.*pip install '.\[onnx\]'"
    ):
        interchange.write_onnx(tmp_path / "x.onnx", frozen, SHAPE)


def test_a_network_in_16_bits_is_refused(tmp_path, frozen):
    network = quickly_built(build_resnet(channels=3))
    half = training.freeze_teacher(network, NORMALIZATION, dtype="bfloat16")
    with pytest.raises(InvalidInputError, match="network uses bfloat16"):
        interchange.write_onnx(tmp_path / "x.onnx", half, SHAPE)


def test_a_network_of_yours_must_be_in_inference_mode(tmp_path):
    def network(images):
        return (images - images.mean(0, keepdims=True)).reshape(images.shape[0], -1)

    with pytest.raises(InvalidInputError, match="not in inference mode"):
        interchange.write_onnx(tmp_path / "x.onnx", training.freeze(network), SHAPE)


@pytest.mark.parametrize("says", ["there is no file", "cannot load"])
def test_a_file_that_cannot_be_run_is_refused(tmp_path, says):
    path = tmp_path / "x.onnx"
    if says == "cannot load":
        path.write_bytes(b"no model")
    with pytest.raises(InvalidInputError, match=says):
        interchange.run_onnx(path, random_images(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_network_can_be_written(tmp_path, name):
    size = models.published_image_size(name) or 32
    shape = (min(size, 64), min(size, 64), 3)
    build = lambda rngs: models.build(
        name, num_classes=10, image_shape=shape, rngs=rngs
    )
    frozen = training.freeze_teacher(moved(quickly_built(build)), NORMALIZATION)
    check = interchange.write_onnx(tmp_path / "x.onnx", frozen, shape)
    assert check.deviation <= 1e-5 * max(1, check.largest)

import numpy as np
import pytest
from model_support import quickly_built
from support import build_resnet

from jaxkd import InvalidInputError, interchange, training

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHAPE = (8, 8, 3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (64, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory, images):
    """A network as a file in float32, and in int8."""
    folder = tmp_path_factory.mktemp("onnx")
    frozen = training.freeze_teacher(quickly_built(build_resnet(channels=3)))
    interchange.write_onnx(
        folder / "float32.onnx", frozen, SHAPE, description={"model": "resnet8"}
    )
    size = interchange.quantize_onnx(
        folder / "float32.onnx", folder / "int8.onnx", images
    )
    assert size == (folder / "int8.onnx").stat().st_size
    return folder / "float32.onnx", folder / "int8.onnx"


def arrays(file):
    model = onnx.load(file)
    return {x.name: onnx.numpy_helper.to_array(x) for x in model.graph.initializer}


def test_weights_are_rounded_to_int8_with_a_scale_per_channel(files):
    exact, rounded = map(arrays, files)
    layers = [x for x in onnx.load(files[0]).graph.node if x.op_type == "Conv"]
    assert layers
    for name in (layer.input[1] for layer in layers):
        kernel = exact[name]
        integers, scale = rounded[f"{name}_quantized"], rounded[f"{name}_scale"]
        assert integers.dtype == np.int8
        assert scale.shape == kernel.shape[:1]
        scale = scale.reshape(-1, 1, 1, 1)
        assert np.abs(integers * scale - kernel).max() <= scale.max() * 0.51


def test_logits_change_little(files, images):
    exact, rounded = (interchange.run_onnx(file, images) for file in files)
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)


def test_the_metadata_stay(files):
    model = onnx.load(files[1])
    assert {x.key: x.value for x in model.metadata_props}["model"] == "resnet8"


def test_what_exists_is_not_overwritten(files, images):
    with pytest.raises(InvalidInputError, match="exists already"):
        interchange.quantize_onnx(*files, images)


def test_calibration_needs_images(tmp_path, files, images):
    with pytest.raises(InvalidInputError, match="no image to calibrate"):
        interchange.quantize_onnx(files[0], tmp_path / "x.onnx", images[:0])


def test_a_file_that_is_no_model_is_refused(tmp_path, images):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidInputError, match="cannot quantize"):
        interchange.quantize_onnx(tmp_path / "no.onnx", tmp_path / "x.onnx", images)
    assert not (tmp_path / "x.onnx").exists()

import json
import os
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
from flax import nnx
from model_support import quickly_built
from support import build_resnet

from jaxkd import InvalidInputError, data, interchange, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHAPE = (8, 8, 3)
NORMALIZATION = data.Normalization(
    np.float32([0.5071, 0.4867, 0.4408]), np.float32([0.2675, 0.2565, 0.2761])
)
# What a program without jaxkd and Flax does: the lines that the description gives.
LOADER = """
import json, sys
for name in ("jaxkd", "flax", "optax", "orbax"):
    sys.modules[name] = None
import numpy as np
images = np.load("images.npy")
exec("\\n".join(json.load(open("model.json"))["load"]))
few = network.call(images[:2])
assert logits.dtype == few.dtype == "float32"
np.savez("logits.npz", all=logits, few=few)
"""


@pytest.fixture(scope="module")
def network():
    return quickly_built(build_resnet(channels=3))


@pytest.fixture(scope="module")
def frozen(network):
    return training.freeze(network, NORMALIZATION)


def test_the_stablehlo_program_runs_without_jaxkd_for_all_batch_sizes(tmp_path, frozen):
    interchange.write_stablehlo(tmp_path / "model.stablehlo", frozen, SHAPE)
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-c", LOADER]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    expected = jax.jit(frozen.apply)(frozen.variables, images).logits
    with np.load(tmp_path / "logits.npz") as logits:
        np.testing.assert_allclose(logits["all"], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(logits["few"], expected[:2], rtol=1e-5, atol=1e-5)


def test_the_program_is_lowered_for_cpu_gpu_and_tpu(frozen):
    exported = interchange.export_stablehlo(frozen, SHAPE)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert str(exported.in_avals[0].shape[0]) == "batch"


def test_the_description_specifies_inputs_and_outputs(tmp_path, frozen):
    beside = interchange.write_stablehlo(
        tmp_path / "model.stablehlo",
        frozen,
        SHAPE,
        description={"class_names": ["a", "b", "c", "d"]},
    )
    description = json.loads(beside.read_text())
    assert description["input"]["shape"] == ["batch", 8, 8, 3]
    assert description["output"]["shape"] == ["batch", 4]
    assert description["class_names"] == ["a", "b", "c", "d"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.json",
        "model.stablehlo",
    ]


def test_plain_orbax_restores_the_arrays(tmp_path, network):
    interchange.write_orbax(tmp_path / "arrays", network)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "arrays")
    assert len(restored) == len(jax.tree.leaves(nnx.state(network)))
    for name in ("kernel", "bias"):
        expected = getattr(network.classifier, name)[...]
        np.testing.assert_array_equal(restored[f"classifier.{name}"], expected)
    variance = network.stem.norm.var[...]
    np.testing.assert_array_equal(restored["stem.norm.var"], variance)


def test_safetensors_files_contain_the_state_dict_and_the_metadata(tmp_path, network):
    path = tmp_path / "new folder" / "model.safetensors"
    interchange.write_safetensors(path, network, metadata={"model": "resnet8"})
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"model": "resnet8"}
        assert set(file.keys()) == set(interchange.to_state_dict(network))
    state = interchange.read_state_dict(path)
    for name, array in interchange.to_state_dict(network).items():
        np.testing.assert_array_equal(state[name], array, strict=True)


def test_existing_files_are_not_overwritten(tmp_path, network, frozen):
    for name in ("a.json", "b", "c.safetensors"):
        (tmp_path / name).write_text("precious")
    with pytest.raises(InvalidInputError, match=r"a\.json exists already"):
        interchange.write_stablehlo(tmp_path / "a.stablehlo", frozen, SHAPE)
    with pytest.raises(InvalidInputError, match="b exists already"):
        interchange.write_orbax(tmp_path / "b", network)
    with pytest.raises(InvalidInputError, match=r"c\.safetensors exists already"):
        interchange.write_safetensors(tmp_path / "c.safetensors", network)
    with pytest.raises(InvalidInputError, match=r"must not be \.json"):
        interchange.write_stablehlo(tmp_path / "d.json", frozen, SHAPE)
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", "b", "c.safetensors"}
    assert all(p.read_text() == "precious" for p in tmp_path.iterdir())


def test_a_link_to_nothing_is_not_replaced(tmp_path, network):
    (tmp_path / "m.safetensors").symlink_to("none")
    with pytest.raises(InvalidInputError, match="exists already"):
        interchange.write_safetensors(tmp_path / "m.safetensors", network)
    assert (tmp_path / "m.safetensors").is_symlink()


def test_a_file_beside_an_export_is_not_written(tmp_path, network):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / ".m.safetensors.tmp").symlink_to("mine")
    interchange.write_safetensors(tmp_path / "m.safetensors", network)
    assert (tmp_path / "mine").read_text() == "precious"
    assert (tmp_path / ".m.safetensors.tmp").is_symlink()


def test_a_failed_write_leaves_no_files(tmp_path, network):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        interchange.write_safetensors(tmp_path / "file" / "m.safetensors", network)
    with pytest.raises(OSError, match="could not write"):
        interchange.write_orbax(tmp_path / "file" / "arrays", network)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]

"""The same training on one device and on several, forced on the CPU."""

import functools

import numpy as np
import pytest
from device_support import BATCH, DIM, ROWS, on_devices

MANY = ({"data": 1}, {"data": 2}, {"data": 8})


def largest_deviation(found, alone):
    losses, expected = np.array(found["losses"]), np.array(alone["losses"])
    return np.max(np.abs(losses - expected) / np.abs(expected))


def assert_divided(found, itemsize):
    """Every device has its share of both tables, filled up to a whole row."""
    devices = len(found["bank_bytes"])
    rows = -(-ROWS // devices)
    assert found["bank_bytes"] == [2 * rows * DIM * itemsize] * devices


@pytest.mark.slow
def test_two_devices_train_as_one_and_share_the_bank(monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # of the process to start
    alone, two = on_devices(
        [{"mesh": mesh, "steps": 6} for mesh in MANY[:2]], devices=2
    )
    assert largest_deviation(two, alone) < 1e-5
    assert np.ptp(alone["losses"]) > 1  # it learns
    np.testing.assert_allclose(two["test"], alone["test"], rtol=1e-5)
    assert_divided(alone, 4)
    assert_divided(two, 4)


@pytest.mark.slow
@pytest.mark.parametrize("trials", [None, 2])
def test_a_recording_teaches_on_two_devices_as_the_network_does(
    tmp_path, monkeypatch, trials
):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # of the process to start
    meshes = ({"data": 1}, {"data": 2})
    case = {"steps": 6, "trials": trials}
    recorded = [{**case, "mesh": mesh, "recorded": str(tmp_path)} for mesh in meshes]
    network, alone, two = on_devices(
        [{**case, "mesh": meshes[0]}, *recorded], devices=2
    )
    assert largest_deviation(alone, network) < 1e-5
    assert largest_deviation(two, network) < 1e-5


@functools.cache
def found(method, negatives, x64):
    """20 steps on 1, 2 and 8 devices."""
    case = {"steps": 20, "method": method, "negatives": negatives}
    return on_devices([{**case, "mesh": mesh} for mesh in MANY], x64=x64)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("method", "negatives"),
    [("hkd+kd", "sampled"), ("hkd+kd", "shared"), ("hkd+kd", "all"), ("crd+kd", "all")],
)
def test_twenty_steps_have_the_losses_of_one_device(method, negatives, x64):
    alone, *others = found(method, negatives, x64)
    for several in others:
        assert largest_deviation(several, alone) < (1e-10 if x64 else 1e-5)
        assert_divided(several, 8 if x64 else 4)


@pytest.mark.slow
def test_trials_lie_over_their_own_axis():
    meshes = ({"data": 1}, {"trial": 2, "data": 1}, {"data": 2, "trial": 4})
    alone, over_trials, over_both = on_devices(
        [{"mesh": mesh, "steps": 20, "trials": 4} for mesh in meshes], x64=True
    )
    assert np.shape(alone["losses"]) == (20, 4)
    for several, trials in ((over_trials, 2), (over_both, 1)):
        assert largest_deviation(several, alone) < 1e-10
        np.testing.assert_allclose(several["test"], alone["test"], rtol=1e-5)
        rows = -(-ROWS // (len(several["bank_bytes"]) * trials // 4))
        share = trials * 2 * rows * DIM * 8
        assert set(several["bank_bytes"]) == {share}
    assert BATCH % 8 == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hkd+kd", "crd+kd"])
def test_a_checkpoint_goes_on_over_another_number_of_devices(tmp_path, method):
    one, eight = ({"mesh": {"data": n}, "method": method} for n in (1, 8))
    few, many = str(tmp_path / "one"), str(tmp_path / "eight")
    whole, _, _, on_eight, on_one = on_devices(
        [
            {**one, "steps": 6},
            {**one, "steps": 3, "save": few},
            {**eight, "steps": 3, "save": many},
            {**eight, "steps": 3, "resume": few},
            {**one, "steps": 3, "resume": many},
        ]
    )
    rest = {"losses": whole["losses"][3:]}
    assert largest_deviation(on_eight, rest) < 1e-5
    assert largest_deviation(on_one, rest) < 1e-5
    assert_divided(on_eight, 4)
    assert_divided(on_one, 4)

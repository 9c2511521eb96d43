"""What float16 and the top k logits keep, and what they lose."""

import jax
import numpy as np
import pytest
from recording_support import DATASET, draw, record, views_of

from jaxkd import recordings
from jaxkd._errors import InvalidInputError, InvalidTypeError

ROWS = np.arange(40)


def softmax(logits, temperature=1.0):
    """Probabilities in float64; minus infinity has none."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def top_k_by_sorting(logits, k):
    """The k largest logits of each row, and one number for all others, in float64."""
    dense = np.empty(logits.shape, np.float64)
    for row, out in zip(np.asarray(logits, np.float64), dense, strict=True):
        order = sorted(range(len(row)), key=lambda i: -row[i])
        mass = sum(np.exp(row[i]) for i in order[k:])
        out[:] = np.log(mass / (len(row) - k)) if mass else -np.inf
        out[order[:k]] = row[order[:k]]
    return dense


def read(path, logits, **settings):
    """Record logits of clean images, and return them decoded inside jit."""
    record(path, 0, {"logits": logits[None]}, **settings)
    recording = recordings.open(path)
    decode = jax.jit(recording.decode)
    return np.asarray(decode(recording.stored(0, ROWS)).logits), recording


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_keeps_the_largest_logits_and_the_mass_of_the_others(tmp_path, k):
    logits = draw(0)[0]
    found, _ = read(tmp_path, logits, top_k=k)
    np.testing.assert_allclose(found, top_k_by_sorting(logits, k), rtol=1e-6)
    kept = np.argsort(logits, -1)[:, -k:]
    exact, decoded = softmax(logits), softmax(found)
    np.testing.assert_allclose(
        np.take_along_axis(decoded, kept, -1),
        np.take_along_axis(exact, kept, -1),
        rtol=1e-6,
    )


def test_top_k_is_exact_for_logits_beyond_the_range_of_exp(tmp_path):
    logits = 1e4 + draw(0)[0] * 10
    found, _ = read(tmp_path, logits, top_k=2)
    exact = top_k_by_sorting(logits - 1e4, 2) + 1e4
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_top_k_keeps_classes_that_are_excluded(tmp_path):
    logits = draw(0)[0]
    logits[:, 1:] = -np.inf
    found, recording = read(tmp_path, logits, top_k=2)
    np.testing.assert_array_equal(found, logits)
    assert recording.deviations["logits"]["values"] == 0


def test_an_excluded_class_that_shares_the_mass_is_an_infinite_deviation(tmp_path):
    logits = draw(0)[0]
    logits[:, 1] = -np.inf
    _, recording = read(tmp_path, logits, top_k=1)
    assert recording.deviations["logits"]["values"] == np.inf
    assert recording.deviations["logits"]["probabilities"] < 1


def test_the_largest_deviation_of_float16_is_stated(tmp_path):
    logits = draw(0)[0]
    found, recording = read(tmp_path, logits, dtype="float16")
    np.testing.assert_array_equal(found, logits.astype(np.float16).astype(np.float32))
    assert recording.deviations == {
        "logits": {"values": float(np.abs(found - logits).max())}
    }


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_largest_deviations_of_top_k_are_stated(tmp_path, dtype):
    logits = draw(0)[0]
    found, recording = read(tmp_path, logits, top_k=2, dtype=dtype)
    stated = recording.deviations["logits"]
    assert stated["values"] == pytest.approx(np.abs(found - logits).max())
    for name, temperature in (("probabilities", 1), ("probabilities_at_4", 4)):
        both = softmax(found, temperature), softmax(logits, temperature)
        assert stated[name] == pytest.approx(np.abs(both[0] - both[1]).max(), rel=1e-5)
    for name, temperature in (("others", 1), ("others_at_4", 4)):
        others = np.sort(softmax(logits, temperature), -1)[:, :-2].sum(-1)
        assert stated[name] == pytest.approx(others.max(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 8.0, np.inf])
def test_the_mass_of_the_others_is_exact_at_the_stored_temperatures(
    tmp_path, temperature
):
    logits = draw(0)[0]
    _, recording = read(tmp_path, logits, top_k=2)
    top = recording.decode(recording.stored(0, ROWS)).top_logits
    others = np.sort(logits.astype(np.float64), -1)[:, :-2]
    if np.isinf(temperature):
        expected = others.mean(-1)
    else:
        expected = temperature * np.log(np.exp(others / temperature).mean(-1))
    np.testing.assert_allclose(top.remainder(temperature), expected, rtol=1e-5)


def test_excluded_classes_outside_the_top_k_have_no_mass(tmp_path):
    logits = draw(0)[0]
    logits[:, 2:] = -np.inf
    _, recording = read(tmp_path, logits, top_k=2)
    top = recording.decode(recording.stored(0, ROWS)).top_logits
    np.testing.assert_array_equal(top.remainder(3.0), -np.inf)


def test_deviations_are_the_largest_of_all_epochs(tmp_path):
    logits = draw(2)
    logits[0] *= 100
    record(tmp_path, 2, {"logits": logits}, dtype="float16")
    stated = recordings.open(tmp_path).deviations["logits"]["values"]
    assert stated == np.abs(logits - logits.astype(np.float16).astype("f")).max()


def test_float32_states_no_deviation(tmp_path):
    _, recording = read(tmp_path, draw(0)[0])
    assert recording.deviations["logits"] == {}


def test_a_logit_beyond_float16_is_refused_with_its_value(tmp_path):
    logits = draw(0)[0]
    logits[7, 1] = 70000
    with pytest.raises(InvalidInputError, match="logits has the value 70000, but"):
        read(tmp_path, logits, dtype="float16")


@pytest.mark.parametrize("k", [4, 5])
def test_top_k_of_all_classes_is_refused(tmp_path, k):
    with pytest.raises(InvalidInputError, match=f"top_k is {k}, but the teacher has 4"):
        read(tmp_path, draw(0)[0], top_k=k)


@pytest.mark.parametrize(
    "settings, kind, says",
    [
        ({"top_k": 0}, InvalidInputError, "top_k must be at least 1, got 0"),
        ({"dtype": "int8"}, InvalidInputError, "one of float32, float16, got int8"),
        ({"class_names": ()}, InvalidInputError, "one name per class"),
        ({"teacher": {"x": object()}}, InvalidTypeError, "teacher must consist of"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, settings, kind, says):
    with pytest.raises(kind, match=says):
        record(tmp_path / "a", 0, {"logits": draw(0)}, **settings)
    assert not (tmp_path / "a").exists()


def test_top_k_without_logits_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="there are no logits to choose from"):
        record(tmp_path, 0, {"embedding": draw(0)}, top_k=2)


@pytest.mark.parametrize("settings", [{}, {"dtype": "float16"}, {"top_k": 2}])
@pytest.mark.parametrize("epochs", [0, 2])
def test_the_announced_size_is_that_of_the_files(tmp_path, epochs, settings):
    outputs = {"logits": draw(epochs), "embedding": draw(epochs, shape=(5,))}
    rows = np.zeros((max(1, epochs), views_of(epochs).rows_per_epoch), int)
    rows[:] = np.arange(rows.shape[1]) % 40
    record(tmp_path, epochs, outputs, rows=rows, **settings)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    shapes = {name: x.shape[2:] for name, x in outputs.items()}
    assert recordings.size(views_of(epochs), shapes, **settings) == written


def test_the_size_is_announced_in_words():
    views = recordings.Views.of(DATASET, epochs=1, batch_size=1, data_seed=0)
    views = views._replace(rows=50_000, epochs=240, batch_size=64)
    says = recordings.describe_size(views, {"logits": (100,)}, dtype="float16")
    assert says == "2.5 GB for 240 epochs x 50,000 x 100 in float16"
    clean = views._replace(epochs=0)
    shapes = {"logits": (100,), "stages.0": (8, 8, 16)}
    assert recordings.describe_size(clean, shapes, top_k=5) == (
        "207.3 MB for clean images x 50,000 rows (logits 100, stages.0 8 x 8 x 16) in "
        "float32, of the logits the largest 5"
    )

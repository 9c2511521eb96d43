"""Several recordings as one teacher: the mean of their softened probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recording_support import BATCH, DATASET, ON, draw, record, recorded, views_of

from jaxkd import losses, recordings
from jaxkd._errors import InvalidInputError

ROWS = np.arange(40)
WEIGHTS = (0.2, 0.5, 0.3)


def members(path, epochs=0, scale=3.0):
    """Three recordings, and their logits."""
    logits = [draw(epochs, seed=seed, scale=scale) for seed in range(3)]
    for i, x in enumerate(logits):
        record(path / str(i), epochs, {"logits": x})
    return [recordings.open(path / str(i)) for i in range(3)], logits


def softmax(logits, temperature):
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0, 1e4])
def test_its_probabilities_are_the_weighted_mean_of_its_members(tmp_path, temperature):
    opened, logits = members(tmp_path)
    teacher = recordings.ensemble(opened, weights=WEIGHTS, temperature=temperature)
    found = jax.jit(teacher.decode)(teacher.stored(0, ROWS)).logits
    mean = sum(
        w * softmax(x[0], temperature) for w, x in zip(WEIGHTS, logits, strict=True)
    )
    # The logits themselves, also where a probability underflows: no sum of powers.
    exact = temperature * np.log(mean)
    reliable = mean > 1e-30
    np.testing.assert_allclose(
        np.asarray(found)[reliable], exact[reliable], rtol=2e-5, atol=2e-5
    )
    np.testing.assert_allclose(softmax(found, temperature), mean, rtol=1e-4, atol=1e-9)


def test_it_is_computed_in_log_space(tmp_path):
    opened, _ = members(tmp_path, scale=1e4)
    teacher = recordings.ensemble(opened, temperature=1.0)
    assert np.isfinite(teacher.decode(teacher.stored(0, ROWS)).logits).all()


def test_kd_minimizes_the_divergence_from_the_mean(tmp_path):
    temperature = 4.0
    opened, logits = members(tmp_path)
    teacher = recordings.ensemble(opened, weights=WEIGHTS, temperature=temperature)
    target = teacher.decode(teacher.stored(0, ROWS)).logits
    student = np.random.default_rng(9).normal(0, 2, (40, 4)).astype("f")

    def kd(x):
        return losses.soft_target_kl(x, target, temperature=temperature).sum()

    value, gradient = jax.value_and_grad(kd)(jnp.asarray(student))
    mean = sum(
        w * softmax(x[0], temperature) for w, x in zip(WEIGHTS, logits, strict=True)
    )
    own = softmax(student, temperature)
    divergence = np.sum(mean * (np.log(mean) - np.log(own)))
    np.testing.assert_allclose(value, temperature**2 * divergence, rtol=1e-5)
    np.testing.assert_allclose(gradient, temperature * (own - mean), atol=1e-5)


def test_without_weights_all_members_count_alike(tmp_path):
    opened, _ = members(tmp_path)
    equal = recordings.ensemble(opened, weights=[1 / 3] * 3, temperature=2.0)
    default = recordings.ensemble(opened, temperature=2.0)
    assert default.fingerprint == equal.fingerprint
    batch = default.stored(0, ROWS)
    np.testing.assert_array_equal(
        default.decode(batch).logits, equal.decode(batch).logits
    )


def test_a_class_that_all_members_exclude_is_excluded(tmp_path):
    logits = draw(0)
    logits[0, :, 1] = -np.inf
    record(tmp_path / "a", 0, {"logits": logits})
    opened = [recordings.open(tmp_path / "a")] * 2
    teacher = recordings.ensemble(opened, temperature=4.0)
    found = teacher.decode(teacher.stored(0, ROWS)).logits
    assert np.isneginf(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2, 3]]).all()


def test_a_run_must_fit_all_members_for_as_long_as_the_shortest(tmp_path):
    record(tmp_path / "a", 3, {"logits": draw(3)})
    record(tmp_path / "b", 3, {"logits": draw(3, seed=1)}, until=2)
    opened = [recordings.open(tmp_path / name) for name in "ab"]
    teacher = recordings.ensemble(opened, temperature=4.0)
    assert teacher.views.epochs == 2
    settings = {"augmentation": ON, "batch_size": BATCH, "data_seed": 3}
    teacher.check(DATASET, epochs=2, **settings)
    with pytest.raises(InvalidInputError, match=f"{tmp_path / 'b'} has 2"):
        teacher.check(DATASET, epochs=3, **settings)
    shape = teacher.abstract(BATCH).logits
    assert (
        teacher.decode(teacher.stored(5, np.zeros(BATCH))).logits.shape == shape.shape
    )


def test_it_has_only_logits(tmp_path):
    teacher = recordings.ensemble(members(tmp_path)[0], temperature=4.0)
    with pytest.raises(InvalidInputError, match="embedding, but an ensemble has only"):
        teacher.abstract(2).embedding.shape  # noqa: B018


@pytest.mark.parametrize(
    "weights, says",
    [
        ([0.5, 0.4, 0.2], r"weights must sum to 1, but 0\.5 \+ 0\.4 \+ 0\.2 is 1\.1"),
        ([0.5, 0.5], "weights has 2 numbers for 3 recordings"),
        ([0.5, 0.5, 0.0], "weights must be positive, got 0.0"),
        ([1.5, -0.2, -0.3], "weights must be positive, got -0.2"),
        ([0.5, 0.5, float("nan")], "weights must be positive, got nan"),
    ],
)
def test_weights_that_are_no_mean_are_refused(tmp_path, weights, says):
    opened, _ = members(tmp_path)
    with pytest.raises(InvalidInputError, match=says):
        recordings.ensemble(opened, weights=weights, temperature=4.0)


def test_weights_may_be_rounded(tmp_path):
    opened, _ = members(tmp_path)
    recordings.ensemble(
        opened, weights=[0.3333333, 0.3333333, 0.3333334], temperature=1
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(tmp_path, temperature):
    opened, _ = members(tmp_path)
    with pytest.raises(InvalidInputError, match="temperature"):
        recordings.ensemble(opened, temperature=temperature)


def test_members_of_other_images_are_refused_with_both_values(tmp_path):
    first = recorded(tmp_path / "a", 2)
    others = {
        "data seed of": (views_of(2, data_seed=4), "3", "4"),
        "batch size of": (views_of(2, batch_size=8), "16", "8"),
        "augmentation of": (views_of(0), "crops with padding 1, flips", "clean images"),
    }
    for name, (views, one, two) in others.items():
        path = tmp_path / name.split()[0]
        logits = np.zeros((2, views.rows_per_epoch, 4), "f")
        record(path, views.epochs, {"logits": logits}, views=views)
        other = recordings.open(path)
        says = f"{name} {tmp_path / 'a'} is {one}, and that of {path} is {two}"
        with pytest.raises(InvalidInputError, match=says):
            recordings.ensemble([first, other], temperature=1.0)


def test_one_recording_and_one_without_logits_are_refused(tmp_path):
    first = recorded(tmp_path / "a")
    record(tmp_path / "b", 0, {"embedding": draw(0)})
    with pytest.raises(InvalidInputError, match="at least two, got 1"):
        recordings.ensemble([first], temperature=1.0)
    with pytest.raises(InvalidInputError, match="has only embedding"):
        recordings.ensemble([first, recordings.open(tmp_path / "b")], temperature=1.0)

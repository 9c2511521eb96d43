import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

BATCH = 12
LABELS = jnp.arange(BATCH)
# Every image is constant, with the value of its label: what is mixed in shows.
IMAGES = jnp.broadcast_to(
    LABELS[:, None, None, None].astype(jnp.float32), (BATCH, 8, 6, 1)
)
MIXUP, CUTMIX = data.Augmentation(mixup=1.0), data.Augmentation(cutmix=1.0)
BOTH = data.Augmentation(mixup=1.0, cutmix=1.0)
KEYS = range(30)


def mixed(seed, settings, images=IMAGES):
    mix = jax.jit(data.mix, static_argnums=3)
    return mix(jax.random.key(seed), images, LABELS, settings)


def share_of_partner(images, partner):
    """From the mean of each image, which mixes the two labels."""
    distance = np.asarray(partner - LABELS, np.float64)
    moved = np.asarray(images, np.float64).mean((1, 2, 3)) - np.asarray(LABELS)
    differs = distance != 0
    assert (moved[~differs] == 0).all()
    return moved[differs] / distance[differs]


@pytest.mark.parametrize(
    "settings", [MIXUP, CUTMIX, pytest.param(BOTH, marks=pytest.mark.slow)]
)
def test_the_share_is_that_of_the_partner_and_at_most_half(settings):
    for seed in KEYS:
        images, what = mixed(seed, settings)
        assert 0 <= what.share <= 0.5
        np.testing.assert_array_equal(np.sort(what.labels), LABELS)
        shares = share_of_partner(images, what.labels)
        np.testing.assert_allclose(shares, float(what.share), atol=1e-5)


def test_mixup_blends_all_pixels_with_the_same_weight():
    for seed in KEYS:
        images, what = mixed(seed, MIXUP)
        own, partner = LABELS.astype(jnp.float32), what.labels.astype(jnp.float32)
        expected = (1 - what.share) * own + what.share * partner
        np.testing.assert_allclose(images[:, 0, 0, 0], expected, rtol=1e-5)
        np.testing.assert_array_equal(np.ptp(np.asarray(images), axis=(1, 2, 3)), 0)


def test_cutmix_replaces_a_box_or_its_complement():
    for seed in KEYS:
        images, what = mixed(seed, CUTMIX)
        other = np.asarray(what.labels != LABELS)
        pasted = np.asarray(images[..., 0] != IMAGES[..., 0])[other]
        assert (pasted == pasted[0]).all()
        partner = np.asarray(what.labels, np.float32)[other, None, None]
        found = np.where(pasted, np.asarray(images[..., 0])[other], partner)
        np.testing.assert_array_equal(found, np.broadcast_to(partner, found.shape))
        mask = pasted[0]
        boxes = [np.outer(m.any(1), m.any(0)) for m in (mask, ~mask)]
        assert (boxes[0] == mask).all() or (boxes[1] == ~mask).all()


def test_each_batch_uses_one_of_both_methods():
    flat = [np.ptp(np.asarray(mixed(seed, BOTH)[0])[0]) == 0 for seed in KEYS]
    assert 5 < sum(flat) < 30


def test_the_share_of_mixup_has_the_folded_beta_distribution():
    share = lambda key: data.mix(key, IMAGES, LABELS, settings)[1].share
    settings = data.Augmentation(mixup=0.4)
    draws = jax.jit(jax.vmap(share))(jax.random.split(jax.random.key(0), 4000))
    rng = np.random.default_rng(0).beta(0.4, 0.4, 200_000)
    expected = np.minimum(rng, 1 - rng)
    for q in (0.25, 0.5, 0.75):
        below = np.mean(np.asarray(draws) < np.quantile(expected, q))
        assert abs(below - q) < 0.035  # four standard deviations


def test_uint8_images_are_rounded():
    images, what = mixed(1, MIXUP, (IMAGES * 20).astype(jnp.uint8))
    floats, _ = mixed(1, MIXUP, IMAGES * 20)
    assert images.dtype == jnp.uint8
    assert float(what.share) > 0
    np.testing.assert_array_equal(images, np.round(floats))


def test_nothing_is_traced_if_both_methods_are_off():
    images, what = data.mix(jax.random.key(0), IMAGES, LABELS, data.Augmentation(4))
    assert images is IMAGES
    assert what is None


@pytest.mark.parametrize("alpha", [-1.0, float("nan")])
def test_an_invalid_parameter_raises(alpha):
    for name in ("mixup", "cutmix"):
        with pytest.raises(InvalidInputError, match=f"{name} must lie in"):
            data.mix(
                jax.random.key(0), IMAGES, LABELS, data.Augmentation(**{name: alpha})
            )

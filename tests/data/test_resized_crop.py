"""Crops of random size, against transcriptions of torchvision's rule and of Pillow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._resized_crop import draw_boxes, resize_boxes

pytestmark = pytest.mark.usefixtures("quickly_compiled")

compiled = jax.jit(data.augment, static_argnums=2)


def random_images(*shape):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def boxes_by_loops(rng, count, height, width, scale):
    """Draw boxes as the loop of torchvision's RandomResizedCrop.get_params does."""
    return np.array([_box(rng, height, width, scale) for _ in range(count)])


def _box(rng, height, width, scale):
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


def resized(image, box, mirror):
    """Resample one box in float64: bilinear, as if nothing surrounded it."""
    top, left, h, w = box
    crop = image[top : top + h, left : left + w].astype(float)
    height, width = image.shape[:2]
    y = np.clip((np.arange(height) + 0.5) * h / height - 0.5, 0, h - 1)
    x = np.clip((np.arange(width) + 0.5) * w / width - 0.5, 0, w - 1)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, h - 1), np.minimum(x0 + 1, w - 1)
    dy, dx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    top_row = crop[y0][:, x0] * (1 - dx) + crop[y0][:, x1] * dx
    bottom_row = crop[y1][:, x0] * (1 - dx) + crop[y1][:, x1] * dx
    result = top_row * (1 - dy) + bottom_row * dy
    return result[:, ::-1] if mirror else result


BOXES = [(0, 0, 9, 7), (2, 3, 4, 3), (8, 6, 1, 1), (0, 1, 9, 1), (4, 0, 2, 7)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_each_box_is_resampled_as_by_the_transcription(dtype):
    images = random_images(len(BOXES), 9, 7, 3)
    if dtype == np.float32:
        images = images.astype(np.float32) / 255
    mirrored = np.arange(len(BOXES)) % 2 == 1
    actual = resize_boxes(jnp.asarray(images), jnp.array(BOXES), jnp.asarray(mirrored))
    expected = np.stack(
        [resized(*each) for each in zip(images, BOXES, mirrored, strict=True)]
    )
    assert actual.dtype == dtype
    # Half of a level by rounding, and float32.
    atol = 0.5 + 1e-4 if dtype == np.uint8 else 1e-6
    np.testing.assert_allclose(np.asarray(actual, float), expected, atol=atol, rtol=0)


@pytest.mark.parametrize("box", BOXES)
def test_a_resized_box_is_that_of_pillow_up_to_one_level(box):
    image = random_images(9, 7, 3)
    top, left, h, w = box
    crop = Image.fromarray(image[top : top + h, left : left + w])
    expected = np.asarray(crop.resize((7, 9), Image.Resampling.BILINEAR), int)
    boxes, unmirrored = jnp.array([box]), jnp.zeros(1, bool)
    actual = np.asarray(resize_boxes(jnp.asarray(image)[None], boxes, unmirrored)[0])
    assert np.abs(actual.astype(int) - expected).max() <= 1


def test_the_whole_image_and_its_mirror_image_are_exact():
    images = random_images(2, 9, 7, 3)
    boxes, mirrored = jnp.array([(0, 0, 9, 7)] * 2), jnp.array([False, True])
    plain, mirror = np.asarray(resize_boxes(jnp.asarray(images), boxes, mirrored))
    np.testing.assert_array_equal(plain, images[0])
    np.testing.assert_array_equal(mirror, images[1][:, ::-1])


def test_pixels_outside_of_the_box_have_no_influence():
    image = np.full((1, 8, 8, 1), 255, np.uint8)
    image[0, 2:5, 3:7] = 100
    boxes, unmirrored = jnp.array([(2, 3, 3, 4)]), jnp.zeros(1, bool)
    assert (
        np.asarray(resize_boxes(jnp.asarray(image), boxes, unmirrored)) == 100
    ).all()


def shares(values, size):
    return np.bincount(values, minlength=size + 1) / len(values)


@pytest.mark.parametrize(
    "size, scale",
    [((9, 9), (0.08, 1.0)), ((6, 11), (0.5, 1.0)), ((4, 12), (0.9, 1.0))],
)
def test_boxes_have_the_distribution_of_torchvisions_loop(size, scale):
    height, width = size
    count = 20_000
    draw = jax.jit(draw_boxes, static_argnums=(1, 2, 3))
    ours = np.asarray(draw(jax.random.key(0), count, size, scale))
    theirs = boxes_by_loops(np.random.default_rng(1), count, height, width, scale)
    for column, limit in enumerate((height, width, height, width)):
        difference = shares(ours[:, column], limit) - shares(theirs[:, column], limit)
        # Five standard deviations of the difference of two shares of 20,000.
        assert np.abs(difference).max() < 5 * math.sqrt(2 * 0.25 / count)
    # Sides and places depend on each other; a joint statistic sees it.
    for i, j in ((2, 3), (0, 2), (1, 3)):
        ours_, theirs_ = (np.mean(x[:, i] * x[:, j]) for x in (ours, theirs))
        spread = np.std(theirs[:, i] * theirs[:, j])
        assert abs(ours_ - theirs_) <= 5 * spread * math.sqrt(2 / count)


@pytest.mark.parametrize(
    "size, box",
    [((8, 8), (0, 0, 8, 8)), ((4, 40), (0, 17, 4, 5)), ((40, 4), (17, 0, 5, 4))],
)
def test_the_largest_centered_box_is_used_if_no_candidate_fits(size, box):
    # The area 0.99 or more needs a side that is too long, except for squares.
    scale = (1.0, 1.0)
    boxes = np.asarray(draw_boxes(jax.random.key(0), 64, size, scale))
    if size[0] != size[1]:
        assert (boxes == box).all()
    else:
        assert (boxes[:, 2:] <= size).all()
        assert (boxes == box).all(axis=1).any()


def test_boxes_lie_within_the_image():
    boxes = np.asarray(draw_boxes(jax.random.key(2), 5000, (5, 7), (0.01, 1.0)))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [5, 7]).all()


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_augment_keeps_dtype_and_shape(dtype):
    settings = data.Augmentation(flip=True, random_resized_crop=(0.25, 1.0))
    images = jnp.ones((2, 4, 5, 1), dtype)
    augmented = compiled(jax.random.key(0), images, settings)
    assert augmented.dtype == dtype
    assert (np.asarray(augmented) == np.asarray(images)).all()


def test_half_of_the_images_are_mirrored_if_asked():
    columns = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None], (2000, 8, 8, 1))
    for flip, expected in ((False, 0.0), (True, 0.5)):
        settings = data.Augmentation(flip=flip, random_resized_crop=(0.5, 1.0))
        result = np.asarray(compiled(jax.random.key(0), columns, settings)).astype(int)
        share = np.mean(result[:, 0, 0, 0] > result[:, 0, -1, 0])
        assert abs(share - expected) < 0.05


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_crop_lowers_for_other_platforms(platform):
    settings = data.Augmentation(flip=True, random_resized_crop=(0.08, 1.0))
    images = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.uint8)
    traced = compiled.trace(jax.random.key(0), images, settings)
    assert traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    "scale", [(0.0, 1.0), (0.5, 0.4), (0.5, 1.1), (math.nan, 1.0), 1]
)
def test_shares_outside_of_0_to_1_are_refused(scale):
    settings = data.Augmentation(random_resized_crop=scale)
    with pytest.raises(InvalidInputError, match="random_resized_crop must be") as error:
        data.augment(jax.random.key(0), random_images(2, 4, 4, 1), settings)
    assert error.value.argument == "random_resized_crop"


def test_two_kinds_of_crops_are_refused():
    settings = data.Augmentation(crop_padding=1, random_resized_crop=(0.5, 1.0))
    split = data.Split(random_images(2, 4, 4, 1), np.arange(2))
    with pytest.raises(InvalidInputError, match="random_resized_crop replaces"):
        data.ImageDataset("mine", split, split, 2, augmentation=settings)

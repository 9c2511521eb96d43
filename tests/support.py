"""Small datasets and networks that the tests share."""

import chex
import jax
import numpy as np
from flax import nnx

from jaxkd import data, models

NO_AUGMENTATION = data.Augmentation(crop_padding=0, flip=False)


def make_dataset(
    rows=40, *, test_rows=23, classes=4, size=8, channels=1, seed=0
) -> data.ImageDataset:
    """Random images whose class shows in one bright quadrant: quick to learn."""
    rng = np.random.default_rng(seed)

    def split(count):
        labels = (np.arange(count) % classes).astype(np.int32)
        images = rng.integers(0, 100, (count, size, size, channels), dtype=np.uint8)
        half = size // 2
        for image, label in zip(images, labels, strict=True):
            top, left = divmod(int(label) % 4, 2)
            image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 120
        return data.Split(images, labels)

    return data.ImageDataset(
        name="quadrants",
        train=split(rows),
        test=split(test_rows),
        num_classes=classes,
        class_names=tuple(f"class {i}" for i in range(classes)),
        augmentation=NO_AUGMENTATION,
        fingerprint="test",
    )


def build_mlp(classes=4, hidden=16, size=8, channels=1):
    """A builder of a small MLP, as `compile_program` takes it."""

    def build(rngs: nnx.Rngs) -> nnx.Module:
        return models.build(
            "mlp",
            num_classes=classes,
            image_shape=(size, size, channels),
            width=hidden,
            rngs=rngs,
        )

    return build


def build_resnet(classes=4, size=8, channels=1):
    """A builder of a resnet8 with 4 channels: the smallest with batch statistics."""

    def build(rngs: nnx.Rngs) -> nnx.Module:
        return models.build(
            "resnet8",
            num_classes=classes,
            image_shape=(size, size, channels),
            width=4,
            rngs=rngs,
        )

    return build


def arrays(tree) -> list[np.ndarray]:
    """The leaves of a pytree as NumPy arrays; typed keys as integers."""
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        for leaf in jax.tree.leaves(tree)
    ]


def assert_bitwise_equal(left, right):
    """Asserts that two pytrees hold the same bits."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    chex.assert_trees_all_equal(arrays(left), arrays(right), strict=True)

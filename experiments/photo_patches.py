"""Cut two photos into patches of seven materials: a small dataset of real pictures.

    pip install scikit-learn
    python -m experiments.photo_patches photos

The photos are those that scikit-learn ships: china.jpg by danielbuechele and flower.jpg
by vultilion, both from Flickr under CC BY 2.0. Training patches are from the left two
thirds of each box below, test patches from the right third: no pixel is in both. The
folder new/ gets patches of the second flower, which is in no box.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

Box = tuple[int, int, int, int]  # left, top, right, bottom

# Where each material is: in which photo, and in which boxes.
MATERIALS: dict[str, tuple[str, list[Box]]] = {
    "lake": ("china.jpg", [(352, 240, 540, 285)]),
    "leaf": ("flower.jpg", [(0, 40, 150, 330), (450, 20, 640, 380)]),
    "petal": ("flower.jpg", [(190, 115, 425, 330)]),
    "roof": ("china.jpg", [(150, 76, 270, 110), (85, 255, 340, 280)]),
    "sky": ("china.jpg", [(330, 0, 640, 130)]),
    "tree": ("china.jpg", [(350, 330, 560, 427), (0, 350, 180, 427)]),
    "wall": ("china.jpg", [(110, 190, 310, 232), (85, 290, 335, 342)]),
}
NEW: Box = (315, 380, 440, 427)  # the second flower
SMALLEST, LARGEST = 18, 25  # pixels


def split_box(box: Box) -> tuple[Box, Box]:
    """Return the left two thirds of a box, to train on, and the rest, to test on."""
    left, top, right, bottom = box
    cut = left + (right - left) * 2 // 3
    return (left, top, cut, bottom), (cut, top, right, bottom)


def random_patch(photo: Image.Image, box: Box, rng: np.random.Generator) -> Image.Image:
    """Return a random square patch of a photo within a box."""
    left, top, right, bottom = box
    side = int(rng.integers(SMALLEST, LARGEST, endpoint=True))
    x = int(rng.integers(left, right - side, endpoint=True))
    y = int(rng.integers(top, bottom - side, endpoint=True))
    return photo.crop((x, y, x + side, y + side))


def write_patches(folder: Path, photo: str, boxes: list[Box], count: int) -> None:
    """Write as many patches of a photo, from all boxes in turn, into a new folder."""
    folder.mkdir(parents=True)
    image = Image.fromarray(load_sample_image(photo))
    rng = np.random.default_rng(0)
    for i in range(count):
        patch = random_patch(image, boxes[i % len(boxes)], rng)
        patch.save(folder / f"{i:03}.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to create")
    options = parser.parse_args(arguments)
    for material, (photo, boxes) in MATERIALS.items():
        train, test = (list(part) for part in zip(*map(split_box, boxes), strict=True))
        write_patches(options.folder / "train" / material, photo, train, 60)
        write_patches(options.folder / "test" / material, photo, test, 40)
    write_patches(options.folder / "new", "flower.jpg", [NEW], 3)
    print(f"{options.folder}: 420 patches to train on, 280 to test, 3 new ones")


if __name__ == "__main__":
    main()

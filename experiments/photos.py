"""Make a folder data set from the photos that Python packages ship.

    pip install scikit-image
    python -m experiments.photos --out photos

Each photo is a class: the folder has random square crops of it, of 100 pixels up to the
photo's shorter side or 300 pixels, for training and for testing, which may overlap.
The photos are those of scikit-learn, Matplotlib and scikit-image.
"""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

# Files of packages, below the package's folder.
PHOTOS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": (
        *("data/astronaut.png", "data/chelsea.png", "data/coffee.png"),
        *("data/rocket.jpg", "data/motorcycle_left.png", "data/camera.png"),
        "data/hubble_deep_field.jpg",
    ),
}
# Textures and scientific images, which are not photos of an object.
TEXTURES = {
    "skimage": (
        *("data/brick.png", "data/grass.png", "data/gravel.png", "data/coins.png"),
        *("data/ihc.png", "data/moon.png", "data/page.png", "data/retina.jpg"),
    )
}
_SMALLEST, _LARGEST = 100, 300


def photos(files: dict[str, tuple[str, ...]] = PHOTOS) -> Iterator[tuple[str, Path]]:
    """Yield the package and the path of each photo; name packages that are missing."""
    for package, names in files.items():
        try:
            module = importlib.import_module(package)
        except ImportError:
            print(f"{package} is not installed: its photos are left out")
            continue
        assert module.__file__ is not None
        for name in names:
            yield package, Path(module.__file__).parent / name


def write_crops(path: Path, folder: Path, count: int, seed: int) -> None:
    """Write random crops of a photo into a folder."""
    photo = Image.open(path).convert("RGB")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    largest = min(*photo.size, _LARGEST)
    for i in range(count):
        side = int(rng.integers(min(_SMALLEST, largest), largest, endpoint=True))
        left, top = (int(rng.integers(0, n - side, endpoint=True)) for n in photo.size)
        photo.crop((left, top, left + side, top + side)).save(folder / f"{i}.png")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=6, help="crops per class")
    parser.add_argument("--test", type=int, default=10, help="crops per class")
    options = parser.parse_args()
    found = [path for files in (PHOTOS, TEXTURES) for _, path in photos(files)]
    for number, path in enumerate(found):
        for split, count in (("train", options.train), ("test", options.test)):
            seed = 2 * number + (split == "test")
            write_crops(path, options.out / split / path.stem, count, seed)
    print(f"{len(found)} classes in {options.out}")


if __name__ == "__main__":
    main()

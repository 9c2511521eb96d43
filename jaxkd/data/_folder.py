"""Datasets in image folders, with one folder per class."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxkd._errors import InvalidInputError
from jaxkd.data._assemble import Contents, Loading, assemble, digest_of
from jaxkd.data._cache import stamp_of
from jaxkd.data._dataset import Augmentation, ImageDataset, default_augmentation
from jaxkd.data._decode import DecodedRows, unreadable
from jaxkd.data._picture import GRAY_MODES

_TEST_NAMES = ("test", "val", "validation")
_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
# Other common names of a test folder, and the name to suggest for each.
_SUGGESTED_TEST_NAMES = {
    **dict.fromkeys(("valid", "eval", "dev", "val", "validation"), "val"),
    **dict.fromkeys(("testing", "tests", "test"), "test"),
}
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = "folder 2"


class ImageFiles:
    """Image files and their labels.

    Args:
        root: Folder that the names are relative to.
        names: File name of each image.
        labels: Label of each image.
    """

    def __init__(self, root: Path, names: Sequence[str], labels: Sequence[int]):
        self.root, self.names, self.labels = root, tuple(names), tuple(labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows, and their labels."""
        return [
            ((self.root / self.names[row]).read_bytes(), self.labels[row])
            for row in rows
        ]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return str(self.root / self.names[row])


def load_folder(root: Path, loading: Loading) -> ImageDataset:
    """Load ``root/train/CLASS/*.jpg`` and ``root/test/CLASS/*.jpg``.

    Raises:
        InvalidInputError: If the folder has another structure, or an image cannot be
            used.
    """
    test_root = _test_folder(root)
    class_names = [folder.name for folder in _folders(root / "train")]
    files = {
        part: _list_images(folder, class_names)
        for part, folder in (("train", root / "train"), ("test", test_root))
    }
    digest = digest_of([_CACHE_FORMAT, *_stamps(files)])
    name = root.resolve().name
    train, test, metadata = assemble(
        lambda: Contents(_decoded(files, loading), class_names),
        {"name": name},
        loading.folder(f"folder-{name}", digest),
        loading,
    )
    padding = default_augmentation("", train.images.shape[1:]).crop_padding
    return ImageDataset(
        name=name,
        train=train,
        test=test,
        num_classes=len(class_names),
        class_names=tuple(metadata["class_names"]),
        augmentation=Augmentation(padding),
        fingerprint=f"folder:{metadata['contents']}{loading.fingerprint}",
    )


def _test_folder(root: Path) -> Path:
    found = [name for name in _TEST_NAMES if (root / name).is_dir()]
    if (root / "train").is_dir() and found:
        return root / found[0]
    names = [folder.name for folder in _folders(root)]
    similar = [name for name in names if name.lower() in _SUGGESTED_TEST_NAMES]
    if (root / "train").is_dir() and similar:
        raise InvalidInputError(
            f"{root} contains no folder test or val; rename {similar[0]} to "
            f"{_SUGGESTED_TEST_NAMES[similar[0].lower()]}",
            argument="name",
        )
    found_names = ", ".join(names[:5]) or "no folders"
    raise InvalidInputError(
        f"{root} must contain train/CLASS/IMAGE and test/CLASS/IMAGE (or val), but it "
        f"contains {found_names}; move some images of each class to test/CLASS and the "
        "others to train/CLASS",
        argument="name",
    )


def _folders(root: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def _list_images(root: Path, class_names: list[str]) -> ImageFiles:
    """List all images in the class folders, sorted by name."""
    names, labels = [], []
    classes = _folders(root)
    if not classes:
        raise InvalidInputError(
            f"{root} must contain one folder per class, but it contains no folder",
            argument="name",
        )
    for folder in classes:
        if folder.name not in class_names:
            raise InvalidInputError(
                f"{folder} is not a class of the training images, which are "
                f"{', '.join(class_names[:10])}",
                argument="name",
            )
        own = sorted(
            str(Path(parent, name).relative_to(root))
            for parent, _, found in os.walk(folder, followlinks=True)
            for name in found
            if Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")
        )
        if not own:
            raise InvalidInputError(
                f"the class folder {folder} contains no images "
                f"({', '.join(sorted(_SUFFIXES))}); fill it or remove it",
                argument="name",
            )
        names += own
        labels += [class_names.index(folder.name)] * len(own)
    return ImageFiles(root, names, labels)


def files_passed_over(root: str | os.PathLike) -> Counter[str]:
    """Count the files in an image folder that :func:`load` ignores.

    These are files whose suffix is not that of an image, and images outside the class
    folders. Hidden files are not counted.

    Args:
        root: A folder that :func:`jaxkd.data.load` can load.

    Returns:
        The number of ignored files of each suffix in the splits that are loaded.
    """
    found: Counter[str] = Counter()
    for part in (Path(root) / "train", _test_folder(Path(root))):
        for parent, _, names in os.walk(part, followlinks=True):
            shown = (Path(name) for name in names if not name.startswith("."))
            # An image outside the class folders has no class.
            loose = Path(parent) == part
            found.update(
                path.suffix.lower()
                for path in shown
                if loose or path.suffix.lower() not in _SUFFIXES
            )
    return found


def _stamps(files: dict[str, ImageFiles]) -> list[str]:
    """Return strings that change if an image changes, without reading images."""
    stamps = []
    for part, images in files.items():
        stamps.append(part)
        # Joining text is much faster than joining paths.
        stamps += [
            f"{name} {stamp_of(f'{images.root}/{name}')}" for name in images.names
        ]
    return stamps


def _decoded(files: dict[str, ImageFiles], loading: Loading) -> dict[str, DecodedRows]:
    channels = 1 if all(map(_are_gray, files.values())) else 3
    parts = {
        part: DecodedRows(images, channels, loading.size, loading.background)
        for part, images in files.items()
    }
    return parts


def _are_gray(files: ImageFiles) -> bool:
    """Return whether all images are gray, according to their headers."""
    from PIL import Image

    for row, name in enumerate(files.names):
        try:
            with Image.open(files.root / name) as image:
                if image.mode not in GRAY_MODES:
                    return False
        except Exception as error:  # Pillow raises many types for broken images.
            raise unreadable(files.where(row), error) from error
    return True

"""List all broken images of a dataset once a first one has been found."""

import contextlib
from collections.abc import Iterator, Sequence

from jaxkd._errors import InvalidInputError
from jaxkd._watch import Watch
from jaxkd.data._decode import DecodedRows, FrameNotice
from jaxkd.data._description import Description
from jaxkd.data._source import Selected

_NAMED = 3


class BrokenImagesError(InvalidInputError):
    """Some images of a dataset cannot be read.

    Attributes:
        broken: Each broken image, with the reason.
        count: Number of images in the dataset.
    """

    def __init__(self, broken: Sequence[str], count: int, name: str):
        named = "; ".join(broken[:_NAMED])
        more = len(broken) - _NAMED
        others = f"; and {more:,} more" if more > 0 else ""
        super().__init__(
            f"{len(broken):,} of {count:,} images cannot be used: {named}{others}. "
            f"Repair or remove them; jaxkd data {name} lists all",
            argument="name",
        )
        self.broken, self.count = tuple(broken), count


@contextlib.contextmanager
def all_broken_listed(description: Description) -> Iterator[None]:
    """Raise an error about all broken images if the body finds one.

    Args:
        description: The dataset that the body decodes.

    Raises:
        BrokenImagesError: If the body raises because an image cannot be decoded, or if
            the description lists files that cannot be opened.
    """
    count = description.train.rows + description.test.rows
    name = description.name if description.kind == "tfds" else description.location
    if description.broken_files:
        broken = [*description.broken_files, *broken_images(description)]
        count += len(description.broken_files)
        raise BrokenImagesError(broken, count, name)
    try:
        yield
    except InvalidInputError as error:
        if error.argument != "name":
            raise
        broken = broken_images(description)
        if not broken:
            raise
        raise BrokenImagesError(broken, count, name) from error


def broken_images(description: Description) -> list[str]:
    """Decode every image; return those that cannot be decoded, with the reason."""
    channels = description.channels or 3
    found, silent = [], FrameNotice(is_said=True)
    for name in ("train", "test"):
        images = getattr(description, name).images
        with Watch(f"checking {name}", len(images)) as watch:
            for row in range(len(images)):
                try:
                    DecodedRows(_OneRow(images, row), channels, frames=silent)
                except InvalidInputError as error:
                    found.append(str(error))
                watch(row + 1)
    return found


class _OneRow:
    """A sequence of encoded images that has one row of another."""

    def __init__(self, images: Selected, row: int):
        self._images, self._row = images, row

    def __len__(self) -> int:
        return 1

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded image and its label."""
        return self._images.read([self._row for _ in rows])

    def where(self, row: int) -> str:
        """Describe the image in error messages."""
        del row
        return self._images.where(self._row)

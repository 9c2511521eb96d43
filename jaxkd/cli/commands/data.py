"""``jaxkd data``."""

import time
from collections.abc import Iterator, Mapping

import numpy as np
from rich.table import Table

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import load_silently
from jaxkd.cli._options import Data

_NAMED = 12  # classes, sizes and links that are listed by name


def run(options: Data, arguments: list[str]) -> None:
    """Describe a dataset, decode it into the cache, and describe its pixels."""
    del arguments
    if options.prepare:
        data.prepare(options.name, data_dir=options.data_dir)
    announce(f"reading {options.name}")
    description = data.describe(
        options.name,
        data_dir=options.data_dir,
        train_split=options.train_split,
        test_split=options.test_split,
        value_range=options.value_range,
    )
    table = Table(title=description.name, show_header=False)
    for row in _rows(description):
        table.add_row(*row)
    try:
        _add_pixels(table, description, options)
    except data.BrokenImagesError as error:
        Console().print(table)
        for line in error.broken:
            Console().tell(line)
        raise InvalidInputError(
            f"{len(error.broken):,} of {error.count:,} images cannot be used; repair "
            "or remove them"
        ) from error
    except InvalidInputError:
        Console().print(table)
        raise
    Console().print(table)


def _rows(description: data.Description) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table that are known before images are decoded."""
    yield "source", f"{description.kind}, {description.location}"
    splits = (f"{name} {rows:,}" for name, rows in description.splits.items())
    yield "splits", ", ".join(splits)
    names = description.class_names
    yield "classes", f"{len(names)}: {_listed(names)}"
    for name in ("train", "test"):
        part = getattr(description, name)
        yield name, f"{part.rows:,} images of {part.specification}"
    if (headers := description.headers) is not None:
        yield "modes", _counted(headers.modes)
        sizes = {f"{w}x{h}": n for (h, w), n in headers.sizes.most_common()}
        yield "width x height", _counted(sizes)
    if description.kind == "folder":
        yield "skipped", _files(description.skipped)
    if description.repeated:
        yield "links left out", _listed(description.repeated)
    for doubt in description.doubts:
        yield "doubt", doubt


def _add_pixels(table: Table, description: data.Description, options: Data) -> None:
    """Load the images, and add rows about their pixels."""
    started = time.perf_counter()
    dataset = load_silently(options.name, options)
    seconds = time.perf_counter() - started
    images = dataset.train.images
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        table.add_row(
            f"{name} pixels",
            f"{len(split.labels):,} images {split.images.shape[1:]} "
            f"{split.images.dtype}, {_range(counts)} per class",
        )
    if options.test_resize is not None:
        size, crop = options.test_resize, options.image_size
        table.add_row(
            "test images", f"shorter side scaled to {size}, center {crop}x{crop}"
        )
    statistics = data.channel_statistics(images)
    low, high = data.value_range(images)
    table.add_row("minimum, maximum", f"{low:g}, {high:g}")
    table.add_row("mean", np.array2string(np.asarray(statistics.mean), precision=4))
    table.add_row("std", np.array2string(np.asarray(statistics.std), precision=4))
    for doubt in (*dataset.doubts, *data.doubts_about(images)):
        if doubt not in description.doubts:
            table.add_row("doubt", doubt)
    table.add_row("augmentation", str(dataset.augmentation))
    table.add_row("fingerprint", dataset.fingerprint)
    table.add_row("loaded in", f"{seconds:.2f} s")


def _listed(names: tuple[str, ...]) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {len(names) - _NAMED:,} others" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _counted(counts: Mapping[str, int]) -> str:
    """Return names with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return _listed(tuple(f"{name} ({number:,})" for name, number in ordered))


def _range(counts: np.ndarray) -> str:
    """Return the smallest and the largest count; one number if they are equal."""
    few, many = f"{counts.min():,}", f"{counts.max():,}"
    return few if few == many else f"{few} to {many}"


def _files(suffixes: Mapping[str, int]) -> str:
    """Return the number of files and their suffixes."""
    if not suffixes:
        return "no files"
    *names, last = (suffix or "without a suffix" for suffix in sorted(suffixes))
    listed = f"{', '.join(names)} and {last}" if names else last
    return f"{count(sum(suffixes.values()), 'file')}, {listed}"

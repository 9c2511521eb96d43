"""``jaxkd data``."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.table import Table

from jaxkd import data
from jaxkd.cli._console import Console
from jaxkd.cli._options import Data


def run(options: Data, arguments: list[str]) -> None:
    """Read a dataset, decode it into the cache, and describe it."""
    del arguments
    if options.prepare:
        data.prepare(options.name, data_dir=options.data_dir)
    started = time.perf_counter()
    dataset = data.load(
        options.name,
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        image_size=options.image_size,
        stream=options.stream,
        workers=options.workers,
        background=options.background or "white",
        value_range=options.value_range,
    )
    seconds = time.perf_counter() - started
    statistics = data.channel_statistics(dataset.train.images)
    table = Table(title=f"{dataset.name} ({dataset.fingerprint})", show_header=False)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        table.add_row(
            name,
            f"{len(split.labels):,} images {split.images.shape[1:]} "
            f"{split.images.dtype}, {_range(counts)} per class",
        )
    if dataset.fingerprint.startswith("folder:"):
        skipped = data.files_passed_over(Path(options.name).expanduser())
        table.add_row("skipped", _files(skipped))
    table.add_row("classes", f"{dataset.num_classes}: {', '.join(dataset.class_names)}")
    table.add_row("mean", np.array2string(np.asarray(statistics.mean), precision=4))
    table.add_row("std", np.array2string(np.asarray(statistics.std), precision=4))
    table.add_row("augmentation", str(dataset.augmentation))
    table.add_row("loaded in", f"{seconds:.2f} s")
    Console().print(table)


def _range(counts: np.ndarray) -> str:
    """Return the smallest and the largest count; one number if they are equal."""
    few, many = f"{counts.min():,}", f"{counts.max():,}"
    return few if few == many else f"{few} to {many}"


def _files(suffixes: Counter[str]) -> str:
    """Return the number of files and their suffixes."""
    if not suffixes:
        return "no files"
    *names, last = (suffix or "without a suffix" for suffix in sorted(suffixes))
    listed = f"{', '.join(names)} and {last}" if names else last
    count = suffixes.total()
    return f"{count:,} file{'' if count == 1 else 's'}, {listed}"

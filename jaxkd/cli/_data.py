"""``jaxkd data``."""

import time

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxkd import data
from jaxkd.cli._options import Data


def run(options: Data, arguments: list[str]) -> None:
    """Reads a dataset, decodes it into the cache, and describes it."""
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
    )
    seconds = time.perf_counter() - started
    statistics = data.channel_statistics(dataset.train.images)
    table = Table(title=f"{dataset.name} ({dataset.fingerprint})", show_header=False)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        table.add_row(
            name,
            f"{len(split.labels):,} images {split.images.shape[1:]} "
            f"{split.images.dtype}, {counts.min():,} to {counts.max():,} per class",
        )
    table.add_row("classes", f"{dataset.num_classes}: {', '.join(dataset.class_names)}")
    table.add_row("mean", np.array2string(np.asarray(statistics.mean), precision=4))
    table.add_row("std", np.array2string(np.asarray(statistics.std), precision=4))
    table.add_row("augmentation", str(dataset.augmentation))
    table.add_row("loaded in", f"{seconds:.2f} s")
    Console().print(table)

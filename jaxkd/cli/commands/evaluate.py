"""``jaxkd evaluate``."""

import math
import time
from typing import Any

from jaxkd import __version__, runs, training
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import check_fits, load_and_warn
from jaxkd.cli._json_output import (
    STDOUT,
    check_json,
    describe_network,
    write_json,
)
from jaxkd.cli._options import Evaluate
from jaxkd.data import ImageDataset


def run(options: Evaluate, arguments: list[str]) -> None:
    """Evaluate a trained network on its whole test set."""
    del arguments
    out = options.json
    check_json(out)
    announce(f"loading {options.run}")
    loaded = runs.load_network(options.run, trial=options.trial)
    recorded = loaded.load_options if options.dataset is None else {}
    dataset = load_and_warn(runs.source_of(loaded, options.dataset), options, recorded)
    check_fits(loaded, dataset)
    frozen = training.freeze_teacher(loaded.module, loaded.normalization)
    evaluator = training.make_evaluator(frozen.apply, dataset.test)
    Console(stderr=True).tell(
        f"evaluating {loaded.network.model} on "
        f"{count(len(dataset.test.labels), 'image')} of {dataset.name}, twice: the "
        "first pass includes compilation"
    )
    announce("compiling")
    evaluator(frozen.variables)  # compiles, so that the time below is the network's
    announce("evaluating")
    started = time.perf_counter()
    result = evaluator(frozen.variables)
    seconds = time.perf_counter() - started
    Console(stderr=out == STDOUT).tell(
        f"{loaded.network.model} ({loaded.version}) on {dataset.name}: "
        f"test accuracy {result.accuracy:.2%}, {_top5(result)}"
        f"loss {result.loss:.4f} nats, {count(result.num_examples, 'image')}, "
        f"{result.num_examples / seconds:,.0f} images/s"
    )
    if out is not None:
        write_json(out, _entries(loaded, dataset, frozen, result))


def _top5(result: training.Evaluation) -> str:
    top5 = result.top5_accuracy
    return "" if top5 is None else f"top-5 accuracy {top5:.2%}, "


def _entries(
    loaded: runs.LoadedNetwork,
    dataset: ImageDataset,
    frozen: training.FrozenNetwork,
    result: training.Evaluation,
) -> dict[str, Any]:
    """Return what the JSON file contains."""
    predicted = training.predict_logits(frozen, dataset.test.images).argmax(axis=1)
    labels, classes = dataset.test.labels, loaded.network.num_classes
    found = training.class_results(labels, predicted, classes)
    names = loaded.class_names or dataset.class_names
    columns = (names, found.precision, found.recall, found.support)
    return {
        "network": describe_network(loaded, frozen),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "num_examples": result.num_examples,
        "accuracy": result.accuracy,
        "top5_accuracy": result.top5_accuracy,
        "loss": result.loss,
        "class_names": list(names),
        "classes": [
            {
                "name": name,
                "precision": _number(precision),
                "recall": _number(recall),
                "support": int(support),
            }
            for name, precision, recall, support in zip(*columns, strict=True)
        ],
        "confusion": found.confusion.tolist(),
        "jaxkd": __version__,
    }


def _number(share: float) -> float | None:
    """Return a share; None if nothing was predicted, or there are no examples."""
    return None if math.isnan(share) else float(share)

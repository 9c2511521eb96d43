"""``jaxkd evaluate``."""

import math
import time
from pathlib import Path
from typing import Any

from jaxkd import __version__, _json, runs, training
from jaxkd._files import check_free, write_whole
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import check_fits, load_and_warn
from jaxkd.cli._options import Evaluate
from jaxkd.data import ImageDataset

_STDOUT = Path("-")


def run(options: Evaluate, arguments: list[str]) -> None:
    """Evaluate a trained network on its whole test set."""
    del arguments
    out = options.json
    if out not in (None, _STDOUT):
        check_free(out, "--json", argument="json")
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
    Console(stderr=out == _STDOUT).tell(
        f"{loaded.network.model} ({loaded.version}) on {dataset.name}: "
        f"test accuracy {result.accuracy:.2%}, {_top5(result)}"
        f"loss {result.loss:.4f} nats, {count(result.num_examples, 'image')}, "
        f"{result.num_examples / seconds:,.0f} images/s"
    )
    if out is not None:
        _write(out, _entries(loaded, dataset, frozen, result))


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
        "network": {
            "model": loaded.network.model,
            "width": loaded.network.width,
            "step": loaded.step,
            "trial": loaded.trial,
            "seed": loaded.seed,
            "averaged_weights": loaded.averaged,
            "best_validation_accuracy": loaded.best,
            "fingerprint": runs.fingerprint_of(frozen.variables),
        },
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


def _write(out: Path, entries: dict[str, Any]) -> None:
    text = _json.dumps(entries, indent=2)
    if out == _STDOUT:
        for line in text.splitlines():
            Console().tell(line)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (text + "\n").encode())

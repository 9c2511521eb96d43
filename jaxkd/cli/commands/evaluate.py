"""``jaxkd evaluate``."""

import time

from jaxkd import runs, training
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import check_fits, load_and_warn
from jaxkd.cli._options import Evaluate


def run(options: Evaluate, arguments: list[str]) -> None:
    """Evaluate a trained network on its whole test set."""
    del arguments
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
    Console().tell(
        f"{loaded.network.model} ({loaded.version}) on {dataset.name}: "
        f"test accuracy {result.accuracy:.2%}, {_top5(result)}"
        f"loss {result.loss:.4f} nats, {count(result.num_examples, 'image')}, "
        f"{result.num_examples / seconds:,.0f} images/s"
    )


def _top5(result: training.Evaluation) -> str:
    top5 = result.top5_accuracy
    return "" if top5 is None else f"top-5 accuracy {top5:.2%}, "

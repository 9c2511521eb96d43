"""``jaxkd train``, and what ``jaxkd distill`` shares with it."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from rich.console import Console

from jaxkd import data, distillers, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli import _optimizer, _plots, _runs, _summary
from jaxkd.cli._options import DataOptions, Distill, Train


def run(options: Train, arguments: list[str]) -> None:
    """Trains a network on its own."""
    _runs.check_out(options.out, resume=options.resume)
    dataset = load_dataset(options.dataset, options.data)
    objective = distillers.recipe("ce")
    train_network(options, arguments, options.dataset, dataset, objective, teacher=None)


def load_dataset(name: str, options: DataOptions) -> data.ImageDataset:
    """Loads a dataset and applies the command line's variations."""
    dataset = data.load(name, data_dir=options.data_dir, cache_dir=options.cache_dir)
    if options.subset is not None:
        dataset = data.take_subset(dataset, options.subset, seed=0)
    own = dataset.augmentation
    crop, flip = options.crop_padding, options.flip
    augmentation = data.Augmentation(
        crop_padding=own.crop_padding if crop is None else crop,
        flip=own.flip if flip is None else flip,
    )
    return dataclasses.replace(dataset, augmentation=augmentation)


def centered(network: nnx.Module, role: str) -> nnx.Module:
    """The network with class means of zero in its classifier (``--equal-means``)."""
    try:
        return models.center_classifier(network)
    except InvalidInputError as error:
        raise InvalidInputError(f"--equal-means, {role}: {error}") from None


def train_network(
    options: Train | Distill,
    arguments: list[str],
    source: str,
    dataset: data.ImageDataset,
    distiller: distillers.Distiller,
    teacher: training.FrozenNetwork | None,
    *,
    equal_means: bool = False,
    taught_by: dict[str, Any] | None = None,
) -> None:
    """Runs one training job; nothing is written before everything is checked."""
    console = Console()
    network = _runs.NetworkConfig.for_dataset(
        dataset, options.model, options.width, options.compute_dtype
    )
    steps = data.steps_per_epoch(len(dataset.train.labels), options.batch_size)
    if options.epochs < 1:
        raise InvalidInputError(f"--epochs must be at least 1, got {options.epochs}")
    if options.trials < 1:
        raise InvalidInputError(f"--trials must be at least 1, got {options.trials}")
    build = network.build
    if equal_means:
        build = lambda rngs: centered(network.build(rngs), "student")
    program = training.compile_program(
        build,
        dataset,
        distiller,
        optimizer=_optimizer.make(options.optimizer, options.epochs * steps),
        pretraining_optimizer=_optimizer.make(
            options.optimizer, options.epochs * steps, pretraining=True
        ),
        batch_size=options.batch_size,
        teacher=teacher,
        trials=None if options.trials == 1 else options.trials,
    )
    checkpoints = training.Checkpoints(
        options.out / "checkpoints", every_steps=options.checkpoint_every
    )
    loop = program.start(options.seed, options.data_seed)

    identity = dataclasses.asdict(options)
    for harmless in ("out", "resume", "checkpoint_every"):
        identity.pop(harmless)
    config = _runs.make_config(
        identity,
        arguments,
        network,
        source,
        dataset,
        program.normalization,
        teacher=taught_by,
    )
    history: list[dict[str, Any]] = []
    resumed_at = 0
    if options.resume:
        _runs.check_same_experiment(options.out, config)
        latest = checkpoints.latest()
        if latest is not None:
            loop, record = checkpoints.restore(program.like(latest))
            history = record["history"]
            resumed_at = int(loop.train.step)
        console.print(f"resuming {options.out} at step {resumed_at}", highlight=False)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        _runs.write_json(options.out / _runs.CONFIG, config)

    writer = training.MetricsWriter(options.out, resumed_at=resumed_at)
    try:
        loop, history = training.fit(
            program,
            loop,
            epochs=options.epochs,
            checkpoints=checkpoints,
            history=history,
            on_epoch=writer,
            console=console,
            description=network.model,
        )
    finally:
        writer.close()
    _plots.draw_history(options.out / "curves.png", history)
    _finish(options, console, history)


def _finish(
    options: Train | Distill, console: Console, history: list[dict[str, Any]]
) -> None:
    """Writes and prints what came of a run."""
    seeds = {"seed": options.seed, "data_seed": options.data_seed}
    summary = _summary.summarize(history, **seeds)
    summary["device"] = jax.devices()[0].device_kind
    _runs.write_json(options.out / "summary.json", summary)
    trials = summary["trials"]
    console.print(
        f"test accuracy {_summary.shown(trials['test_accuracy_last'])} after the last "
        f"epoch, best {_summary.shown(trials['test_accuracy_best'])}; "
        f"{summary['images_per_second']:,.0f} images/s; everything is in {options.out}",
        highlight=False,
        soft_wrap=True,
    )

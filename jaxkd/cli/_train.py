"""``jaxkd train``, and what ``jaxkd distill`` shares with it."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from rich.console import Console

from jaxkd import data, distillers, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli import (
    _analysis,
    _html,
    _plots,
    _profile,
    _runs,
    _tensorboard,
    _wandb,
)
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
) -> None:
    """Runs one training job; nothing is written before everything is checked."""
    console = Console()
    if options.wandb is not None:
        _wandb.require()
    network = _runs.NetworkConfig.for_dataset(
        dataset, options.model, options.width, options.compute_dtype
    )
    steps = data.steps_per_epoch(len(dataset.train.labels), options.batch_size)
    if options.epochs < 1:
        raise InvalidInputError(f"--epochs must be at least 1, got {options.epochs}")
    build = network.build
    if equal_means and distiller.student is not None:
        raise InvalidInputError(
            "--equal-means centres the student's classifier, but this method's student "
            "predicts with another one; leave the option out"
        )
    if equal_means:
        build = lambda rngs: centered(network.build(rngs), "student")
    optimizer = dataclasses.asdict(options.optimizer)
    program = training.compile_program(
        build,
        dataset,
        distiller,
        optimizer=training.published_sgd(options.epochs * steps, **optimizer),
        pretraining_optimizer=training.published_sgd(
            options.epochs * steps, **{**optimizer, "milestones": ()}
        ),
        batch_size=options.batch_size,
        teacher=teacher,
    )
    checkpoints = training.Checkpoints(
        options.out / "checkpoints", every_steps=options.checkpoint_every
    )
    loop = program.start(options.seed)
    network = network.trained_as(program.student(loop))

    identity = dataclasses.asdict(options)
    harmless_options = ("report", "profile", "wandb")  # to look at it, not what it is
    for harmless in ("out", "resume", "checkpoint_every", *harmless_options):
        identity.pop(harmless)
    config = _runs.make_config(
        identity, arguments, network, source, dataset, program.normalization
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
        if options.report:
            _tensorboard.write_batch(options.out, dataset, options.seed)

    with contextlib.ExitStack() as ends:
        writer = training.MetricsWriter(options.out, resumed_at=resumed_at)
        writers: list[Any] = [ends.enter_context(contextlib.closing(writer))]
        if options.wandb is not None:
            stored = _runs.read_config(options.out)
            sender = _wandb.WandbWriter(options.wandb, options.out, stored)
            writers.append(ends.enter_context(contextlib.closing(sender)))
        if options.profile:
            profiled = _profile.profiled(program, options.out, console)
            program = ends.enter_context(profiled)

        def to_all(record: dict[str, Any]) -> None:
            for write in writers:
                write(record)

        loop, history = training.fit(
            program,
            loop,
            epochs=options.epochs,
            checkpoints=checkpoints,
            history=history,
            on_epoch=to_all,
            console=console,
            description=network.model,
        )
    _plots.draw_history(options.out / "curves.png", history)
    _finish(options.out, console, history)
    if options.report:
        _show(options.out, console, dataset, teacher, step=history[-1]["step"])


def _show(
    out: Path,
    console: Console,
    dataset: data.ImageDataset,
    teacher: training.FrozenNetwork | None,
    *,
    step: int,
) -> None:
    """Makes what there is to look at after a run."""
    answers = _html.ask(out, dataset, teacher)
    path = _html.write_report(out, answers, dataset)
    matrix = _analysis.confusion_matrix(
        dataset.test.labels, answers.student.classes, dataset.num_classes
    )
    _tensorboard.write_confusion(out, matrix, dataset.class_names, step)
    console.print(f"report: {path}", highlight=False, soft_wrap=True, markup=False)


def _finish(out: Path, console: Console, history: list[dict[str, Any]]) -> None:
    """Writes and prints what came of a run."""
    last = history[-1]
    best = max(history, key=lambda record: record.get("test/accuracy", 0.0))
    summary = {
        "test_accuracy_last": last["test/accuracy"],
        "test_accuracy_best": best["test/accuracy"],
        "epochs": last["epoch"],
        "steps": last["step"],
        "images_per_second": last["images_per_second"],
        "device": jax.devices()[0].device_kind,
    }
    _runs.write_json(out / "summary.json", summary)
    console.print(
        f"test accuracy {summary['test_accuracy_last']:.2%} after the last epoch, "
        f"best {summary['test_accuracy_best']:.2%}; "
        f"{summary['images_per_second']:,.0f} images/s; everything is in {out}",
        highlight=False,
        soft_wrap=True,
    )

"""``jaxkd train``, and what ``jaxkd distill`` shares with it."""

import contextlib
import dataclasses
import functools
import shlex
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx
from rich.console import Console

from jaxkd import data, distillers, models, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.cli import _devices, _optimizer, _profile, _signals
from jaxkd.cli._options import DataOptions, Distill, Train
from jaxkd.reports import _figures, _run_page, _statistics, _tensorboard, _wandb
from jaxkd.runs import _folder, _lock, _resume, _summary

MAX_SKIPPED = 10
"""How many steps in a row ``--on-nonfinite skip`` skips."""


def run(options: Train, arguments: list[str]) -> None:
    """Trains a network on its own."""
    begin(options)
    dataset = training.all_or_none(
        lambda: load_dataset(options.dataset, options.data), OTHERS_REFUSAL
    )
    objective = distillers.recipe("ce")
    train_network(options, arguments, options.dataset, dataset, objective, teacher=None)


REFUSAL = InvalidInputError("the first process has refused the run; it says why")
"""What the other processes of a run raise where the first one alone looks."""

OTHERS_REFUSAL = InvalidInputError("another process cannot read what it needs")
"""What a process raises that could read its data, if another could not."""


def begin(options: Train | Distill) -> None:
    """Joins the other processes, if there are any, and looks at the output folder."""
    _devices.join(options.devices)
    check = lambda: _folder.check_out(options.out, resume=options.resume)
    training.first_alone(check, REFUSAL)


def load_dataset(name: str, options: DataOptions) -> data.ImageDataset:
    """Loads a dataset and applies the command line's variations."""
    dataset = data.load(
        name,
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        image_size=options.image_size,
        stream=options.stream,
        workers=options.workers,
    )
    if options.subset is not None:
        dataset = data.take_subset(dataset, options.subset, seed=0)
    own = dataset.augmentation
    crop, flip = options.crop_padding, options.flip
    augmentation = data.Augmentation(
        crop_padding=own.crop_padding if crop is None else crop,
        flip=own.flip if flip is None else flip,
        randaugment=options.randaugment and data.RandAugment(*options.randaugment),
        mixup=options.mixup,
        cutmix=options.cutmix,
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
    console = Console(quiet=not training.is_first())
    if options.wandb is not None:
        _wandb.require()
    network = runs.NetworkConfig.for_dataset(
        dataset, options.model, options.width, options.compute_dtype
    )
    steps = data.steps_per_epoch(len(dataset.train.labels), options.batch_size)
    if options.epochs < 1:
        raise InvalidInputError(f"--epochs must be at least 1, got {options.epochs}")
    if options.trials < 1:
        raise InvalidInputError(f"--trials must be at least 1, got {options.trials}")
    if options.ema is not None and not 0 < options.ema < 1:
        raise InvalidInputError(
            f"--ema must lie between 0 and 1, both excluded, got {options.ema}"
        )
    build = network.build
    if equal_means and distiller.student is not None:
        raise InvalidInputError(
            "--equal-means centres the student's classifier, but this method's student "
            "predicts with another one; leave the option out"
        )
    if equal_means:
        build = lambda rngs: centered(network.build(rngs), "student")
    backs_off = options.on_nonfinite == "back-off"
    if backs_off and options.trials > 1:
        raise InvalidInputError(
            "--on-nonfinite back-off changes the learning rate of a run, and --trials "
            f"{options.trials} of one run share it; train them one by one, or skip"
        )

    def optimizer(*, pretraining: bool = False) -> optax.GradientTransformation:
        made = _optimizer.make(
            options.optimizer, options.epochs * steps, pretraining=pretraining
        )
        return training.backing_off(made) if backs_off else made

    mesh = _devices.make_mesh(options.devices, options.batch_size)
    program = training.compile_program(
        build,
        dataset,
        distiller,
        optimizer=optimizer(),
        pretraining_optimizer=optimizer(pretraining=True),
        batch_size=options.batch_size,
        teacher=teacher,
        trials=None if options.trials == 1 else options.trials,
        max_skipped=MAX_SKIPPED if options.on_nonfinite == "skip" else 0,
        ema_decay=options.ema,
        mesh=mesh,
    )
    checkpoints = training.Checkpoints(
        options.out / "checkpoints",
        every_steps=options.checkpoint_every,
        every_minutes=options.checkpoint_minutes,
    )
    loop = program.start(options.seed, options.data_seed)
    network = network.trained_as(program.student(loop))
    config = _folder.make_config(
        dataclasses.asdict(options),
        arguments,
        network,
        source,
        dataset,
        program.normalization,
        teacher=taught_by,
        devices=1 if mesh is None else mesh.size,
    )

    def open_folder() -> None:
        """What the first process does for all; it alone holds the lock."""
        stack.enter_context(_lock.hold(options.out))
        _folder.check_out(options.out, resume=options.resume, held=True)
        if options.resume:
            _resume.check_same_experiment(options.out, config)
        else:
            stack.enter_context(_resume.nothing_left_behind(options.out))
            _folder.write_json(options.out / _folder.CONFIG, config)
            if options.report:
                _tensorboard.write_batch(options.out, dataset, options.data_seed)

    with contextlib.ExitStack() as stack:
        training.first_alone(open_folder, REFUSAL)
        history: list[dict[str, Any]] = []
        if options.resume:
            restored = _resume.restore(options.out, checkpoints, program)
            if restored is not None:
                loop, history = restored
            console.print(
                f"resuming {options.out} at step {int(loop.train.step)}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
        history = _fit(options, program, loop, checkpoints, history, console)
        if not training.is_first():
            return
        _figures.draw_history(options.out / "curves.png", history)
        _finish(options, console, history)
        if not options.report:
            return
        if jax.process_count() > 1:  # the networks would be asked by one of them alone
            console.print(
                f"no report.html, as there are several processes; make it with: "
                f"jaxkd show {shlex.quote(str(options.out))}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
            return
        _show(options.out, console, dataset, teacher, step=history[-1]["step"])


def _fit(
    options: Train | Distill,
    program: training.Program,
    loop: training.LoopState,
    checkpoints: training.Checkpoints,
    history: list[dict[str, Any]],
    console: Console,
) -> list[dict[str, Any]]:
    """Trains to the end, or until a signal comes; returns the history."""
    fit = training.fit
    with contextlib.ExitStack() as ends:
        writers: list[Any] = []
        if training.is_first():
            writers = _open_writers(options, int(loop.train.step), ends)
            if options.profile:
                profiled = _profile.profiled(program, options.out, console)
                program = ends.enter_context(profiled)
        stop = ends.enter_context(_signals.stop_when_asked())

        def to_all(record: dict[str, Any]) -> None:
            for write in writers:
                write(record)

        def on_back_off(back_off: training.BackOff) -> None:
            if not writers:
                return
            say(
                f"warning: {back_off.failure}; going back to step {back_off.step} with "
                f"the learning rate times {back_off.scale:g}"
            )
            writers[0].rewind(back_off.step)

        if options.on_nonfinite == "back-off":
            fit = functools.partial(
                training.fit_backing_off,
                start=lambda: program.start(options.seed, options.data_seed),
                on_back_off=on_back_off,
            )
        _, history = fit(
            program,
            loop,
            epochs=options.epochs,
            checkpoints=checkpoints,
            history=history,
            on_epoch=to_all,
            stop=stop,
            console=console,
            description=options.model,
        )
    return history


def _open_writers(
    options: Train | Distill, step: int, ends: contextlib.ExitStack
) -> list[Any]:
    """Where the records go, the file of metrics first; closed with the stack."""
    writer = runs.MetricsWriter(options.out, resumed_at=step)
    writers: list[Any] = [ends.enter_context(contextlib.closing(writer))]
    if options.wandb is not None:
        stored = runs.read_config(options.out)
        sender = _wandb.WandbWriter(options.wandb, options.out, stored)
        writers.append(ends.enter_context(contextlib.closing(sender)))
    return writers


def _show(
    out: Path,
    console: Console,
    dataset: data.ImageDataset,
    teacher: training.FrozenNetwork | None,
    *,
    step: int,
) -> None:
    """Makes what there is to look at after a run."""
    answers = _run_page.ask(out, dataset, teacher)
    path = _run_page.write_report(out, answers, dataset)
    matrix = _statistics.confusion_matrix(
        dataset.test.labels, answers.student.classes, dataset.num_classes
    )
    _tensorboard.write_confusion(out, matrix, dataset.class_names, step)
    console.print(f"report: {path}", highlight=False, soft_wrap=True, markup=False)


def _finish(
    options: Train | Distill, console: Console, history: list[dict[str, Any]]
) -> None:
    """Writes and prints what came of a run."""
    seeds = {"seed": options.seed, "data_seed": options.data_seed}
    summary = _summary.summarize(history, **seeds)
    summary["device"] = jax.devices()[0].device_kind
    _folder.write_json(options.out / "summary.json", summary)
    trials = summary["trials"]
    live = trials.get("live_test_accuracy_last")
    beside = "" if live is None else f" (not averaged {_summary.shown(live)})"
    console.print(
        f"test accuracy {_summary.shown(trials['test_accuracy_last'])}{beside} after "
        f"the last epoch, best {_summary.shown(trials['test_accuracy_best'])}; "
        f"{summary['images_per_second']:,.0f} images/s; everything is in {options.out}",
        highlight=False,
        soft_wrap=True,
    )

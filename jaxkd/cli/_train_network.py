"""Train a network in a run folder; ``train`` and ``distill`` share it.

From top to bottom: compile the program, open the folder, train, write the results.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxkd import data, models, recordings, reports, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import naming
from jaxkd._messages import announce, say
from jaxkd._text import count, shell_line
from jaxkd.cli import _devices, _next_steps, _optimizer, _pipes, _profile, _signals
from jaxkd.cli._console import Console
from jaxkd.cli._initial import Initial, initial_of
from jaxkd.cli._job import Job

Record = dict[str, Any]


class Teacher(NamedTuple):
    """A trained teacher.

    Attributes:
        source: The frozen network, or its recorded outputs.
        description: What the student's ``config.json`` says about it.
        recording: What that says about the recorded outputs; None for a network.
        other_classes: Whether its classes are not those of the dataset.
    """

    source: training.FrozenNetwork | recordings.Recording
    description: dict[str, Any]
    recording: dict[str, Any] | None = None
    other_classes: bool = False

    @property
    def network(self) -> training.FrozenNetwork | None:
        """The network, or None if only its outputs are at hand."""
        source = self.source
        return source if isinstance(source, training.FrozenNetwork) else None


class _Run(NamedTuple):
    """A compiled run.

    Attributes:
        job: The checked options.
        dataset: The dataset.
        teacher: The teacher, if there is one.
        program: The compiled program.
        initial: The weights that the student starts from; None for random ones.
        checkpoints: The checkpoints in the run folder.
        console: The console, which is quiet in all processes but the first.
    """

    job: Job
    dataset: data.ImageDataset
    teacher: Teacher | None
    program: training.Program
    initial: Initial | None
    checkpoints: training.Checkpoints
    console: Console


def join(job: Job) -> None:
    """Connect to the other processes, if there are any, and check the run folder."""
    options = job.options
    _devices.join(options.devices)
    check = lambda: runs.check_out(options.out, resume=options.resume)
    training.first_alone(check, _devices.FIRST_PROCESS_FAILED)


def center_classifier(network: nnx.Module, role: str) -> nnx.Module:
    """Return the network with class means of zero in its classifier.

    Args:
        network: The network.
        role: What to call it in an error: student or teacher.

    Raises:
        InvalidInputError: If the network has no linear classifier.
    """
    try:
        return models.center_classifier(network)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"--equal-means, {role}: {error}", argument="equal_means"
        ) from None


def train_network(
    job: Job,
    source: str,
    dataset: data.ImageDataset,
    teacher: Teacher | None = None,
    *,
    equal_means: bool = False,
) -> None:
    """Train a network; write nothing before everything is checked.

    Args:
        job: The checked options.
        source: Name of the dataset, as ``jaxkd.data.load`` takes it.
        dataset: The dataset.
        teacher: The teacher, if there is one.
        equal_means: Whether to center the student's classifier at the start.

    Raises:
        InvalidInputError: If the options do not fit the data, or the folder is taken.
        DivergenceError: If the loss stops being finite.
        Interrupted: If a signal asked the run to stop.
    """
    options = job.options
    network = runs.NetworkConfig.for_dataset(
        dataset, options.model, options.width, options.compute_dtype
    )
    mesh = _devices.make_mesh(job.mesh_axes, options.batch_size)
    initial = training.all_or_none(
        lambda: initial_of(options, network), _devices.ANOTHER_PROCESS_FAILED
    )
    build = _builder(network, initial, equal_means=equal_means)
    announce(f"preparing {options.model}")
    program = _compile(job, dataset, teacher, build, mesh)
    checkpoints = training.Checkpoints(
        runs.RunFolder(options.out).checkpoints,
        every_steps=options.checkpoint_every,
        every_minutes=options.checkpoint_minutes,
    )
    stdout: Any = _pipes.UntilClosed(sys.stdout)
    console = Console(quiet=not training.is_first(), file=stdout)
    run = _Run(job, dataset, teacher, program, initial, checkpoints, console)
    if initial is not None and training.is_first():
        initial.warn_of_other_inputs(options.init, program.normalization)
    loop = program.start(options.seed, options.data_seed)
    program.check_recording(loop, options.epochs)
    config = runs.make_config(
        dataclasses.asdict(options),
        job.arguments,
        network.trained_as(program.student(loop)),
        source,
        dataset,
        program.normalization,
        teacher=None if teacher is None else teacher.description,
        initial=None if initial is None else initial.description,
        recording=None if teacher is None else teacher.recording,
        devices=1 if mesh is None else mesh.size,
    )
    with _open_folder(run, config):
        loop, history = _restore(run, loop)
        history = _fit(run, loop, history)
        if training.is_first():
            _write_results(run, history)


def _builder(
    network: runs.NetworkConfig, initial: Initial | None, *, equal_means: bool
) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return the function that builds the student."""
    build = network.build if initial is None else initial.build(network.build)
    if not equal_means:
        return build
    return lambda rngs: center_classifier(build(rngs), "student")


def _compile(
    job: Job,
    dataset: data.ImageDataset,
    teacher: Teacher | None,
    build: Callable[[nnx.Rngs], nnx.Module],
    mesh: Mesh | None,
) -> training.Program:
    """Compile the program of a run."""
    steps = job.total_steps(dataset)

    def optimizer(*, pretraining: bool) -> optax.GradientTransformation:
        made = _optimizer.make(job.options.optimizer, steps, pretraining=pretraining)
        return training.backing_off(made) if job.backs_off else made

    return training.compile_program(
        build,
        dataset,
        job.distiller,
        optimizer=optimizer(pretraining=False),
        pretraining_optimizer=optimizer(pretraining=True),
        batch_size=job.options.batch_size,
        teacher=None if teacher is None else teacher.source,
        trials=job.trials,
        max_skipped=job.max_skipped,
        ema_decay=job.options.ema,
        remat=job.options.remat,
        mesh=mesh,
    )


@contextlib.contextmanager
def _open_folder(run: _Run, config: dict[str, Any]) -> Iterator[None]:
    """Hold the run folder. The first process opens it, and alone has the lock."""
    options = run.job.options
    with contextlib.ExitStack() as stack:

        def open_folder() -> None:
            stack.enter_context(runs.hold(options.out))
            runs.check_out(options.out, resume=options.resume, held=True)
            if options.resume:
                runs.check_same_experiment(options.out, config)
                return
            stack.enter_context(runs.nothing_left_behind(options.out))
            discard = functools.partial(runs.discard_unsaved, options.out)
            stack.enter_context(_signals.before_ending(discard))
            runs.write_json(runs.RunFolder(options.out).config, config)
            if options.report:
                with naming(runs.RunFolder(options.out).images):
                    reports.write_training_images(
                        options.out, run.dataset, options.data_seed
                    )

        training.first_alone(open_folder, _devices.FIRST_PROCESS_FAILED)
        yield


def _restore(
    run: _Run, loop: training.LoopState
) -> tuple[training.LoopState, list[Record]]:
    """Return the state and the history to continue from."""
    options = run.job.options
    if not options.resume:
        return loop, []
    restored = runs.restore(options.out, run.checkpoints, run.program)
    loop, history = (loop, []) if restored is None else restored
    run.console.tell(f"resuming {options.out} at step {int(loop.train.step)}")
    return loop, history


def _fit(run: _Run, loop: training.LoopState, history: list[Record]) -> list[Record]:
    """Train to the end, or until a signal arrives; return the history."""
    options, program = run.job.options, run.program
    with contextlib.ExitStack() as stack:
        writers: list[Any] = []
        if training.is_first():
            writers = _open_writers(run, int(loop.train.step), history, stack)
            if options.profile:
                program = stack.enter_context(
                    _profile.profiled(program, options.out, run.console)
                )
        stop = stack.enter_context(_signals.stop_when_asked())

        def write_record(record: Record) -> None:
            for write in writers:
                write(record)

        _, history = _choose_fit(run, writers)(
            program,
            loop,
            epochs=options.epochs,
            checkpoints=run.checkpoints,
            history=history,
            on_epoch=write_record,
            stop=stop,
            hooks=_hooks(run),
            console=run.console,
            description=options.model,
        )
    return history


def _hooks(run: _Run) -> list[training.Hook]:
    """Return the hooks that choose epochs by validation accuracy."""
    options, hooks = run.job.options, []
    if options.keep is not None:
        hooks.append(training.KeepBest(runs.RunFolder(options.out).best))
    if options.patience is not None:
        hooks.append(training.EarlyStopping(options.patience))
    return hooks


def _open_writers(
    run: _Run, step: int, history: list[Record], stack: contextlib.ExitStack
) -> list[Any]:
    """Open the writers of records, metrics.jsonl first; they close with the stack."""
    options = run.job.options
    metrics = runs.MetricsWriter(options.out, resumed_at=step, history=history)
    writers: list[Any] = [stack.enter_context(contextlib.closing(metrics))]
    if options.wandb is not None:
        config = runs.read_config(options.out)
        sender = reports.WandbWriter(options.wandb, options.out, config)
        writers.append(stack.enter_context(contextlib.closing(sender)))
    return writers


def _choose_fit(run: _Run, writers: list[Any]) -> Callable[..., Any]:
    """Return the training loop: one that backs off, or the plain one."""
    options = run.job.options
    if not run.job.backs_off:
        return training.fit

    def on_back_off(back_off: training.BackOff) -> None:
        if not writers:
            return
        say(
            f"warning: {back_off.failure}; returning to step {back_off.step} with the "
            f"learning rate times {back_off.scale:g}"
        )
        writers[0].rewind(back_off.step)

    def start() -> training.LoopState:
        if run.initial is not None:
            run.initial.check_loaded(options.init)
        return run.program.start(options.seed, options.data_seed)

    return functools.partial(
        training.fit_backing_off,
        start=start,
        on_back_off=on_back_off,
    )


def _write_results(run: _Run, history: list[Record]) -> None:
    """Write and print the results of a finished run."""
    options = run.job.options
    announce("drawing the curves")
    reports.draw_history(runs.RunFolder(options.out).curves, history)
    _write_summary(run, history)
    if options.report:
        _report(run, step=history[-1]["step"])
    if run.console.is_terminal:
        for line in _next_steps.after(options):
            run.console.tell(line)


def _report(run: _Run, *, step: int) -> None:
    """Write the page of the run, unless there are several processes."""
    options, console = run.job.options, run.console
    if jax.process_count() > 1:  # a single process cannot run the networks
        console.tell(
            "no report.html, because there are several processes; make it with: "
            f"jaxkd show {shell_line([str(options.out)])}"
        )
        return
    announce("running the networks for report.html")
    _write_page(run, step=step)


def _write_summary(run: _Run, history: list[Record]) -> None:
    options, program = run.job.options, run.program
    last, planned = history[-1]["epoch"], program.pretraining_epochs + options.epochs
    summary = runs.write_summary(
        options.out,
        history,
        seed=options.seed,
        data_seed=options.data_seed,
        stopped_early=last < planned,
    )
    if last < planned:
        run.console.tell(
            f"stopped after epoch {last} of {planned}, because the validation accuracy "
            f"has not improved for {count(options.patience or 0, 'epoch')}"
        )
    run.console.tell(
        f"{runs.describe_accuracies(summary)}; "
        f"{summary['images_per_second']:,.0f} images/s; results are in {options.out}"
    )


def _write_page(run: _Run, *, step: int) -> None:
    """Write report.html and the confusion matrix for TensorBoard."""
    out, dataset = run.job.options.out, run.dataset
    network = None if run.teacher is None else run.teacher.network
    other_classes = run.teacher is not None and run.teacher.other_classes
    answers = reports.predict_test_set(out, dataset, None if other_classes else network)
    path = reports.write_run_page(out, answers, dataset, other_classes=other_classes)
    matrix = reports.confusion_matrix(
        dataset.test.labels, answers.student.classes, dataset.num_classes
    )
    with naming(runs.RunFolder(out).images):
        reports.write_confusion_matrix(out, matrix, dataset.class_names, step)
    run.console.tell(f"report: {path}")

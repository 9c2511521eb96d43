"""The training loop. Everything else that happens in a run is a hook."""

import time
from collections.abc import Callable, Sequence

import jax
from rich.console import Console

from jaxkd import _checks
from jaxkd._errors import InvalidTypeError
from jaxkd.training._devices.batches import Order
from jaxkd.training._history import History
from jaxkd.training._hooks import CallOnEpoch, Evaluate, Hook, Run, StopWhenAsked
from jaxkd.training._program import Program
from jaxkd.training._progress import FitProgress, console_for
from jaxkd.training._records import Record, add_to, epoch_means
from jaxkd.training._stage import Stage
from jaxkd.training._state import LoopState, check_not_donated
from jaxkd.training._storage.checkpoints import Checkpoints
from jaxkd.training._storage.saver import Saver

# How often several processes agree on whether to save or to stop.
_DISPATCHES_BETWEEN = 16


def fit(
    program: Program,
    loop: LoopState,
    *,
    epochs: int,
    checkpoints: Checkpoints | None = None,
    history: Sequence[Record] = (),
    on_epoch: Callable[[Record], None] | None = None,
    evaluate_every: int = 1,
    stop: Callable[[], bool] | None = None,
    hooks: Sequence[Hook] = (),
    progress: bool | None = None,
    console: Console | None = None,
    description: str = "training",
) -> tuple[LoopState, History]:
    """Train until ``epochs`` are complete, starting from the state ``loop``.

    The loop asks the device for numbers at most twice a second, and always about a step
    that has been dispatched already. Between these requests, no step waits for the
    host. The final state has the same bits whenever it is saved, stopped and resumed:
    which steps share a dispatch depends only on their place in the epoch. Several
    processes decide together every 16 dispatches; all must call this function together.

    Args:
        program: The compiled experiment.
        loop: ``program.start(seed)``, or a restored checkpoint. It is donated.
        epochs: Epochs of the whole run, including those before a resume and excluding a
            pretraining stage.
        checkpoints: Where to save after each epoch, and during an epoch if its settings
            say so.
        history: Records of the epochs before a resume.
        on_epoch: Called with each epoch's record, before its checkpoint.
        evaluate_every: Epochs between evaluations on the test set. The last epoch is
            always evaluated.
        stop: Called before each dispatch. If it returns True, the state is saved and
            the run ends early.
        hooks: Further hooks, such as :class:`KeepBest` and :class:`EarlyStopping`.
            Their ``on_epoch`` runs after the evaluation and before the record is shown.
        progress: Whether to show progress. By default a terminal and a notebook get a
            bar, and a pipe, a log file and a test nothing. With True, these get a plain
            line per epoch.
        console: Where to show it; by default on stdout.
        description: The name of this run in the progress display.

    Returns:
        The final state, and a :class:`History`, a list with one record per epoch:
        ``epoch``, ``step``, ``seconds``, ``images_per_second`` (without compilation),
        ``train/...`` means over the epoch's steps, ``test/accuracy`` and ``test/loss``
        if evaluated (with ``test/top5_accuracy`` for more than five classes,
        ``validation/...`` if the dataset has validation images, and ``test/ema_...`` if
        an average is kept), and, if steps may be skipped, their number as ``skipped``.
        ``train/learning_rate`` is the mean rate, if the optimizer is one of this
        package's. Epochs of a pretraining stage come first, are counted in ``epoch``
        and are not evaluated; ``stage`` tells the two stages of such a run apart. With
        trials, these are means over them, ``trials`` holds the value of each by the
        same names, and images count once for each student.

    Raises:
        InvalidInputError: If ``loop`` was given to this function before, or the
            teacher is a recording with another data seed or too few epochs.
        DivergenceError: If a loss, or a parameter that would be saved, is not finite.
            Checkpoints only hold states before that.
        Interrupted: If ``stop`` returned True before the last step.
        ValueError: If an optimizer that accumulates gradients has made no update in a
            whole stage.

    Example:
        >>> import optax
        >>> from flax import nnx
        >>> from jaxkd import data, distillers, models, training
        >>> def build(rngs):
        ...     return models.build(
        ...         "mlp", num_classes=10, image_shape=(8, 8, 1), rngs=rngs
        ...     )
        >>> program = training.compile_program(
        ...     build,
        ...     data.load("digits"),
        ...     distillers.cross_entropy(),
        ...     optimizer=optax.adam(1e-3),
        ... )
        >>> loop, history = training.fit(program, program.start(0), epochs=2)
        >>> loop
        LoopState(step=46)
        >>> [record["step"] for record in history]
        [23, 46]
    """
    _checks.check_at_least(1, epochs=epochs, evaluate_every=evaluate_every)
    if not isinstance(program, Program):
        raise InvalidTypeError(
            "program must be the result of training.compile_program, got "
            f"{type(program).__name__}",
            argument="program",
        )
    check_not_donated(loop)
    program.check_recording(loop, epochs)
    run = Run(program, loop, epochs, history)
    saver = Saver(checkpoints, run.step)
    run.kept = saver.kept
    display = FitProgress(
        console_for(progress, console),
        description,
        epochs=run.epochs,
        steps_per_epoch=program.steps_per_epoch,
        completed=run.step,
    )
    # The saver is early: a hook between epochs may rely on the saved state.
    hooks = [Evaluate(evaluate_every), saver, *hooks, display]
    if on_epoch is not None:
        hooks.append(CallOnEpoch(on_epoch))
    if stop is not None:
        hooks.insert(0, StopWhenAsked(stop, saver.save_and_wait))
    with display, program.feeding(), saver.finishing():
        for hook in hooks:
            hook.before_training(run)
        while not run.ended and run.step < run.epochs * program.steps_per_epoch:
            speed = _train_epoch(run, hooks)
            record = _record(run, speed)
            for hook in hooks:
                hook.on_epoch(run, record)
            run.records.append(record)
            run.check_updates()
            if run.step == program.pretraining_steps:  # never 0: an epoch has ended
                run.begin_training()
            for hook in hooks:
                hook.between_epochs(run)
    return run.loop, History(run.records)


def _train_epoch(run: Run, hooks: Sequence[Hook]) -> dict[str, float]:
    """Take the remaining steps of the current epoch; return their speed."""
    end = run.step - run.steps_into_epoch + run.program.steps_per_epoch
    stage, order = run.begin_epoch()
    stopwatch = _Stopwatch(run)
    # Several processes must take decisions by clocks and signals together.
    alone, dispatches = jax.process_count() == 1, 0
    while run.step < end:
        deciding = alone or dispatches % _DISPATCHES_BETWEEN == 0
        dispatches += 1
        if deciding:
            for hook in hooks:
                hook.before_step(run)
        _dispatch(run, stage, order, end)
        stopwatch.dispatched()
        ended = run.step == end
        due = [hook for hook in hooks if (deciding or ended) and hook.due(run)]
        if due or ended:
            metrics = run.metrics()
            for hook in due:
                hook.on_step(run, metrics)
    run.end_epoch()
    return stopwatch.speed()


def _dispatch(run: Run, stage: Stage, order: Order, end: int) -> None:
    """Take several steps at once where they are aligned to the epoch, else one."""
    # Rounding differs between one dispatch of several steps and several of one step.
    # So the choice must not depend on where a run was interrupted.
    many = run.program.steps_per_call
    if many > 1 and run.steps_into_epoch % many == 0 and run.step + many <= end:
        run.take_steps(stage.advance_many, order, many)
    else:
        run.take_steps(stage.advance, order, 1)


def _record(run: Run, speed: dict[str, float]) -> Record:
    """Begin the record of the epoch that has just ended."""
    program = run.program
    epoch = run.step // program.steps_per_epoch
    record: Record = {"epoch": epoch, "step": run.step, **speed}
    if program.pretraining_epochs:
        pretraining = epoch <= program.pretraining_epochs
        record["stage"] = "pretraining" if pretraining else "training"
    measured = epoch_means(run.loop.monitor.totals, program.steps_per_epoch)
    add_to(record, measured, program.trials)
    return record


class _Stopwatch:
    """Measures an epoch, and its speed without the first dispatch, which compiles."""

    def __init__(self, run: Run):
        self._run, self._first_step = run, run.step
        self._started, self._timed_from = time.perf_counter(), None

    def dispatched(self) -> None:
        """Wait for the first dispatch, and measure the speed from there."""
        if self._timed_from is None:
            jax.block_until_ready(self._run.report)
            self._timed_from, self._first_step = time.perf_counter(), self._run.step

    def speed(self) -> dict[str, float]:
        """Return seconds and images per second, counting each student's images."""
        now, program = time.perf_counter(), self._run.program
        timed = now - (self._timed_from or self._started)
        steps = self._run.step - self._first_step
        images = steps * program.batch_size * (program.trials or 1)
        return {
            "seconds": now - self._started,
            "images_per_second": images / timed if steps else 0.0,
        }

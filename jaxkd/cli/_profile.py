"""Trace a few steps with the JAX profiler."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxkd import runs, training
from jaxkd.cli._console import Console

# After compilation and the first, slow steps; long enough to show a pattern.
_FIRST, _LAST = 10, 20


@contextlib.contextmanager
def profiled(
    program: training.Program, run: Path, console: Console
) -> Iterator[training.Program]:
    """Trace steps 10 to 20 of a program into the run folder.

    If a dispatch holds several steps, all dispatches that contain these steps are
    traced. Steps of a pretraining stage do not count. At the end, the console shows
    where the trace is and how to open it.

    Args:
        program: The compiled experiment.
        run: The run folder.
        console: Where to print the location of the trace.

    Yields:
        The same program, which starts and stops the profiler.
    """
    folder = runs.RunFolder(run).profile
    taken, tracing, traced = 0, False, False

    def stop() -> None:
        nonlocal tracing, traced
        jax.profiler.stop_trace()
        tracing, traced = False, True

    def watched(advance, steps):
        def advance_and_trace(state, order):
            nonlocal taken, tracing
            if taken >= _FIRST and not tracing and not traced:
                jax.block_until_ready(state)  # earlier work is not part of the trace
                jax.profiler.start_trace(folder)
                tracing = True
            if not tracing:
                state, report = advance(state, order)
            else:
                with jax.profiler.StepTraceAnnotation("train", step_num=taken):
                    state, report = advance(state, order)
            taken += steps
            if tracing and taken >= _LAST:
                jax.block_until_ready(report)
                stop()
            return state, report

        return advance_and_trace

    stage = program.training
    stage = stage._replace(
        advance=watched(stage.advance, 1),
        advance_many=watched(stage.advance_many, program.steps_per_call),
    )
    try:
        yield dataclasses.replace(program, training=stage)
    finally:
        if tracing:  # the run ended, or failed, during the traced steps
            stop()
        console.tell(
            f"profile: {folder}; open it with `tensorboard --logdir {folder}` (pip "
            "install tensorboard xprof), or its .trace.json.gz on ui.perfetto.dev"
            if traced
            else f"profile: none, because the run has no more than {_FIRST} steps"
        )

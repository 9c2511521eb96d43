"""Train the students of a program without a display."""

from jaxkd import training


def fit(program: training.Program, *, seed: int, epochs: int) -> training.LoopState:
    """Train, and evaluate after the last epoch only."""
    loop, _ = training.fit(
        program,
        program.start(seed),
        epochs=epochs,
        evaluate_every=epochs,
        progress=False,
    )
    return loop


def frozen(
    program: training.Program, loop: training.LoopState, trials: int
) -> list[training.FrozenNetwork]:
    """Return the students of all trials in inference mode."""
    return [
        training.freeze_teacher(program.student(loop, trial), program.normalization)
        for trial in range(trials)
    ]

"""The memory of a compiled training step."""

from typing import Any

from jaxkd import training


def scratch_bytes(stage: training.Stage, loop: training.LoopState, order: Any) -> int:
    """Return the memory of one step beside its arguments, as XLA plans it.

    Args:
        stage: A stage of a program that was compiled with ``fused=True``. The step is
            compiled again.
        loop: The state.
        order: The order of the rows.
    """
    step: Any = stage.advance  # functools.partial(compiled function, constants)
    analysis = step.func.lower(*step.args, loop, order).compile().memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes

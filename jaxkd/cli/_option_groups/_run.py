"""Length, output and devices of a run."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from jaxkd.cli._option_groups._option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Length, seeds and safety of the run."""

    epochs: int = 240
    """Number of epochs."""
    batch_size: int = 64
    """Number of examples per step."""
    seed: int = 0
    """Seed for the initialization and for what a student samples on its own."""
    data_seed: int = 0
    """Seed for the order of the data and for data augmentation."""
    trials: Annotated[
        int,
        option(
            "Number of students to train side by side on the same batches. Student i "
            "uses the seed --seed + i; all share one forward pass of the teacher. On "
            "CPU, each student equals a single run with its seed, bit for bit."
        ),
    ] = 1
    ema: Annotated[
        float | None,
        option(
            "Decay of a moving average of the network's weights, such as 0.999. "
            "`evaluate`, `export` and `distill --teacher` then use the average.",
            default="no average",
        ),
    ] = None
    patience: Annotated[
        int | None,
        option(
            "End the run when the validation accuracy has not improved for this many "
            "epochs (needs --validation). The learning-rate schedule stays that of "
            "--epochs.",
            default="train all epochs",
        ),
    ] = None
    on_nonfinite: Annotated[
        Literal["stop", "skip", "back-off"],
        option(
            "Reaction to a loss that is not finite. stop: end the run. skip: skip the "
            "step, up to ten steps in a row. back-off: return to the last checkpoint "
            "with half the learning rate, up to five times."
        ),
    ] = "stop"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Run folder, checkpoints and reports."""

    out: Path
    """Run folder to create."""
    resume: bool = False
    """Continue the run in --out from its newest intact checkpoint."""
    checkpoint_every: Annotated[
        int | None,
        option(
            "Also save during an epoch, every this many steps.",
            default="after each epoch",
        ),
    ] = None
    checkpoint_minutes: Annotated[
        float,
        option(
            "Also save during an epoch if this many minutes have passed since the last "
            "checkpoint."
        ),
    ] = 10.0
    keep: Annotated[
        Literal["best"] | None,
        option(
            "best: also keep the network of the epoch with the best validation "
            "accuracy (needs --validation). `evaluate`, `export`, `show` and `distill "
            "--teacher` then use it. Each trial has its own best epoch.",
            default="the newest checkpoints only",
        ),
    ] = None
    report: bool = True
    """Write report.html and images for TensorBoard when the run ends."""
    profile: bool = False
    """Trace steps 10 to 20 with the JAX profiler, into the folder --out/profile."""
    wandb: Annotated[
        str | None,
        option(
            "Weights & Biases project to send the metrics to (needs the extra "
            "`wandb`).",
            default="none",
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """Devices and processes."""

    mesh: Annotated[
        str | None,
        option(
            "Split examples and trials over devices, such as data=4 or data=2,trial=4.",
            default="examples over all devices, if their number divides the batch size",
        ),
    ] = None
    distributed: Annotated[
        bool,
        option(
            "Run as one of several processes, all started with the same command line. "
            "On SLURM, Kubernetes and TPU pods this is enough; elsewhere, also give "
            "the next three options."
        ),
    ] = False
    coordinator: Annotated[str | None, option(default="chosen by the cluster")] = None
    """Address of the first process, as host:port."""
    num_processes: Annotated[int | None, option(default="chosen by the cluster")] = None
    """Number of processes."""
    process_id: Annotated[int | None, option(default="chosen by the cluster")] = None
    """Index of this process, starting at 0."""

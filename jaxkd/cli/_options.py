"""What can be said on the command line. Imports no JAX, so that help is instant."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where the data come from and how they are varied."""

    data_dir: Path | None = None
    """Folder of prepared TFDS datasets; by default $TFDS_DATA_DIR."""
    cache_dir: Path | None = None
    """Folder for decoded images; by default $JAXKD_CACHE_DIR or ~/.cache/jaxkd."""
    image_size: int | None = None
    """Height and width that images are brought to; needed if theirs differ."""
    stream: bool = False
    """Read and decode images when they are needed, for what does not fit in memory."""
    workers: int = 0
    """Processes that read streamed images; 0 for threads."""
    subset: int | None = None
    """Train on this many training images, an equal share of each class."""
    crop_padding: int | None = None
    """Zero pixels around an image before a random crop; by default the dataset's."""
    flip: bool | None = None
    """Whether to mirror images at random; by default the dataset's."""
    randaugment: tuple[int, float] | None = None
    """RandAugment: operations per image and their magnitude, 0 to 10: `2 9`."""
    mixup: float = 0.0
    """Parameter of mixup's Beta distribution, 0.2 for instance; 0 for none."""
    cutmix: float = 0.0
    """Parameter of CutMix's Beta distribution, 1 for instance; 0 for none."""


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The published SGD recipe, or another of optax's optimizers."""

    optimizer: str = "published"
    """published, or one of optax's by its name: adamw, lion, lamb, ..."""
    optimizer_settings: dict[str, str] = dataclasses.field(default_factory=dict)
    """Its arguments: `--optimizer-settings b1 0.9 weight_decay 0.05`."""
    schedule: Literal["step", "constant", "cosine", "warmup-cosine", "linear"] = "step"
    """How the learning rate falls."""
    warmup: float = 0.05
    """Part of the run in which the rate of warmup-cosine rises."""
    clip_norm: float | None = None
    """Largest global norm of a gradient; larger ones are scaled down to it."""
    accumulate: int = 1
    """Consecutive batches whose mean gradient makes one update. Each is still a batch
    of its own for relations between examples, batch statistics and banks."""
    learning_rate: float = 0.05
    """Initial rate; published: 0.05, and 0.01 for MobileNetV2 and the ShuffleNets."""
    momentum: float = 0.9
    """Momentum of the published SGD."""
    weight_decay: float = 5e-4
    """The published SGD's L2 decay of everything that is trained."""
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    """Where in the run the rate of step falls tenfold; published: 150, 180, 210 of
    240."""


@dataclasses.dataclass(frozen=True)
class HolisticOptions:
    """Holistic knowledge distillation; only for methods with an `hkd` part."""

    neighbors: int = 8
    """Neighbours of a node in the batch graph, itself included."""
    hops: int = 1
    """Hops of the graph encoder."""
    dim: int = 128
    """Dimension of embeddings and bank."""
    temperature: float = 0.07
    """Temperature of the contrast."""
    bank_momentum: float = 0.9
    """Share of the old row in a bank update."""
    smoothing: float = 0.75
    """Share of the bank in a graph term's positive."""
    num_negatives: int | None = None
    """Negatives per example; by default 16384, or what there is, if less."""
    negatives: Literal["sampled", "shared", "all"] = "sampled"
    """How negatives are chosen."""
    negatives_from: Literal["own", "cross"] = "own"
    """Whose bank an anchor is contrasted with."""
    graph_from: Literal["predictions", "embeddings"] = "predictions"
    """What of a network is alike in neighbours."""
    embedding_weight: float = 1.0
    """Weight of the two terms before the graph network."""
    graph_weight: float = 1.0
    """Weight of the two terms after the graph network."""
    bank_dtype: Literal["float32", "bfloat16"] = "float32"
    """How the bank is stored."""


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """The devices and processes that a run takes."""

    mesh: str | None = None
    """Devices over the examples and over the trials: `data=4`, `data=2,trial=4`. By
    default all are over the examples, if their number divides the batch size."""
    distributed: bool = False
    """This is one of several processes, all started with the same command line; SLURM,
    Kubernetes and TPU pods say which, elsewhere the next three options do."""
    coordinator: str | None = None
    """Address of the first process: `host:port`."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Number of this process, from 0."""


@dataclasses.dataclass(frozen=True)
class _TrainingOptions:
    out: Path
    """The run folder to make."""
    model: str
    """A network by name: resnet20, resnet8x4, wrn_16_2, vgg8, MobileNetV2, ShuffleV2,
    resnet18, vit_ti, mlp and others; an unknown name lists them all."""
    width: int | None = None
    """Base number of channels; by default the published one."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the trained network; its parameters stay float32."""
    epochs: int = 240
    """Length of the run."""
    batch_size: int = 64
    """Examples per step."""
    seed: int = 0
    """Source of the initialisation and of what a student draws for itself."""
    data_seed: int = 0
    """Source of the order of the data and of their augmentation."""
    trials: int = 1
    """Students to train side by side, with the seeds from --seed on, on the same data:
    they share the teacher's answers. Trial i is the run of seed + i, bit for bit on
    CPU."""
    ema: float | None = None
    """Decay of a moving average of the network's weights, 0.999 for instance; the
    average is what `evaluate`, `export` and `distill --teacher` then take."""
    checkpoint_every: int | None = None
    """Also save every so many steps within an epoch."""
    checkpoint_minutes: float = 10.0
    """Also save within an epoch when the last save is this long ago."""
    on_nonfinite: Literal["stop", "skip", "back-off"] = "stop"
    """What to do about a loss that is not finite: stop; skip the step, up to ten in a
    row; or go back to the last checkpoint with half the learning rate, up to five
    times."""
    resume: bool = False
    """Continue the run in --out from its newest intact checkpoint."""
    report: bool = True
    """Make report.html at the end, and images for TensorBoard."""
    profile: bool = False
    """Trace steps 10 to 20 with JAX's profiler, into the folder `profile` of --out."""
    wandb: str | None = None
    """A project on Weights & Biases to send the metrics to (extra `wandb`)."""
    optimizer: Annotated[OptimizerOptions, tyro.conf.arg(name="")] = OptimizerOptions()
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    devices: Annotated[DeviceOptions, tyro.conf.arg(name="")] = DeviceOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_TrainingOptions):
    """Train a network on its own, a teacher for instance."""

    dataset: str
    """digits, a TFDS dataset by name, a .npz file, or a folder of images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(_TrainingOptions):
    """Train a student with the help of a trained teacher."""

    teacher: Path
    """The teacher's run folder."""
    teacher_trial: int = 0
    """Which of the teacher's trials, in a run of several."""
    method: str = "hkd+kd"
    """The recipe; `jaxkd methods` lists them. Most also come with kd: crd+kd."""
    dataset: str | None = None
    """As for train; by default the teacher's."""
    temperature: float = 4.0
    """Temperature of the soft targets (kd); inf is allowed."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """Weights that replace or join the recipe's: `--weights ce 1 kd 0.5`."""
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    """Settings of the recipe's parts: `--settings crd.dim 64 rkd.angle_weight 25`."""
    equal_means: bool = False
    """Start student and teacher with class means of zero in their classifiers, so that
    every mean logit is zero: then kd at infinite temperature is logit-matching."""
    hkd: HolisticOptions = HolisticOptions()


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a trained network on its whole test set."""

    run: Positional[Path]
    """A run folder."""
    trial: int = 0
    """Which of the students, in a run of several trials."""
    dataset: str | None = None
    """Another dataset of the same shape; by default the run's own."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets; by default $TFDS_DATA_DIR."""
    cache_dir: Path | None = None
    """Folder for decoded images; by default $JAXKD_CACHE_DIR or ~/.cache/jaxkd."""
    image_size: int | None = None
    """Height and width that images are brought to; by default as in the run, and for
    another dataset as they are."""
    stream: bool = False
    """Read and decode images when they are needed, for what does not fit in memory."""
    workers: int = 0
    """Processes that look through images streamed for the first time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert:
    """Turn a PyTorch checkpoint into a run folder, for `distill --teacher`."""

    checkpoint: Positional[Path]
    """A .pth, .pt, .ckpt, .tar (extra `torch`) or .safetensors file."""
    out: Path
    """The run folder to make."""
    model: str | None = None
    """The network; by default the one that has exactly these names and shapes."""
    width: int | None = None
    """Base number of channels; by default the published one."""
    image_size: int = 32
    """Height and width of its images; 224 for networks made for ImageNet."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel that it was trained with, images in [0, 1]; by default the
    published one of CIFAR-100 (0.5071 0.4867 0.4408) for images of 32x32x3."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel; by default the published one of CIFAR-100
    (0.2675 0.2565 0.2761) for images of 32x32x3."""
    dataset: str | None = None
    """What `distill` and `evaluate` load if they are not told: a TFDS dataset by name,
    or a .npz file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write a trained network for other programs."""

    run: Positional[Path]
    """A run folder."""
    format: Literal["safetensors", "stablehlo", "orbax"]
    """safetensors: weights by their PyTorch names. stablehlo: the program from stored
    images to logits, for jax without jaxkd. orbax: weights by their Flax names."""
    out: Path
    """The file to make; the folder for orbax."""
    trial: int = 0
    """Which of the students, in a run of several trials."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Compare finished runs in a table: mean and deviation over trials, improvements.

    Runs that differ in their seeds alone count as trials of one experiment; runs of
    `jaxkd train` with a student's network as that student alone.
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders."""
    out: Path
    """Folder for report.md, report.tex, report.csv and curves."""
    baseline: str | None = None
    """The method whose average relative improvement (ARI) over the others is shown; by
    default hkd+kd, if it is there."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Make the report of a run again (report.html), and say where it is."""

    run: Positional[Path]
    """A run folder."""
    trial: int = 0
    """Which of the students, in a run of several trials."""
    teacher: Path | None = None
    """The teacher's run folder, if it has moved."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets; by default the run's."""
    cache_dir: Path | None = None
    """Folder for decoded images; by default the run's."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Read a dataset, decode it into the cache, and describe it."""

    name: Positional[str]
    """digits, a TFDS dataset by name, a .npz file, or a folder of images."""
    prepare: bool = False
    """Download and prepare it with TFDS first (extra `prepare`)."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets; by default $TFDS_DATA_DIR."""
    cache_dir: Path | None = None
    """Folder for decoded images; by default $JAXKD_CACHE_DIR or ~/.cache/jaxkd."""
    image_size: int | None = None
    """Height and width that images are brought to; needed if theirs differ."""
    stream: bool = False
    """Read and decode images when they are needed, for what does not fit in memory."""
    workers: int = 0
    """Processes that look through images streamed for the first time."""


@dataclasses.dataclass(frozen=True)
class Methods:
    """List the methods of distillation: their parts, weights and settings."""


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check every theorem by machine and print the certificate."""

    only: tuple[str, ...] = ()
    """Statements to check, such as T3; by default all."""
    cases: int = 100_000
    """Random cases of T3 and T4; the other statements take fixed numbers."""
    dtype: Literal["float64", "float32", "bfloat16"] = "float64"
    """Dtype of logits and networks; below float64, what rounding leaves is shown."""
    seed: int = 0
    """Source of all randomness."""
    out: Path | None = None
    """Folder for certificate.json, certificate.md and plots."""


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Distil handwritten digits in a minute: alone, KD and HKD+KD compared."""

    out: Path = Path("quickstart")
    """The folder to make."""
    seeds: int = 3
    """Students per method."""


COMMANDS: dict[type, str] = {
    Train: "jaxkd.cli.commands.train",
    Distill: "jaxkd.cli.commands.distill",
    Evaluate: "jaxkd.cli.commands.evaluate",
    Convert: "jaxkd.cli.commands.convert",
    Export: "jaxkd.cli.commands.export",
    Report: "jaxkd.cli.commands.report",
    Show: "jaxkd.cli.commands.show",
    Methods: "jaxkd.cli.commands.methods",
    Verify: "jaxkd.cli.commands.verify",
    Data: "jaxkd.cli.commands.data",
    Quickstart: "jaxkd.cli.commands.quickstart",
}
"""The module whose ``run(options, arguments)`` carries a command out."""


Command = (
    Train
    | Distill
    | Evaluate
    | Convert
    | Export
    | Report
    | Show
    | Methods
    | Verify
    | Data
    | Quickstart
)


def parse(arguments: Sequence[str]) -> Command:
    """Parses a command line; exits with code 2 if it is malformed."""
    return tyro.cli(
        Command,
        prog="jaxkd",
        description="Knowledge distillation for JAX. Its version: jaxkd --version.",
        args=arguments,
    )

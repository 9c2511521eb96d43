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
    subset: int | None = None
    """Train on this many training images, an equal share of each class."""
    crop_padding: int | None = None
    """Zero pixels around an image before a random crop; by default the dataset's."""
    flip: bool | None = None
    """Whether to mirror images at random; by default the dataset's."""


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The published SGD recipe."""

    learning_rate: float = 0.05
    """Initial rate; published: 0.05, and 0.01 for MobileNetV2 and the ShuffleNets."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 5e-4
    """L2 decay of everything that is trained."""
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    """Where in the run the rate falls tenfold; published: 150, 180, 210 of 240."""


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
    embedding_weight: float = 1.0
    """Weight of the two terms before the graph network."""
    graph_weight: float = 1.0
    """Weight of the two terms after the graph network."""
    bank_dtype: Literal["float32", "bfloat16"] = "float32"
    """How the bank is stored."""


@dataclasses.dataclass(frozen=True)
class _TrainingOptions:
    out: Path
    """The run folder to make."""
    model: str
    """The network: resnet8 ... resnet110, resnet8x4, resnet32x4, mlp."""
    width: int | None = None
    """Base number of channels; by default the published one."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the trained network; its parameters stay float32."""
    epochs: int = 240
    """Length of the run."""
    batch_size: int = 64
    """Examples per step."""
    seed: int = 0
    """Source of all randomness."""
    checkpoint_every: int | None = None
    """Also save every so many steps within an epoch."""
    resume: bool = False
    """Continue the run in --out from its newest finished checkpoint."""
    report: bool = True
    """Make report.html at the end, and images for TensorBoard."""
    profile: bool = False
    """Trace steps 10 to 20 with JAX's profiler, into the folder `profile` of --out."""
    wandb: str | None = None
    """A project on Weights & Biases to send the metrics to (extra `wandb`)."""
    optimizer: Annotated[OptimizerOptions, tyro.conf.arg(name="")] = OptimizerOptions()
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_TrainingOptions):
    """Train a network on its own, a teacher for instance."""

    dataset: str
    """digits, a TFDS dataset by name, or a .npz file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(_TrainingOptions):
    """Train a student with the help of a trained teacher."""

    teacher: Path
    """The teacher's run folder."""
    method: str = "hkd+kd"
    """The recipe; `jaxkd methods` lists them. Most also come with kd: crd+kd."""
    dataset: str | None = None
    """digits, a TFDS dataset by name, or a .npz file; by default the teacher's."""
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
    dataset: str | None = None
    """Another dataset of the same shape; by default the run's own."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets; by default $TFDS_DATA_DIR."""
    cache_dir: Path | None = None
    """Folder for decoded images; by default $JAXKD_CACHE_DIR or ~/.cache/jaxkd."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Make the report of a run again (report.html), and say where it is."""

    run: Positional[Path]
    """A run folder."""
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
    """digits, a TFDS dataset by name, or a .npz file."""
    prepare: bool = False
    """Download and prepare it with TFDS first (extra `prepare`)."""
    data_dir: Path | None = None
    """Folder of prepared TFDS datasets; by default $TFDS_DATA_DIR."""
    cache_dir: Path | None = None
    """Folder for decoded images; by default $JAXKD_CACHE_DIR or ~/.cache/jaxkd."""


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
    Train: "jaxkd.cli._train",
    Distill: "jaxkd.cli._distill",
    Evaluate: "jaxkd.cli._evaluate",
    Show: "jaxkd.cli._show",
    Methods: "jaxkd.cli._methods",
    Verify: "jaxkd.cli._verify",
    Data: "jaxkd.cli._data",
    Quickstart: "jaxkd.cli._quickstart",
}
"""The module whose ``run(options, arguments)`` carries a command out."""


Command = Train | Distill | Evaluate | Show | Methods | Verify | Data | Quickstart


def parse(arguments: Sequence[str]) -> Command:
    """Parses a command line; exits with code 2 if it is malformed."""
    return tyro.cli(
        Command,
        prog="jaxkd",
        description="Knowledge distillation for JAX.",
        args=arguments,
    )

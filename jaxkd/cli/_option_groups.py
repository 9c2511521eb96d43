"""Groups of options that several commands share.

Imports no JAX, so that ``--help`` is fast. Each group is one box of the help text, and
the options most people need come first in it. ``data``, ``optimizer``, ``devices`` and
``hkd`` are stored in a run's ``config.json`` under these names; the other groups are
stored at its top level.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


def option(help: str | None = None, *, default: str | None = None) -> object:
    """Describe an option whose help text or default does not fit into one line.

    Args:
        help: Help text. By default, the docstring below the field.
        default: Description of the default value, in place of ``None``.
    """
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(help=help, help_behavior_hint=hint)


# Options of every command that loads images.
Background = Annotated[
    str | None,
    option(
        "Color behind transparent pixels of image files: white, black, gray or "
        "#RRGGBB.",
        default="white, or that of the run",
    ),
]
ValueRange = Annotated[
    tuple[float, float] | None,
    option(
        "Values of black and white in a .npz file whose images are neither uint8 nor "
        "in 0 to 1, such as 0 65535 or -1 1.",
        default="0 255 for uint8, 0 1 for floating point, or that of the run",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network to train."""

    model: Annotated[
        str,
        option(
            "Name of the network: resnet20, resnet8x4, wrn_16_2, vgg8, MobileNetV2, "
            "ShuffleV2, resnet18, vit_ti, mlp and others. An unknown name prints the "
            "whole list."
        ),
    ]
    width: Annotated[int | None, option(default="published width")] = None
    """Base number of channels."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the network's computations. Its parameters are always float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Teacher and student."""

    teacher: Path
    """Run folder of the teacher."""
    teacher_trial: int = 0
    """Trial of the teacher's run to use as the teacher."""
    equal_means: Annotated[
        bool,
        option(
            "Center the classifiers of student and teacher, so that all logits have "
            "mean zero at the start. With it, kd at infinite temperature equals "
            "logit-matching."
        ),
    ] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Distillation method."""

    method: Annotated[
        str,
        option(
            "Distillation method; `jaxkd methods` lists all. Add +kd to combine a "
            "method with soft targets, such as crd+kd."
        ),
    ] = "hkd+kd"
    temperature: float = 4.0
    """Temperature of the soft targets (the kd part), from 1.4e-14 to inf."""
    weights: Annotated[
        dict[str, float],
        option(
            "Weights of at least 0 that replace or extend those of the method, such as "
            "ce 1 kd 0.5.",
            default="those of the method",
        ),
    ] = dataclasses.field(default_factory=dict)
    settings: Annotated[
        dict[str, str],
        option(
            "Settings of the method's parts, such as crd.dim 64 rkd.angle_weight 25. "
            "`jaxkd methods` lists all.",
            default="those of the method",
        ),
    ] = dataclasses.field(default_factory=dict)


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Rows of a dataset."""

    train_split: Annotated[
        str | None,
        option(
            "Rows to train on, in the syntax of TFDS: 'train[:90%]', 'train[1000:]', "
            "'train+validation'. A slice of a TFDS dataset takes rows in order; of "
            "other datasets, the same share of each class.",
            default="train, or that of the run",
        ),
    ] = None
    test_split: Annotated[
        str | None,
        option(
            "Rows to test on, such as 'train[90%:]'. If the split test has no labels, "
            "validation is used.",
            default="test or validation, or that of the run",
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class DataOptions(RowOptions):
    """Training data and data augmentation."""

    data_dir: Annotated[Path | None, option(default="$TFDS_DATA_DIR")] = None
    """Folder of prepared TFDS datasets."""
    cache_dir: Annotated[
        Path | None, option(default="$JAXKD_CACHE_DIR or ~/.cache/jaxkd")
    ] = None
    """Folder for decoded images."""
    image_size: Annotated[
        int | None,
        option(
            "Height and width to resize images to. Required if the images have "
            "different sizes.",
            default="size of the images",
        ),
    ] = None
    stream: bool = False
    """Decode images when they are needed, for datasets that do not fit in memory."""
    workers: int = 0
    """Number of processes that read streamed images; 0 uses threads."""
    background: Background = None
    value_range: ValueRange = None
    subset: Annotated[int | None, option(default="all images")] = None
    """Train on this many training images, with an equal share of each class."""
    crop_padding: Annotated[int | None, option(default="chosen by the dataset")] = None
    """Zero pixels to add on each side of an image before a random crop."""
    flip: Annotated[bool | None, option(default="chosen by the dataset")] = None
    """Whether to mirror images at random."""
    randaugment: Annotated[tuple[int, float] | None, option(default="off")] = None
    """RandAugment: operations per image and magnitude from 0 to 10, such as 2 9."""
    mixup: float = 0.0
    """Parameter of mixup's Beta distribution, such as 0.2; 0 turns mixup off."""
    cutmix: float = 0.0
    """Parameter of CutMix's Beta distribution, such as 1; 0 turns CutMix off."""


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer and learning-rate schedule."""

    optimizer: Annotated[
        str,
        option(
            "published: SGD with momentum and weight decay, as in the published "
            "benchmarks. Otherwise, an optax optimizer by name: adamw, lion, lamb, sgd "
            "and others. An unknown name prints the whole list."
        ),
    ] = "published"
    learning_rate: Annotated[
        float,
        option(
            "Initial learning rate. The published values are 0.05, and 0.01 for "
            "MobileNetV2 and ShuffleNet students."
        ),
    ] = 0.05
    schedule: Annotated[
        Literal["step", "constant", "cosine", "warmup-cosine", "linear"],
        option(
            "Learning-rate schedule. step: divide by ten at each milestone. constant: "
            "no change. cosine, linear: decrease to 0. warmup-cosine: increase from 0, "
            "then decrease to 0."
        ),
    ] = "step"
    milestones: Annotated[
        tuple[float, ...],
        option(
            "Fractions of training after which the step schedule divides the learning "
            "rate by ten. The published epochs are 150, 180 and 210 of 240."
        ),
    ] = (0.625, 0.75, 0.875)
    warmup: float = 0.05
    """Fraction of training spent in warmup (warmup-cosine only)."""
    momentum: float = 0.9
    """Momentum (published optimizer only)."""
    weight_decay: float = 5e-4
    """L2 penalty on all trained parameters (published optimizer only)."""
    optimizer_settings: Annotated[
        dict[str, str],
        option(
            "Arguments of the optax optimizer, such as b1 0.9 weight_decay 0.05.",
            default="those of optax",
        ),
    ] = dataclasses.field(default_factory=dict)
    clip_norm: Annotated[float | None, option(default="no clipping")] = None
    """Scale gradients down to this global norm if theirs is larger."""
    accumulate: Annotated[
        int,
        option(
            "Average the gradients of this many consecutive batches for each update. "
            "Relations between examples, batch statistics and memory banks still use "
            "single batches."
        ),
    ] = 1


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


@dataclasses.dataclass(frozen=True)
class HolisticOptions:
    """Settings of the `hkd` part of a method (holistic knowledge distillation)."""

    neighbors: int = 8
    """Neighbors of a node in the batch graph, including the node itself."""
    hops: int = 1
    """Number of hops in the graph encoder, at most 64."""
    dim: int = 128
    """Dimension of the embeddings and of the memory banks."""
    temperature: float = 0.07
    """Temperature of the contrastive loss."""
    bank_momentum: float = 0.9
    """Weight of the old row when a memory bank is updated."""
    smoothing: float = 0.75
    """Weight of the bank's row in the positive example of a graph term."""
    num_negatives: Annotated[
        int | None, option(default="16384, or all there are if fewer")
    ] = None
    """Negative examples per anchor."""
    negatives: Annotated[
        Literal["sampled", "shared", "all"],
        option(
            "Choice of negative examples. sampled: drawn for each anchor. shared: "
            "drawn once per batch. all: every row of another class."
        ),
    ] = "sampled"
    negatives_from: Annotated[
        Literal["own", "cross"],
        option(
            "Bank that holds the negative examples. own: the anchor's network. cross: "
            "the other network."
        ),
    ] = "own"
    graph_from: Annotated[
        Literal["predictions", "embeddings"],
        option("Outputs whose similarity decides which examples are neighbors."),
    ] = "predictions"
    embedding_weight: float = 1.0
    """Weight of the two terms before the graph encoder."""
    graph_weight: float = 1.0
    """Weight of the two terms after the graph encoder."""
    bank_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the memory banks."""

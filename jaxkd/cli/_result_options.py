"""Options of the commands that read trained networks and run folders."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxkd.cli._option_groups import (
    Background,
    RowOptions,
    TestResize,
    ValueRange,
    option,
)

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TestSetOptions(RowOptions):
    """The test set of a trained network."""

    dataset: Annotated[str | None, option(default="dataset of the run")] = None
    """Another dataset with the same image size and classes."""
    data_dir: Annotated[Path | None, option(default="$TFDS_DATA_DIR")] = None
    """Folder of prepared TFDS datasets."""
    cache_dir: Annotated[
        Path | None, option(default="$JAXKD_CACHE_DIR or ~/.cache/jaxkd")
    ] = None
    """Folder for decoded images."""
    image_size: Annotated[
        int | None,
        option(default="that of the run; for another dataset, size of the images"),
    ] = None
    """Height and width to resize images to."""
    test_resize: TestResize = None
    stream: bool = False
    """Decode images when they are needed, for datasets that do not fit in memory."""
    workers: Annotated[
        int,
        option(
            "Number of processes that scan images before they are streamed for the "
            "first time; 0 uses threads."
        ),
    ] = 0
    background: Background = None
    value_range: ValueRange = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(_TestSetOptions):
    """Evaluate a trained network on its whole test set."""

    run: Positional[Path]
    """Run folder."""
    trial: int = 0
    """Trial of the run to evaluate."""
    json: Annotated[
        Path | None,
        option(
            "File for the results, with precision and recall of each class and the "
            "confusion matrix (rows: class, columns: prediction); - for stdout.",
            default="none",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Temperature(_TestSetOptions):
    """Show at which temperatures distillation equals logits matching on a test set.

    At a high temperature, the loss of distillation is half the variance of the logit
    differences over the classes: logits matching without the gap of the mean logits.
    The table compares the loss with this limit, and with its bounds.
    """

    run: Annotated[
        Positional[Path],
        option(
            "Run folder of a student. A run without a teacher is compared as a teacher "
            "with a student whose logits are zero, as at the start of training."
        ),
    ]
    trial: int = 0
    """Trial of the run."""
    teacher: Annotated[Path | None, option(default="teacher of the run")] = None
    """Run folder of the teacher."""
    teacher_trial: Annotated[
        int | None, option(default="that of the run, or 0 with --teacher")
    ] = None
    """Trial of the teacher's run."""
    temperatures: tuple[float, ...] = (1.0, 4.0, 10.0, 100.0, 1000.0)
    """Temperatures of the table."""
    tolerance: float = 0.01
    """Largest relative difference from the limit that counts as equal."""
    json: Annotated[
        Path | None, option("File for the numbers; - for stdout.", default="none")
    ] = None
    figure: Annotated[
        Path | None,
        option("File for a figure of loss over limit, .png.", default="none"),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify picture files with a trained network.

    Pictures are decoded, resized and normalized as the run's test images were. If one
    of them cannot be read, nothing is written.
    """

    run: Positional[Path]
    """Run folder."""
    images: Annotated[
        Positional[tuple[Path, ...]],
        option(
            "Picture files and folders, whose pictures are taken with those in the "
            "folders inside.",
            default="at least one",
        ),
    ]
    out: Annotated[
        Path,
        option(
            "File to create, .csv or .jsonl: for each picture its class, the class's "
            "number and probability, and the next four classes."
        ),
    ]
    trial: int = 0
    """Trial of the run to predict with."""
    batch_size: int = 64
    """Pictures per forward pass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Compare finished runs in a table with means, deviations and improvements.

    Runs that differ only in their seeds count as trials of one experiment. Runs of
    different settings are different rows; other teachers, students or datasets are
    other columns. A run of jaxkd train with a student's network appears as that student
    without a teacher.
    """

    runs: Positional[tuple[Path, ...]]
    """Run folders."""
    out: Annotated[
        Path,
        option(
            "Folder for report.md, report.tex, report.csv and curves. An existing "
            "report is overwritten. If the folder contains anything else, or a file of "
            "the report was edited, the command stops with an error."
        ),
    ]
    baseline: Annotated[
        str | None, option(default="hkd+kd, if one of the runs uses it")
    ] = None
    """Method or row whose average relative improvement (ARI) is shown."""
    html: bool = False
    """Also write report.html: one page for a browser, which needs no other file."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Rewrite a run's report.html, and print its path."""

    run: Positional[Path]
    """Run folder."""
    trial: int = 0
    """Trial of the run to show."""
    teacher: Annotated[Path | None, option(default="teacher of the run")] = None
    """Run folder of the teacher, if it has moved."""
    alone: Annotated[Path | None, option(default="none")] = None
    """Run folder of the same student without a teacher, to show its accuracy, too."""
    data_dir: Annotated[Path | None, option(default="that of the run")] = None
    """Folder of prepared TFDS datasets."""
    cache_dir: Annotated[
        Path | None, option(default="$JAXKD_CACHE_DIR or ~/.cache/jaxkd")
    ] = None
    """Folder for decoded images."""


@dataclasses.dataclass(frozen=True)
class Layers:
    """List the layers of a network by their paths, with the shapes of their outputs."""

    network: Positional[str]
    """Name of a network, such as resnet8x4, or a run folder."""
    image_size: Annotated[
        int | None, option(default="that of the run; for a name, the published size")
    ] = None
    """Height and width of the images."""
    channels: Annotated[
        int | None, option(default="that of the run; for a name, 3")
    ] = None
    """Channels of the images."""
    trial: int = 0
    """Trial of the run."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """Audit your own distillation loss: find what is wrong with it.

    The exit code is 0 if the loss is clean, 1 if a fault was found, and 2 if it cannot
    be called.
    """

    target: Annotated[
        Positional[str],
        option(
            "The function, as module:function or path/to/file.py:function. It is "
            "called as f(student_logits, teacher_logits)."
        ),
    ]
    kind: Annotated[
        Literal["logits", "labeled", "embeddings", "features"] | None,
        option(
            "Its arguments. labeled: labels are the third argument. embeddings: "
            "[batch, features]. features: [batch, height, width, channels].",
            default="logits",
        ),
    ] = None
    temperature: Annotated[
        str | None,
        option(
            "Name of its temperature parameter.",
            default="temperature, T, tau or temp, if it has one of these",
        ),
    ] = None
    settings: Annotated[
        dict[str, str],
        option("Its other keyword arguments, such as alpha 0.5.", default="none"),
    ] = dataclasses.field(default_factory=dict)
    except_: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(
            name="except",
            metavar="CHECK",
            help="A check that need not pass, such as zero-sum; may be repeated.",
            help_behavior_hint="(default: none)",
        ),
    ] = ()
    classes: int = 10
    """Number of classes of the logits, at least 4."""
    seed: int = 0
    """Seed of the random inputs."""
    json: Annotated[
        Path | None,
        option("File for the report; - for stdout.", default="none"),
    ] = None
    out: Annotated[Path | None, option(default="print only")] = None
    """Folder for audit.json, audit.md and audit.png."""

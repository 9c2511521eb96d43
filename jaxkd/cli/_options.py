"""Commands and their options. Imports no JAX, so that ``--help`` is fast."""

import contextlib
import dataclasses
import inspect
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from jaxkd._text import printable
from jaxkd.cli._interchange_options import Convert as Convert
from jaxkd.cli._interchange_options import Export as Export
from jaxkd.cli._option_groups import (
    Background,
    NetworkOptions,
    OutputOptions,
    RecordingOptions,
    RowOptions,
    RunOptions,
    TeacherOptions,
    TestResize,
    ValueRange,
    option,
)
from jaxkd.cli._option_groups import DataOptions as DataOptions
from jaxkd.cli._option_groups import DeviceOptions as DeviceOptions
from jaxkd.cli._option_groups import HolisticOptions as HolisticOptions
from jaxkd.cli._option_groups import MethodOptions as MethodOptions
from jaxkd.cli._option_groups import OptimizerOptions as OptimizerOptions
from jaxkd.cli._result_options import Audit as Audit
from jaxkd.cli._result_options import Evaluate as Evaluate
from jaxkd.cli._result_options import Layers as Layers
from jaxkd.cli._result_options import Predict as Predict
from jaxkd.cli._result_options import Report as Report
from jaxkd.cli._result_options import Show as Show
from jaxkd.cli._result_options import Temperature as Temperature
from jaxkd.cli._value_types import VALUE_TYPES

Positional = tyro.conf.Positional

_FEWEST_COLUMNS = 40

_DATASET = "Dataset: digits, the name of a TFDS dataset, a .npz file, or a folder."


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainingOptions(NetworkOptions, RunOptions, OutputOptions):
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    devices: DeviceOptions = dataclasses.field(default_factory=DeviceOptions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_TrainingOptions):
    """Train a network without a teacher, for example to use it as a teacher."""

    dataset: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(_TrainingOptions, TeacherOptions, MethodOptions):
    """Train a student with the help of a trained teacher."""

    dataset: str | None = None
    unlabeled: Path | None = None
    hkd: HolisticOptions = dataclasses.field(default_factory=HolisticOptions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record(RecordingOptions):
    """Record a teacher's outputs for all training images, for `distill --recorded`.

    The teacher sees each image as a student of the same dataset, batch size, data seed
    and augmentation will see it. Students that are distilled from a float32 recording
    are those of the teacher itself; on CPU, bit for bit.
    """

    dataset: str | None = None
    unlabeled: Path | None = None
    data: DataOptions = dataclasses.field(default_factory=DataOptions)


@dataclasses.dataclass(frozen=True)
class Data(RowOptions):
    """Read a dataset, decode it into the cache, and describe it."""

    name: Annotated[Positional[str], option(_DATASET)]
    prepare: bool = False
    """Download and prepare it with TFDS first (needs the extra `prepare`)."""
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


@dataclasses.dataclass(frozen=True)
class Methods:
    """List all distillation methods with their parts, weights and settings."""


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check every theorem numerically and print the certificate."""

    only: Annotated[tuple[str, ...], option(default="all statements")] = ()
    """Statements to check, such as T3 T10."""
    cases: int = 100_000
    """Random cases for T3 and T4; other statements use fixed numbers of cases."""
    dtype: Annotated[
        Literal["float64", "float32", "bfloat16"],
        option(
            "Dtype of logits and networks. Below float64, the certificate shows the "
            "rounding error that remains."
        ),
    ] = "float64"
    seed: int = 0
    """Seed for all random cases."""
    out: Annotated[Path | None, option(default="print only")] = None
    """Folder for certificate.json, certificate.md and plots."""
    kernel: bool = False
    """Also let Coq check the proofs, and the library's output for some inputs."""


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Distill handwritten digits in a minute: no teacher, KD and HKD+KD compared."""

    out: Path = Path("quickstart")
    """Folder to create."""
    seeds: int = 3
    """Number of students per method."""


COMMANDS: dict[type, str] = {
    kind: f"jaxkd.cli.commands.{kind.__name__.lower()}"
    for kind in (
        *(Train, Distill, Record, Evaluate, Predict, Convert, Export, Report, Show),
        *(Methods, Layers, Temperature, Verify, Audit, Data, Quickstart),
    )
}
"""The module whose ``run(options, arguments)`` executes a command."""

Options = TypeVar("Options")

# A box of the help text: the flags of a group have no prefix, its title is its name.
_Box = tyro.conf.OmitArgPrefixes


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainDataset:
    dataset: Annotated[str, option(_DATASET)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DistillDataset:
    dataset: Annotated[str | None, option(_DATASET, default="that of the teacher")] = (
        None
    )
    unlabeled: Annotated[
        Path | None,
        option(
            "Folder of images without labels that join the training set, whatever its "
            "folders are called. Parts that need labels skip them: see "
            "`jaxkd methods`.",
            default="none",
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainData(DataOptions, _TrainDataset):
    """Training data and data augmentation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DistillData(DataOptions, _DistillDataset):
    """Training data and data augmentation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Networks(TeacherOptions, NetworkOptions):
    """Teacher and student."""


def _without_boxes(
    kind: Callable[..., Options], *boxes: Any, data: Any, **nested: Any
) -> Options:
    """Build a command's options from the boxes of its help text."""
    values = {name: value for box in boxes for name, value in vars(box).items()}
    own = vars(data).copy()
    for name in {*own} - {field.name for field in dataclasses.fields(DataOptions)}:
        values[name] = own.pop(name)
    return kind(**values, data=DataOptions(**own), **nested)


def _train(
    *,
    network: _Box[NetworkOptions],
    data: _Box[_TrainData],
    run: _Box[RunOptions],
    optimizer: _Box[OptimizerOptions],
    output: _Box[OutputOptions],
    hardware: _Box[DeviceOptions],
) -> Train:
    return _without_boxes(
        *(Train, network, run, output),
        data=data,
        optimizer=optimizer,
        devices=hardware,
    )


def _distill(
    *,
    network: _Box[_Networks],
    method: _Box[MethodOptions],
    data: _Box[_DistillData],
    run: _Box[RunOptions],
    optimizer: _Box[OptimizerOptions],
    output: _Box[OutputOptions],
    hardware: _Box[DeviceOptions],
    hkd: HolisticOptions,
) -> Distill:
    return _without_boxes(
        *(Distill, network, method, run, output),
        data=data,
        optimizer=optimizer,
        devices=hardware,
        hkd=hkd,
    )


def _record(*, recording: _Box[RecordingOptions], data: _Box[_DistillData]) -> Record:
    return _without_boxes(Record, recording, data=data)


def _subcommand(name: str, kind: type, constructor: Callable[..., Any]) -> object:
    description = inspect.getdoc(kind)
    return tyro.conf.subcommand(name, description=description, constructor=constructor)


_Command = (
    Annotated[Train, _subcommand("train", Train, _train)]
    | Annotated[Distill, _subcommand("distill", Distill, _distill)]
    | Annotated[Record, _subcommand("record", Record, _record)]
    | Evaluate
    | Predict
    | Convert
    | Export
    | Report
    | Show
    | Methods
    | Layers
    | Temperature
    | Verify
    | Audit
    | Data
    | Quickstart
)

_DESCRIPTION = """Knowledge distillation for JAX.

Print the version with jaxkd --version. Install tab completion for your shell with
jaxkd --tyro-write-completion SHELL FILE (bash, zsh, fish or tcsh)."""


def parse(arguments: Sequence[str]) -> Any:
    """Parse a command line; exit with code 2 if it is malformed.

    Returns:
        An instance of one of the classes in ``COMMANDS``.
    """
    # Errors of tyro quote arguments. The escaped ones are parsed first, so that these
    # errors contain no control characters.
    escaped = tuple(map(printable, arguments))
    with _wide_enough():
        parsed = [
            tyro.cli(
                _Command,  # pyright: ignore[reportArgumentType]
                prog="jaxkd",
                description=_DESCRIPTION,
                args=tried,
                registry=VALUE_TYPES,
            )
            for tried in dict.fromkeys((escaped, tuple(arguments)))
        ]
    return parsed[-1]


@contextlib.contextmanager
def _wide_enough() -> Iterator[None]:
    """Print help for a terminal of at least 40 columns; it never ends for fewer."""
    before, columns = os.environ.get("COLUMNS"), shutil.get_terminal_size().columns
    os.environ["COLUMNS"] = str(max(_FEWEST_COLUMNS, columns))
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before

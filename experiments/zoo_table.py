"""Tabulate the networks: parameters, multiply-accumulates, shapes, speed.

    python -m experiments.zoo_table --out docs/models.md --hardware 'AMD EPYC, 2 cores'
    python -m experiments.zoo_table --no-speed --only resnet8 resnet32x4

Only the speed needs computation: that of a compiled forward pass in inference mode to
all outputs, float32, batch 64, without folded batch norms; the median of the rounds.
"""

import argparse
import datetime
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from flax import nnx

from experiments._macs import count_macs
from jaxkd import models, training
from jaxkd._errors import InvalidInputError

# Made for ImageNet: 224x224 pixels and 1,000 classes instead of 32x32 and 100.
LARGE = tuple(n for n in models.names() if models.published_image_size(n) == 224)
BATCH = 64


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: Name of the network in the registry.
        size: Height and width of the images.
        parameters: Number of trained parameters.
        macs: Multiply-accumulates per image.
        stages: Shapes of one image's feature maps.
        embedding: Number of input features of the classifier.
        speed: Images per second, if measured.
    """

    name: str
    size: int
    parameters: int
    macs: int
    stages: tuple[tuple[int, ...], ...]
    embedding: int
    speed: float | None


def build(name: str, size: int) -> nnx.Module:
    """Build a network in inference mode."""
    classes = 1_000 if size == 224 else 100
    return training.inference_view(
        models.build(
            name, num_classes=classes, image_shape=(size, size, 3), rngs=nnx.Rngs(0)
        )
    )


def describe(name: str, size: int, *, rounds: int) -> Row:
    """Count parameters and MACs, and measure the speed if there are rounds."""
    abstract = nnx.eval_shape(lambda: build(name, size))
    graphdef, params, rest = nnx.split(abstract, nnx.Param, ...)

    def forward(params, rest, images):
        return nnx.merge(graphdef, params, rest)(images)

    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    output = jax.eval_shape(forward, params, rest, image)
    return Row(
        name,
        size,
        sum(leaf.size for leaf in jax.tree.leaves(params)),
        count_macs(forward, params, rest, image),
        tuple(stage.shape[1:] for stage in output.stages),
        output.embedding.shape[-1],
        _speed(name, size, forward, rounds) if rounds else None,
    )


def _speed(name: str, size: int, forward: Any, rounds: int) -> float:
    make = jax.jit(lambda: nnx.split(build(name, size), nnx.Param, ...)[1:])
    variables = make()
    images = jnp.ones((BATCH, size, size, 3))
    compiled = jax.jit(forward)
    jax.block_until_ready(compiled(*variables, images))
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*variables, images))
        seconds.append(time.perf_counter() - started)
    return BATCH / statistics.median(seconds)


def size_of(name: str, large: list[str]) -> int:
    """Return the image size that a network was made for."""
    if name in large:
        return 224
    try:
        nnx.eval_shape(lambda: build(name, 32))
    except InvalidInputError:  # the images are too small for the network
        return 224
    return 32


def commit() -> str:
    """Return the commit of the checkout, marked if it has changes."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def page(rows: list[Row], command: str, hardware: str) -> str:
    """Format the page in Markdown."""
    speed = any(row.speed for row in rows)
    made = f"commit {commit()}, jax {jax.__version__}, flax {flax.__version__}, "
    made += f"{datetime.date.today()}"
    lines = [
        "# Choose a network",
        "",
        "These are the networks that `models.build` and `--model` take by name. For "
        "example:",
        "",
        "```sh",
        "jaxkd train --dataset digits --model resnet20 --epochs 30 --out runs/teacher",
        "```",
        "",
        f"`{command}` wrote this page ({made}).",
        "",
        "- Images are RGB, 32x32 with 100 classes, or 224x224 with 1,000 for networks "
        "made for ImageNet.",
        "- MACs are the multiply-accumulates of one image's convolutions and matrix "
        "products, counted in the traced program, including zeros of the padding.",
        "- Maps are the `stages` of the output, height x width x channels, beginning "
        "with the stem. The embedding is the input of the classifier.",
    ]
    if speed:
        lines.append(
            f"- The speed is that of a compiled forward pass, batch {BATCH}, float32, "
            f"on {hardware}."
        )
    header = ["network", "image", "parameters", "MACs", "maps", "embedding"]
    header += ["images/s"] * speed
    lines += ["", f"| {' | '.join(header)} |", "|---|" + "---:|" * 3 + "---|---:|"]
    lines[-1] += "---:|" * speed
    for row in rows:
        cells = [
            f"`{row.name}`",
            f"{row.size}x{row.size}",
            f"{row.parameters:,}",
            f"{row.macs / 1e6:,.2f} M",
            shapes(row.stages),
            str(row.embedding),
        ]
        cells += [f"{row.speed:,.0f}"] if row.speed else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shapes(stages: tuple[tuple[int, ...], ...]) -> str:
    """List the maps' shapes; equal consecutive shapes are counted."""
    parts: list[list[Any]] = []
    for stage in stages:
        text = "x".join(map(str, stage))
        if parts and parts[-1][0] == text:
            parts[-1][1] += 1
        else:
            parts.append([text, 1])
    texts = (text if count == 1 else f"{count} of {text}" for text, count in parts)
    return ", ".join(texts) or "none"


def main() -> None:
    """Write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="file, such as docs/models.md")
    parser.add_argument("--only", nargs="+", choices=models.names(), metavar="NAME")
    parser.add_argument(
        "--large",
        nargs="*",
        default=list(LARGE),
        metavar="NAME",
        help="networks that get 224x224 images",
    )
    parser.add_argument("--no-speed", action="store_true", help="count only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hardware", help="name of the hardware, for the page")
    options = parser.parse_args()
    rows = []
    for name in options.only or models.names():
        size = size_of(name, options.large)
        rounds = 0 if options.no_speed else options.rounds
        rows.append(describe(name, size, rounds=rounds))
        print(name, f"{rows[-1].macs / 1e6:,.2f} M", flush=True)
    command = "python -m experiments.zoo_table"
    command += f" --out {options.out}" if options.out else ""
    command += " --no-speed" if options.no_speed else ""
    text = page(rows, command, options.hardware or jax.devices()[0].device_kind)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()

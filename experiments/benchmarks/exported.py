"""Size and latency of exported networks beside jitted JAX, on the CPU.

    python -m experiments.benchmarks.exported resnet8x4 resnet18 ShuffleV2 vit_ti

The networks have random weights: size and latency do not depend on the values. Each
way to compute is timed in turns, many times, and the shortest time counts, because
other work on the machine can only add to it. Needs the extra ``onnx``.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np
from flax import nnx

from jaxkd import interchange, models, training

_ROUNDS, _SECONDS = 5, 1.0  # of each way to compute, in turns
_CALIBRATION = 32


def shortest(call: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of a call in milliseconds."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def session(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return an ONNX file as a function of images."""
    import onnxruntime

    found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: found.run(None, {"images": images})[0]


def compare(name: str, batches: list[int], folder: Path) -> list[str]:
    """Return the rows of the table for one network."""
    size = models.published_image_size(name) or 32
    shape = (size, size, 3)
    module = models.build(name, num_classes=100, image_shape=shape, rngs=nnx.Rngs(0))
    network = training.freeze_teacher(module)
    paths = {kind: folder / f"{name}.{kind}" for kind in ("onnx", "int8", "stablehlo")}
    check = interchange.write_onnx(paths["onnx"], network, shape)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (max(batches), *shape), dtype=np.uint8)
    interchange.quantize_onnx(paths["onnx"], paths["int8"], images[:_CALIBRATION])
    interchange.write_stablehlo(paths["stablehlo"], network, shape)
    program = jax.export.deserialize(bytearray(paths["stablehlo"].read_bytes()))
    jitted = jax.jit(lambda variables, images: network.apply(variables, images).logits)
    ways = {
        "jax.jit": lambda x: jitted(network.variables, x).block_until_ready(),
        "StableHLO": lambda x: program.call(x).block_until_ready(),
        "ONNX": session(paths["onnx"]),
        "ONNX, int8": session(paths["int8"]),
    }
    best: dict[tuple[str, int], float] = {}
    for _ in range(_ROUNDS):
        for way, call in ways.items():
            for batch in batches:
                given = images[:batch]
                took = shortest(lambda call=call, x=given: call(x), _SECONDS)
                best[way, batch] = min(took, best.get((way, batch), took))
    sizes = dict(zip(ways, [None, "stablehlo", "onnx", "int8"], strict=True))
    rows = []
    for way in ways:
        file = sizes[way]
        stored = "" if file is None else f"{paths[file].stat().st_size / 1e6:.2f}"
        deviation = f"{check.deviation / check.largest:.0e}"
        deviation = deviation if way == "ONNX" else ""
        times = " | ".join(f"{best[way, batch]:.2f}" for batch in batches)
        rows.append(f"| {name} | {way} | {stored} | {deviation} | {times} |")
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    options = parser.parse_args()
    heads = " | ".join(f"ms for {batch}" for batch in options.batches)
    print(f"| network | computed by | MB | largest deviation | {heads} |")
    print(f"|---|---|---{'|---' * (1 + len(options.batches))}|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            for row in compare(name, options.batches, Path(folder)):
                print(row, flush=True)


if __name__ == "__main__":
    main()

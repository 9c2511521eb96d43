"""Compare the same training on 1, 2 and 8 devices and in two processes.

A resnet8 of width 4 learns by HKD+KD from random 8x8 images for 20 steps, once for each
arrangement, in separate processes with that many CPU devices. The table shows the
largest relative deviation of the loss from that on one device, in float32 and float64,
the bytes of the bank on each device, and the seconds of the steps after the first,
which compiles. Forced devices share the cores, so more of them are not faster. The exit
code is 1 if a deviation exceeds 1e-5 in float32 or 1e-10 in float64, or if a bank is
not divided.

    python -m experiments.benchmarks.devices
    python -m experiments.benchmarks.devices --dtype float64
    python -m experiments.benchmarks.devices --smoke
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import NamedTuple

STEPS, ROWS, BATCH, DIM = 20, 320, 16, 16
BOUNDS = {"float32": 1e-5, "float64": 1e-10}


class Arrangement(NamedTuple):
    """Number of processes, and of devices per process."""

    processes: int
    devices: int

    @property
    def count(self) -> int:
        """Number of devices of all processes."""
        return self.processes * self.devices

    def __str__(self):
        return f"{self.processes} x {self.devices}"


ARRANGEMENTS = [Arrangement(*a) for a in ((1, 1), (1, 2), (1, 8), (2, 1))]
SMOKE = [Arrangement(1, 1), Arrangement(1, 2)]


def train(steps: int) -> dict:
    """Train in this process; return the losses, sizes and seconds."""
    import jax
    import numpy as np
    import optax
    from flax import nnx

    from experiments.benchmarks import memory
    from jaxkd import data, distillers, models, training

    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    rng = np.random.default_rng(0)
    labels = (np.arange(ROWS) % 10).astype(np.int32)
    # Images need no arithmetic before the networks, which would be in float32.
    images = rng.integers(0, 256, (ROWS, 8, 8, 3)).astype(np.float32) / 256
    split = data.Split(images, labels)
    dataset = data.ImageDataset(
        name="random",
        train=split,
        test=split,
        num_classes=10,
        class_names=tuple(map(str, range(10))),
        augmentation=data.Augmentation(crop_padding=1, flip=True),
        fingerprint="random",
    )

    def build(rngs):
        shape = (8, 8, 3)
        network = models.build(
            "resnet8",
            num_classes=10,
            image_shape=shape,
            width=4,
            dtype=dtype,
            rngs=rngs,
        )
        _, state = nnx.split(network)
        nnx.update(network, jax.tree.map(lambda x: x.astype(dtype), state))
        return network

    hkd = {"dim": DIM, "num_negatives": 100, "bank_dtype": dtype}
    as_they_are = data.Normalization(np.zeros(3), np.ones(3))
    program = training.compile_program(
        build,
        dataset,
        distillers.recipe("hkd+kd", settings={"hkd": hkd}),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=BATCH,
        teacher=training.freeze_teacher(build(nnx.Rngs(7)), as_they_are),
        normalization=as_they_are,
        fused=True,
        mesh=jax.sharding.Mesh(np.array(jax.devices()), ("data",)),
    )
    loop = program.start(0)
    order, losses, started = program.order(loop), [], 0.0
    for _ in range(steps):
        loop, report = program.training.advance(loop, order)
        losses.append(float(report.metrics["loss"]))
        started = started or time.perf_counter()
    seconds = time.perf_counter() - started
    bank = [x for x in jax.tree.leaves(loop.train.extra) if x.shape == (ROWS, DIM)]
    return {
        "losses": losses,
        "dtype": str(report.metrics["loss"].dtype),
        "bank_bytes": sum(x.addressable_shards[0].data.nbytes for x in bank),
        "scratch": memory.scratch_bytes(program.training, loop, order),
        "seconds": seconds,
    }


def run(arrangement: Arrangement, dtype: str, steps: int) -> dict:
    """Start the processes of an arrangement; return the result of the first one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", __spec__.name, "--steps", str(steps)]
    command += ["--processes", str(arrangement.processes), "--child"]
    count = f"--xla_force_host_platform_device_count={arrangement.devices}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(int(dtype == "float64")),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {count}",
    }
    children = [
        subprocess.Popen(
            [*command, str(index), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(arrangement.processes)
    ]
    outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        sys.exit(f"a process of {arrangement} in {dtype} failed; its output is above")
    return json.loads(outputs[0].splitlines()[-1])


def main() -> None:
    """Print the table or, in a process of an arrangement, its result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="two devices, three steps")
    parser.add_argument("--dtype", choices=BOUNDS, help="by default, both")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        index, port = options.child
        if options.processes > 1:
            import jax

            jax.distributed.initialize(f"127.0.0.1:{port}", options.processes, index)
        print(json.dumps(train(options.steps)))
        return
    steps = 3 if options.smoke else options.steps
    dtypes = ("float32",) if options.smoke else tuple(BOUNDS)
    good = True
    print(
        "| processes x devices | dtype | largest relative deviation of the loss "
        "| bank, bytes a device | scratch, bytes a device | seconds |"
    )
    print("|---|---|---|---|---|---|")
    for dtype in (options.dtype,) if options.dtype else dtypes:
        alone = None
        for arrangement in SMOKE if options.smoke else ARRANGEMENTS:
            found = run(arrangement, dtype, steps)
            alone = alone or found
            pairs = zip(found["losses"], alone["losses"], strict=True)
            deviation = max(abs(a - b) / abs(b) for a, b in pairs)
            shared = alone["bank_bytes"] / found["bank_bytes"]
            good &= shared == arrangement.count and found["dtype"] == dtype
            good &= deviation <= BOUNDS[dtype]
            sizes = f"{found['bank_bytes']:,} | {found['scratch']:,}"
            row = f"| {arrangement} | {dtype} | {deviation:.1e} | {sizes} |"
            print(f"{row} {found['seconds']:.2f} |", flush=True)
    sys.exit(not good)


if __name__ == "__main__":
    main()

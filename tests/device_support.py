"""Trainings on meshes of forced CPU devices, in a process of their own.

As a script, it prints what :func:`train` saw of each case it is given as JSON.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
ROWS, BATCH, DIM = 43, 16, 8


def processes(commands, *, devices=1, x64=False, timeout=300):
    """Starts Python processes together; returns their codes, outputs and errors."""
    count = f"--xla_force_host_platform_device_count={devices}"
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(int(x64)),
        # The methods' heads have parameters in float32.
        "JAX_NUMPY_DTYPE_PROMOTION": "standard" if x64 else "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {count}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        ended = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.returncode for process in started]
    return codes, [output for output, _ in ended], [error for _, error in ended]


def on_devices(cases, *, devices=8, x64=False):
    """What :func:`train` sees of each case, in one process of so many devices."""
    command = [str(Path(__file__)), json.dumps(cases)]
    codes, outputs, errors = processes([command], devices=devices, x64=x64)
    assert codes == [0], errors
    return json.loads(outputs[0].splitlines()[-1])


def train(
    mesh,
    *,
    steps,
    method="hkd+kd",
    negatives="sampled",
    trials=None,
    resume=None,
    save=None,
    recorded=None,
):
    """Some steps of a small network with batch statistics.

    Args:
        mesh: The sizes of its axes by name.
        steps: How many; an evaluation comes after them.
        method: A recipe with a bank.
        negatives: How its negatives are chosen.
        trials: How many students.
        resume: A folder with a checkpoint to go on from.
        save: A folder to save to.
        recorded: A folder for the teacher's outputs; they are recorded there once, and
            teach in place of its network.

    Returns:
        The losses, the test loss, and the bytes of the banks on each device.
    """
    import jax
    import numpy as np
    import optax
    from flax import nnx
    from support import make_dataset

    from jaxkd import data, distillers, memory, training

    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    # Images that need no arithmetic before the networks: that is always in float32.
    stored = make_dataset(ROWS)
    splits = [
        data.Split(split.images.astype(np.float32) / 256, split.labels)
        for split in (stored.train, stored.test)
    ]
    dataset = data.ImageDataset(
        name="quadrants",
        train=splits[0],
        test=splits[1],
        num_classes=4,
        class_names=stored.class_names,
        augmentation=data.Augmentation(crop_padding=1, flip=True),
        fingerprint="test",
    )
    as_they_are = data.Normalization(np.zeros(1), np.ones(1))
    teacher = training.freeze_teacher(_network(dtype, nnx.Rngs(7)), as_they_are)
    if recorded is not None:
        teacher = training.record(
            teacher,
            dataset,
            recorded,
            epochs=1 + steps * BATCH // ROWS,
            batch_size=BATCH,
        )
    part, _, _ = method.partition("+")
    settings = {"dim": DIM, "num_negatives": 20, "bank_dtype": dtype}
    count = int(np.prod(list(mesh.values())))
    devices = np.array(jax.devices()[:count]).reshape(tuple(mesh.values()))
    program = training.compile_program(
        lambda rngs: _network(dtype, rngs),
        dataset,
        distillers.recipe(
            method, settings={part: {**settings, "negatives": negatives}}
        ),
        optimizer=optax.sgd(0.02, momentum=0.9),
        batch_size=BATCH,
        teacher=teacher,
        normalization=as_they_are,
        trials=trials,
        fused=True,
        mesh=jax.sharding.Mesh(devices, tuple(mesh)),
    )
    loop, losses = program.start(0), []
    if resume is not None:
        loop, _ = training.Checkpoints(resume).restore(program.like(1))
    for _ in range(steps):
        loop, report = program.training.advance(loop, program.order(loop))
        losses.append(np.ravel(report.metrics["loss"]).tolist())
    if save is not None:
        training.Checkpoints(save).save(steps, loop, {})
    assert str(report.metrics["loss"].dtype) == np.dtype(dtype).name
    is_bank = lambda node: isinstance(node, memory.Bank)
    (bank,) = filter(is_bank, jax.tree.leaves(loop.train.extra, is_leaf=is_bank))
    return {
        "losses": losses,
        "test": [e.loss for e in program.evaluate_trials(loop)],
        "bank_bytes": [
            sum(table.addressable_shards[i].data.nbytes for table in bank)
            for i in range(count)
        ],
    }


def _network(dtype, rngs):
    """A convolution and a linear layer, with batch statistics: quick to compile."""
    import jax
    from flax import nnx

    from jaxkd.models import ModelOutput
    from jaxkd.models._layers import BatchNorm, convolution

    class Network(nnx.Module):
        def __init__(self):
            self.conv = convolution(1, 6, 3, padding=1, dtype=dtype, rngs=rngs)
            self.norm = BatchNorm(6, dtype=dtype, rngs=rngs)
            self.classifier = nnx.Linear(
                6, 4, dtype=dtype, param_dtype=dtype, rngs=rngs
            )

        def __call__(self, x):
            maps = jax.nn.relu(self.norm(self.conv(x.astype(dtype))))
            embedding = maps.mean((1, 2))
            return ModelOutput(self.classifier(embedding), embedding, (maps,))

    return Network()


if __name__ == "__main__":
    print(json.dumps([train(**case) for case in json.loads(sys.argv[1])]))

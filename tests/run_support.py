"""Run folders made by hand, as training leaves them: no training is needed."""

import contextlib
import json

from flax import nnx
from support import build_mlp

from jaxkd import runs, training

NETWORK = {
    "model": "mlp",
    "width": 16,
    "compute_dtype": "float32",
    "num_classes": 4,
    "image_shape": [8, 8, 1],
}
CONFIG = {
    "command": "jaxkd train --dataset photos",
    "options": {"seed": 5, "batch_size": 16, "data": {"image_size": None}},
    "network": NETWORK,
    "normalization": {"mean": [0.5], "std": [0.25]},
    "dataset": {"source": "/data/photos", "fingerprint": "test", "image_size": None},
    "class_names": ["ape", "bee", "cat", "dog"],
    "versions": {"jaxkd": "0.1.0", "jax": "0.10.2", "devices": 1},
}
HISTORY = [
    {
        "epoch": epoch,
        "step": 3 * epoch,
        "images_per_second": 100.0,
        "train/loss": 1.0 / epoch,
        "train/ce": 1.0 / epoch,
        "train/accuracy": 0.2 * epoch,
        "test/loss": 1.5 / epoch,
        "test/accuracy": 0.25 * epoch,
    }
    for epoch in (1, 2)
]


def build_network(seed=0):
    """The network that `NETWORK` describes, with new parameters."""
    return build_mlp()(nnx.Rngs(seed))


def write_config(folder, config):
    """Writes a `config.json` without any of the library's code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def make_run(folder, *, seeds=(0,), config=CONFIG, history=HISTORY):
    """Makes a run folder with a checkpoint of an untrained network for each seed."""
    write_config(folder, config)
    for step, seed in enumerate(seeds, start=1):
        training.Checkpoints(folder / "checkpoints").save_network(
            build_network(seed), {"history": []}, step=step
        )
    with contextlib.closing(runs.MetricsWriter(folder)) as write:
        for record in history:
            write(record)
    seed = config["options"].get("seed", 0)
    runs.write_summary(folder, history, seed=seed, data_seed=0)
    return folder


def flip_a_bit(checkpoint):
    """Damage the largest file of a checkpoint."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

"""Finished runs made by hand, and what a comparison of them says."""

import csv
import json

import numpy as np

from jaxkd import runs

NETWORK = {
    "model": "resnet8",
    "width": None,
    "compute_dtype": "float32",
    "num_classes": 10,
    "image_shape": [8, 8, 1],
}
TEACHER = {
    "network": {**NETWORK, "model": "resnet20"},
    "test_accuracy": 0.9,
    "fingerprint": "0a1b2c3d",
}


def make_run(
    root,
    name,
    method,
    accuracies,
    *,
    seed=0,
    data_seed=0,
    model="resnet8",
    config=None,
    teacher=None,
    dataset=None,
    **options,
):
    """A run folder as training leaves it; accuracies of shape [epochs, trials].

    `config`, `teacher` and `dataset` extend its `config.json` and parts of it; a part
    that is None is left out.
    """
    folder = root / name
    folder.mkdir(parents=True)
    table = np.asarray(accuracies, float).reshape(len(accuracies), -1)
    history = [
        {"epoch": epoch, "step": epoch, "images_per_second": 1.0}
        | {"test/accuracy": values.mean(), "trials": {"test/accuracy": values.tolist()}}
        for epoch, values in enumerate(table, start=1)
    ]
    alone = method == "student"
    seeds = {"seed": seed, "data_seed": data_seed, "trials": table.shape[1]}
    content = {
        "options": {**seeds, "epochs": 2, **options}
        | ({} if alone else {"method": method}),
        "network": {**NETWORK, "model": model},
        "normalization": {"mean": [0.5], "std": [0.25]},
        "dataset": {"source": "/data/digits.npz", **(dataset or {})},
    }
    if not alone:
        known = {**TEACHER, **(teacher or {})}
        content["teacher"] = {k: v for k, v in known.items() if v is not None}
    summary = runs.summarize(history, seed=seed, data_seed=data_seed)
    write(folder, config=content | (config or {}), summary=summary)
    lines = "".join(json.dumps(record) + "\n" for record in history)
    (folder / "metrics.jsonl").write_text(lines)
    return folder


def write(folder, **files):
    """Writes JSON files into a run folder."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def rows(out):
    """The lines of a report's CSV, by method."""
    with (out / "report.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def cells(markdown):
    """The cells of a report's table, by the first column."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    split = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in lines]
    return {first: others for first, *others in split if first != "---"}

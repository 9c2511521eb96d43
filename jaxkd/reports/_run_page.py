"""A run's report: ``report.html``, one file to look at anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxkd import data, graphs, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli import _optimizer
from jaxkd.cli._options import OptimizerOptions
from jaxkd.reports import _charts, _html, _statistics, _thumbnails
from jaxkd.reports._predictions import Predictions, predict
from jaxkd.runs import _folder, _summary

REPORT = "report.html"

_GRAPH_NODES = 64  # a batch, as published
_NEIGHBORS = 8
_MISTAKES = 16
_SURE = "The most confident mistakes"
_OWN = "this network"
_PIXELATED = 64  # images up to this size are shown with their pixels

Record = dict[str, Any]


class Answers(NamedTuple):
    """What the networks of a run say of its test images.

    Attributes:
        loaded: The trained network.
        student: Its answers.
        teacher: The teacher's, if it is there.
        nodes: The test images whose graph is drawn.
    """

    loaded: runs.LoadedNetwork
    student: Predictions
    teacher: Predictions | None
    nodes: np.ndarray


def ask(
    run: Path,
    dataset: data.ImageDataset,
    teacher: training.FrozenNetwork | None,
    *,
    trial: int = 0,
) -> Answers:
    """Asks a run's network, and its teacher if there is one, about every test image.

    Raises:
        ValueError: If the folder is no run, has no finished checkpoint or no such
            trial.
    """
    loaded = _folder.load_network(run, trial=trial)
    count = len(dataset.test.labels)
    random = np.random.default_rng(0)
    nodes = np.sort(random.choice(count, min(_GRAPH_NODES, count), replace=False))
    network = training.freeze_teacher(loaded.module, loaded.normalization)
    student = predict(network, dataset.test, nodes, description="predicting")
    taught = None
    if teacher is not None:
        taught = predict(teacher, dataset.test, nodes, description="asking the teacher")
    return Answers(loaded, student, taught, nodes)


def write_report(
    run: Path, answers: Answers, dataset: data.ImageDataset, *, note: str = ""
) -> Path:
    """Makes ``report.html`` in a run folder.

    Args:
        run: The folder.
        answers: Of :func:`ask`. Without a teacher's, what compares the two is left out.
        dataset: The run's own.
        note: Shown at the top.

    Returns:
        The file that was written.

    Raises:
        ValueError: If the folder is no run or has nothing to show yet.
    """
    loaded, student, taught, nodes = answers
    config = runs.read_config(run)
    history = runs.read_metrics(run / "metrics.jsonl")
    if not history:
        raise InvalidInputError(f"{run} has no metrics yet; train it first")
    history = [_summary.of_trial(record, loaded.trial) for record in history]
    labels = dataset.test.labels
    named = {_OWN: student} if taught is None else {_OWN: student, "teacher": taught}
    calibrations = {
        name: _statistics.calibration(each.probabilities, labels)
        for name, each in named.items()
    }
    method = config["options"].get("method")
    title = f"{loaded.network.model} on {dataset.name}"
    title += f", distilled by {method}" if method else ", trained alone"
    sections = [
        _html.heading(title),
        _html.text(note) if note else "",
        _html.numbers(_headline(history, student, taught, calibrations, labels)),
        _html.section("The run", _html.facts(_facts(run, config, loaded, dataset))),
        _html.section("Training", _html.cards(_curves(history, config))),
        _html.section(
            "On the test set",
            _html.cards(_test_cards(student, taught, calibrations, dataset)),
        ),
        _html.section(
            "The most confident mistakes", _mistakes(student, taught, dataset)
        ),
        _graphs(student, taught, nodes, dataset, config),
    ]
    small = max(dataset.test.images.shape[1:3]) <= _PIXELATED
    path = run / REPORT
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        _html.document(title, filter(None, sections), small_images=small),
        encoding="utf-8",
    )
    temporary.replace(path)
    return path


def _headline(
    history: Sequence[Record],
    student: Predictions,
    teacher: Predictions | None,
    calibrations: dict[str, _statistics.Calibration],
    labels: np.ndarray,
) -> dict[str, str]:
    metric = _summary.handed_on(history)
    tested = [r[metric] for r in history if metric in r]
    shown = {"test accuracy": f"{np.mean(student.classes == labels):.2%}"}
    if tested:
        shown["best epoch's test accuracy"] = f"{max(tested):.2%}"
    if teacher is not None:
        shown["teacher's test accuracy"] = f"{np.mean(teacher.classes == labels):.2%}"
        same = _statistics.agreement(student.classes, teacher.classes, labels).equal
        shown["predicts as the teacher does"] = f"{same:.2%}"
    shown["calibration error"] = f"{calibrations[_OWN].error:.3f}"
    shown["epochs"] = str(history[-1]["epoch"])
    shown["images a second"] = f"{history[-1]['images_per_second']:,.0f}"
    return shown


def _facts(
    run: Path,
    config: dict[str, Any],
    loaded: runs.LoadedNetwork,
    dataset: data.ImageDataset,
) -> dict[str, str]:
    options, network = config["options"], loaded.network
    parameters = jax.tree.leaves(nnx.state(loaded.module, nnx.Param))
    size = sum(x.size for x in parameters)
    width = "" if network.width is None else f", width {network.width}"
    height, wide, channels = network.image_shape
    shown = {}
    if "method" in options:
        shown |= {"method": options["method"], "teacher": str(options["teacher"])}
    return shown | {
        "network": f"{network.model}{width}: {size:,} parameters ({loaded.version})",
        "dataset": f"{dataset.name} ({config['dataset']['fingerprint']}): "
        f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} test "
        f"images, {height} x {wide} x {channels}, {dataset.num_classes} classes",
        "batch size": str(options.get("batch_size", "")),
        "seed": "" if loaded.seed is None else str(loaded.seed),
        "command": config["command"],
        "folder": str(run),
        "device": jax.devices()[0].device_kind + " (that of this report)",
        "versions": ", ".join(f"{k} {v}" for k, v in config["versions"].items()),
    }


def _curves(history: Sequence[Record], config: dict[str, Any]) -> dict[str, str]:
    """Charts of what the run has recorded, each only if it has."""
    names = list(dict.fromkeys(name for record in history for name in record))
    train = [n.removeprefix("train/") for n in names if n.startswith("train/")]
    parts = [n for n in train if "/" not in n and n not in ("accuracy", "grad_norm")]
    details = [n for n in train if "/" in n]
    shares = [n for n in details if n.endswith(("agreement", "purity", "cosine"))]
    terms = [n for n in details if n not in shares and not n.endswith("norm")]
    losses = {n: f"train/{n}" for n in parts}
    accuracies = {"training": "train/accuracy", "test": "test/accuracy"}
    if "test/loss" in names:
        losses["test cross-entropy"] = "test/loss"
    if _summary.EMA_ACCURACY in names:
        accuracies["test, averaged weights"] = _summary.EMA_ACCURACY
        losses["the same, averaged weights"] = "test/ema_loss"
    shown = {
        "Accuracy": _charts.curves(
            history,
            accuracies,
            label="accuracy (%)",
            scale=100.0,
        ),
        "Loss and its parts, unweighted": _charts.curves(
            history, losses, label="loss (nats)", log=True
        ),
    }
    if terms:
        lines = {n: f"train/{n}" for n in terms}
        shown["Terms of the parts"] = _charts.curves(history, lines, label="mean")
    if shares:
        lines = {n: f"train/{n}" for n in shares}
        title = "Agreement of student, teacher and memory"
        shown[title] = _charts.curves(history, lines, label="share or cosine")
    if "train/grad_norm" in names:
        shown["Norm of the gradient"] = _charts.curves(
            history, {"norm": "train/grad_norm"}, label="mean norm", log=True
        )
    if (rates := _learning_rates(history, config)) is not None:
        shown["Learning rate at an epoch's end"] = _charts.curves(
            rates, {"rate": "rate"}, label="learning rate", log=True
        )
    return shown


def _learning_rates(
    history: Sequence[Record], config: dict[str, Any]
) -> list[Record] | None:
    """The rate of each epoch's last step, as the run's options say."""
    if (stored := config["options"].get("optimizer")) is None:
        return None
    options = _folder.as_options(OptimizerOptions, stored)
    own = [r for r in history if r.get("stage", "training") == "training"]
    if not own:
        return None
    first = own[0]["step"] - own[0]["step"] // own[0]["epoch"]
    steps = [r["step"] - first for r in own]
    total = config["options"]["epochs"] * (own[0]["step"] // own[0]["epoch"])
    rate: Any = _optimizer.schedule(options, total)
    at: Any = rate if callable(rate) else lambda _: rate
    return [
        {"epoch": r["epoch"], "rate": float(at((step - 1) // options.accumulate))}
        for r, step in zip(own, steps, strict=True)
    ]


def _test_cards(
    student: Predictions,
    teacher: Predictions | None,
    calibrations: dict[str, _statistics.Calibration],
    dataset: data.ImageDataset,
) -> dict[str, str]:
    labels, names = dataset.test.labels, dataset.class_names
    matrix = _statistics.confusion_matrix(labels, student.classes, dataset.num_classes)
    worst = _statistics.most_confused(matrix, 8)
    rows = [(names[i], names[j], str(n)) for i, j, n in worst]
    shown = {"Classes and what they are taken for": _charts.confusion(matrix, names)}
    if rows:
        head = ("class", "taken for", "images")
        shown["The most frequent mistakes"] = _html.table(head, rows)
    shown["Is it right as often as it is sure?"] = _charts.reliability(calibrations)
    if teacher is not None:
        found = _statistics.agreement(student.classes, teacher.classes, labels)
        cells = _html.table(
            ("", "teacher right", "teacher wrong"),
            [
                ("student right", f"{found.both:,}", f"{found.only_student:,}"),
                ("student wrong", f"{found.only_teacher:,}", f"{found.neither:,}"),
            ],
        )
        said = f"Both predict the same class for {found.equal:.2%} of the images."
        shown["Teacher and student"] = cells + _html.text(said)
    return shown


def _mistakes(
    student: Predictions, teacher: Predictions | None, dataset: data.ImageDataset
) -> str:
    labels, names = dataset.test.labels, dataset.class_names
    rows = _statistics.confident_mistakes(student.probabilities, labels, _MISTAKES)
    shown = []
    for row in rows:
        said = student.classes[row]
        caption = (
            f"{names[labels[row]]}, taken for {names[said]} "
            f"({student.probabilities[row, said]:.0%})"
        )
        if teacher is not None:
            caption += f"; teacher: {names[teacher.classes[row]]}"
        shown.append((_thumbnails.png(_image(dataset, int(row))), caption))
    return _html.thumbnails(shown) if shown else _html.text("There are none.")


def _graphs(
    student: Predictions,
    teacher: Predictions | None,
    nodes: np.ndarray,
    dataset: data.ImageDataset,
    config: dict[str, Any],
) -> str:
    """The graph of one batch of test images, that of the teacher beside it."""
    k = config["options"].get("hkd", {}).get("neighbors", _NEIGHBORS)
    labels = dataset.test.labels[nodes]
    positions = _statistics.spread_out(
        _statistics.principal_plane(student.embedding), distance=0.075
    )
    found, shown = {}, {}
    for name, answers in (("This network", student), ("Teacher", teacher)):
        if answers is None:
            continue
        near = np.asarray(graphs.nearest_neighbors(answers.logits, k=k))
        found[name] = near
        purity = float(np.mean(graphs.neighbor_purity(near, labels)))
        shown[f"{name}: {purity:.0%} of neighbours are of one's class"] = (
            _thumbnails.graph(near, positions, labels, dataset.class_names)
        )
    said = (
        f"{len(nodes)} test images, each joined to the {k - 1} whose predictions are "
        "most like its own, placed by the principal plane of this network's embeddings "
        "(moved apart where they would cover each other). "
    )
    if len(found) == 2:
        shared = float(np.mean(graphs.neighbor_agreement(*found.values())))
        said += f"Both networks have {shared:.0%} of the neighbours in common. "
    key = (
        '<p class="soft"><span class="key same"></span> same class &nbsp; '
        '<span class="key other"></span> different classes</p>'
    )
    images = [_image(dataset, int(row)) for row in nodes]
    return _html.section(
        "Who predicts alike",
        _html.text(said),
        key,
        _thumbnails.definitions(images),
        _html.cards(shown),
    )


def _image(dataset: data.ImageDataset, row: int) -> np.ndarray:
    """One test image, wherever it lies."""
    return np.asarray(dataset.test.images[row : row + 1])[0]

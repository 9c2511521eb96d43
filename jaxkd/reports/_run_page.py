"""The page of one run: ``report.html``, a single self-contained file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxkd import data, graphs, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole
from jaxkd._text import count
from jaxkd.reports import _figures, _html, _statistics, _thumbnails
from jaxkd.reports._predictions import Predictions, RunPredictions, predict_test_set
from jaxkd.reports._training_charts import training_charts

_NEIGHBORS = 8
_MISTAKES = 16
_CONFUSED_PAIRS = 8
_NODE_DISTANCE = 0.075  # in the unit square: thumbnails hardly overlap
_PIXELATED = 64  # images up to this size are shown without smoothing
_STUDENT = "this network"

Record = dict[str, Any]

_RECORDED_TEACHER = (
    "This page has no comparison with the teacher, because the run used its recorded "
    "outputs for the training images. To add it: jaxkd show RUN --teacher FOLDER"
)

_OTHER_CLASSES = (
    "This page has no comparison with the teacher, because the teacher has other "
    "classes than the dataset."
)


def write_run_page(
    run: Path,
    predictions: RunPredictions,
    dataset: data.ImageDataset,
    *,
    note: str = "",
    other_classes: bool = False,
) -> Path:
    """Write the page of a run into its folder.

    Args:
        run: The run folder.
        predictions: From :func:`predict_test_set`. Without predictions of a teacher,
            the page has no comparison with it.
        dataset: The run's dataset.
        note: Text for the top of the page. By default, the page of a run with a
            recorded teacher says that it has no comparison with it.
        other_classes: Whether to say instead that there is no comparison because the
            teacher has other classes than the dataset.

    Returns:
        The file that was written.

    Raises:
        ValueError: If the folder is not a run folder, or has no metrics yet.
    """
    loaded, student, teacher, nodes = predictions
    config = runs.read_config(run)
    if other_classes:
        note = _OTHER_CLASSES
    if teacher is None and "recording" in config:
        note = note or _RECORDED_TEACHER
    records = runs.read_history(run)
    history = [runs.select_trial(record, loaded.trial) for record in records]
    labels = dataset.test.labels
    networks = {_STUDENT: student}
    if teacher is not None:
        networks["teacher"] = teacher
    calibrations = {
        name: _statistics.calibration(each.probabilities, labels)
        for name, each in networks.items()
    }
    method = config["options"].get("method")
    title = f"{loaded.network.model} on {dataset.name}"
    title += f", distilled with {method}" if method else ", trained without a teacher"
    sections = [
        _html.heading(title),
        _html.text(note) if note else "",
        _html.numbers(_headline(history, predictions, calibrations, labels)),
        _html.section("The run", _html.facts(_facts(run, config, loaded, dataset))),
        _html.section("Training", _html.cards(training_charts(history))),
        _html.section(
            "Test set",
            _html.cards(_test_cards(student, teacher, calibrations, dataset)),
        ),
        _html.section("Most confident mistakes", _mistakes(student, teacher, dataset)),
        _graphs(student, teacher, nodes, dataset, config),
    ]
    small = max(dataset.test.images.shape[1:3]) <= _PIXELATED
    path = runs.RunFolder(run).report
    page = _html.document(title, filter(None, sections), small_images=small)
    write_whole(path, page.encode())
    return path


def rewrite_run_page(
    run: Path,
    dataset: data.ImageDataset,
    *,
    trial: int = 0,
    teacher: Path | None = None,
) -> Path:
    """Write the page of a finished run again, from its newest checkpoint.

    If the teacher's run folder cannot be read, the page has no comparison with the
    teacher, and says so.

    Args:
        run: The run folder.
        dataset: The run's dataset.
        trial: Index of the trial, for a run of several trials.
        teacher: The teacher's run folder; by default the one that the run records.

    Returns:
        The file that was written.

    Raises:
        ValueError: If the folder is not a run folder, has no metrics or no finished
            checkpoint yet, or has no such trial; or if ``teacher`` is given and cannot
            be read.
    """
    frozen, note, other_classes = None, "", False
    config = runs.read_config(run)
    options, recording = config["options"], config.get("recording", {})
    if options.get("teacher") is not None or (recording and teacher is not None):
        folder = Path(options["teacher"]) if teacher is None else teacher
        teacher_trial = options.get("teacher_trial", 0)
        teacher_trial = recording.get("teacher_trial", teacher_trial)
        try:
            loaded = runs.load_network(folder, trial=teacher_trial)
            other_classes = runs.class_difference(loaded, dataset) != ""
            if not other_classes:
                frozen = training.freeze_teacher(loaded.module, loaded.normalization)
        except (InvalidInputError, OSError) as error:
            if teacher is not None:
                raise
            note = (
                "This page has no comparison with the teacher, because its run folder "
                f"could not be read ({str(error).rstrip('.')}). To add it: jaxkd show "
                "RUN --teacher FOLDER"
            )
    predictions = predict_test_set(run, dataset, frozen, trial=trial)
    return write_run_page(
        run, predictions, dataset, note=note, other_classes=other_classes
    )


def _headline(
    history: Sequence[Record],
    predictions: RunPredictions,
    calibrations: dict[str, _statistics.Calibration],
    labels: np.ndarray,
) -> dict[str, str]:
    """Return the numbers at the top of the page, as text by name."""
    loaded, student, teacher, _ = predictions
    metric = runs.accuracy_metric(history)
    accuracies = [record[metric] for record in history if metric in record]
    numbers = {"test accuracy": f"{np.mean(student.classes == labels):.2%}"}
    # A checkpoint within an epoch has no record of its accuracy.
    shown = next((r for r in history if r["step"] == loaded.step), {})
    if (top5 := shown.get(runs.top5_metric(history))) is not None:
        numbers["top-5 test accuracy"] = f"{top5:.2%}"
    alone = [{k: v for k, v in r.items() if k != "trials"} for r in history]
    for best in training.best_records(alone):
        accuracy = best[metric.replace("test/", "validation/")]
        numbers["best validation accuracy"] = f"{accuracy:.2%}"
        numbers["epoch of best validation accuracy"] = str(best["epoch"])
    if accuracies:
        numbers["highest test accuracy of all epochs"] = f"{max(accuracies):.2%}"
    if teacher is not None:
        numbers["teacher's test accuracy"] = f"{np.mean(teacher.classes == labels):.2%}"
        equal = _statistics.agreement(student.classes, teacher.classes, labels).equal
        numbers["same prediction as the teacher"] = f"{equal:.2%}"
    numbers["calibration error"] = f"{calibrations[_STUDENT].error:.3f}"
    numbers["epochs"] = str(history[-1]["epoch"])
    numbers["images per second"] = f"{history[-1]['images_per_second']:,.0f}"
    return numbers


def _facts(
    run: Path,
    config: dict[str, Any],
    loaded: runs.LoadedNetwork,
    dataset: data.ImageDataset,
) -> dict[str, str]:
    """Return how the run was made, as text by name."""
    options, network = config["options"], loaded.network
    parameters = jax.tree.leaves(nnx.state(loaded.module, nnx.Param))
    size = sum(x.size for x in parameters)
    width = "" if network.width is None else f", width {network.width}"
    rows, columns, channels = network.image_shape
    missing = dataset.num_unlabeled
    unlabeled = f" ({missing:,} without a label)" if missing else ""
    facts = {}
    if "method" in options:
        recorded = map(str, options.get("recorded") or ())
        teacher = options.get("teacher") or f"recorded in {', '.join(recorded)}"
        facts |= {"method": options["method"], "teacher": str(teacher)}
    if (initial := config.get("initial")) is not None:
        classifier = ", new classifier" if initial.get("new_classifier") else ""
        facts["initial weights"] = (
            f"{options.get('init')} (fingerprint {initial['fingerprint']}){classifier}"
        )
    if (held_out := dataset.validation) is not None:
        facts["validation"] = count(len(held_out.labels), "held-out training image")
    if (runs.read_summary(run) or {}).get("stopped_early"):
        facts["stopped early"] = (
            "the validation accuracy had not improved for "
            f"{count(options.get('patience') or 0, 'epoch')}; the learning-rate "
            f"schedule was that of {options.get('epochs')} epochs"
        )
    return facts | {
        "network": f"{network.model}{width}: {count(size, 'parameter')} "
        f"({loaded.version})",
        "dataset": f"{dataset.name} ({config['dataset']['fingerprint']}): "
        f"{count(len(dataset.train.labels), 'training image')}{unlabeled} and "
        f"{count(len(dataset.test.labels), 'test image')}, "
        f"{rows} x {columns} x {channels}, "
        f"{count(dataset.num_classes, 'class', 'classes')}",
        "batch size": str(options.get("batch_size", "")),
        "seed": "" if loaded.seed is None else str(loaded.seed),
        "command": config["command"],
        "folder": str(run),
        "device": f"{jax.devices()[0].device_kind} (for this page)",
        "versions": ", ".join(f"{k} {v}" for k, v in config["versions"].items()),
    }


def _test_cards(
    student: Predictions,
    teacher: Predictions | None,
    calibrations: dict[str, _statistics.Calibration],
    dataset: data.ImageDataset,
) -> dict[str, str]:
    """Return the charts and tables of the test set, as HTML by title."""
    labels, names = dataset.test.labels, dataset.class_names
    matrix = _statistics.confusion_matrix(labels, student.classes, dataset.num_classes)
    worst = _statistics.most_confused(matrix, _CONFUSED_PAIRS)
    cards = {"Confusion matrix": _figures.confusion(matrix, names)}
    if worst:
        cards["Most frequent mistakes"] = _html.table(
            ("class", "predicted as", "images"),
            [(names[i], names[j], str(n)) for i, j, n in worst],
        )
    cards["Calibration: accuracy at each confidence"] = _figures.reliability(
        calibrations
    )
    if teacher is not None:
        counts = _statistics.agreement(student.classes, teacher.classes, labels)
        table = _html.table(
            ("", "teacher right", "teacher wrong"),
            [
                ("student right", f"{counts.both:,}", f"{counts.only_student:,}"),
                ("student wrong", f"{counts.only_teacher:,}", f"{counts.neither:,}"),
            ],
        )
        sentence = f"Both predict the same class for {counts.equal:.2%} of the images."
        cards["Teacher and student"] = table + _html.text(sentence)
    return cards


def _mistakes(
    student: Predictions, teacher: Predictions | None, dataset: data.ImageDataset
) -> str:
    """Show the test images that are most confidently misclassified."""
    labels, names = dataset.test.labels, dataset.class_names
    rows = _statistics.confident_mistakes(student.probabilities, labels, _MISTAKES)
    images = []
    for row in rows:
        predicted = student.classes[row]
        caption = (
            f"{names[labels[row]]}, predicted as {names[predicted]} "
            f"({student.probabilities[row, predicted]:.0%})"
        )
        if teacher is not None:
            caption += f"; teacher: {names[teacher.classes[row]]}"
        images.append((_thumbnails.png(_image(dataset, int(row))), caption))
    if not images:
        return _html.text("The network classifies every test image correctly.")
    return _html.thumbnails(images)


def _graphs(
    student: Predictions,
    teacher: Predictions | None,
    nodes: np.ndarray,
    dataset: data.ImageDataset,
    config: dict[str, Any],
) -> str:
    """Draw the neighbor graph of some test images, with the teacher's beside it."""
    if len(nodes) < 2:
        return ""
    k = min(_neighbors(config), len(nodes))
    labels = dataset.test.labels[nodes]
    positions = _statistics.spread_out(
        _statistics.principal_plane(student.embedding), distance=_NODE_DISTANCE
    )
    neighbors, cards = {}, {}
    for name, predictions in (("This network", student), ("Teacher", teacher)):
        if predictions is None:
            continue
        near = np.asarray(graphs.nearest_neighbors(predictions.logits, k=k))
        neighbors[name] = near
        purity = float(np.mean(graphs.neighbor_purity(near, labels)))
        cards[f"{name}: {purity:.0%} of neighbors have the same class"] = (
            _thumbnails.graph(near, positions, labels, dataset.class_names)
        )
    sentences = (
        f"Each of {len(nodes)} test images is connected to the "
        f"{count(k - 1, 'image')} with the most similar predictions. Positions are the "
        "first two principal components of this network's embeddings; images that "
        "would overlap are moved apart. "
    )
    if len(neighbors) == 2:
        shared = float(np.mean(graphs.neighbor_agreement(*neighbors.values())))
        sentences += f"The two networks share {shared:.0%} of the neighbors. "
    key = (
        '<p class="soft"><span class="key same"></span> same class &nbsp; '
        '<span class="key other"></span> different classes</p>'
    )
    images = [_image(dataset, int(row)) for row in nodes]
    return _html.section(
        "Images with similar predictions",
        _html.text(sentences),
        key,
        _thumbnails.definitions(images),
        _html.cards(cards),
    )


def _neighbors(config: dict[str, Any]) -> int:
    """Return the neighbors of a node in the run's method, if it has any."""
    settings = config["options"].get("hkd")
    k = settings.get("neighbors") if isinstance(settings, dict) else None
    return k if isinstance(k, int) and k > 1 else _NEIGHBORS


def _image(dataset: data.ImageDataset, row: int) -> np.ndarray:
    """Return one test image, of an array or a stream."""
    return np.asarray(dataset.test.images[row : row + 1])[0]

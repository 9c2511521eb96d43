"""The page of one run: ``report.html``, a single self-contained file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxkd import data, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole
from jaxkd._text import count
from jaxkd.reports import _html, _statistics, _test_section
from jaxkd.reports._graph_section import neighbor_graphs
from jaxkd.reports._predictions import Predictions, RunPredictions, predict_test_set
from jaxkd.reports._student_alone import StudentAlone, read_student_alone
from jaxkd.reports._training_charts import training_charts

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
    alone: StudentAlone | None = None,
) -> Path:
    """Write the page of a run into its folder, and its numbers as JSON.

    Args:
        run: The run folder.
        predictions: From :func:`predict_test_set`. Without predictions of a teacher,
            the page has no comparison with it.
        dataset: The run's dataset.
        note: Text for the top of the page. By default, the page of a run with a
            recorded teacher says that it has no comparison with it.
        other_classes: Whether to say instead that there is no comparison because the
            teacher has other classes than the dataset.
        alone: The accuracy of the student without a teacher, if it is known.

    Returns:
        The page that was written.

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
    charts = _test_section.charts(student, calibrations, dataset)
    method = config["options"].get("method")
    title = f"{loaded.network.model} on {dataset.name}"
    title += f", distilled with {method}" if method else ", trained without a teacher"
    sections = [
        _html.heading(title),
        _html.text(note) if note else "",
        _html.text(alone.note) if alone and alone.note else "",
        _html.numbers(_accuracies(student, teacher, alone, labels)),
        _html.numbers(_details(history, loaded, calibrations)),
        _html.section("Training", _html.cards(training_charts(history).items())),
        _html.section("Test set", _html.cards(charts.items())),
        _test_section.who_is_right(student, teacher, dataset),
        _test_section.mistakes(student, teacher, dataset),
        neighbor_graphs(student, teacher, nodes, dataset, config),
        _html.section("The run", _html.facts(_facts(run, config, loaded, dataset))),
    ]
    small = max(dataset.test.images.shape[1:3]) <= _PIXELATED
    path = runs.RunFolder(run).report
    page = _html.document(title, filter(None, sections), small_images=small)
    write_whole(path, page.encode())
    runs.write_test_results(run, _results(predictions, calibrations, labels))
    return path


def rewrite_run_page(
    run: Path,
    dataset: data.ImageDataset,
    *,
    trial: int = 0,
    teacher: Path | None = None,
    alone: Path | None = None,
) -> Path:
    """Write the page of a finished run again, from its newest checkpoint.

    If the teacher's run folder cannot be read, the page has no comparison with the
    teacher, and says so.

    Args:
        run: The run folder.
        dataset: The run's dataset.
        trial: Index of the trial, for a run of several trials.
        teacher: The teacher's run folder; by default the one that the run records.
        alone: The run folder of the same student without a teacher, whose accuracy the
            page shows, too.

    Returns:
        The file that was written.

    Raises:
        ValueError: If the folder is not a run folder, has no metrics or no finished
            checkpoint yet, or has no such trial; if ``teacher`` is given and cannot be
            read; or if ``alone`` is not a run of the same student alone.
    """
    without = None if alone is None else read_student_alone(run, alone)
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
        run,
        predictions,
        dataset,
        note=note,
        other_classes=other_classes,
        alone=without,
    )


def _accuracies(
    student: Predictions,
    teacher: Predictions | None,
    alone: StudentAlone | None,
    labels: np.ndarray,
) -> dict[str, str]:
    """Return the first numbers of the page, as text by name."""
    accuracy = float(np.mean(student.classes == labels))
    numbers = {"test accuracy": f"{accuracy:.2%}"}
    if teacher is not None:
        best = float(np.mean(teacher.classes == labels))
        equal = float(np.mean(student.classes == teacher.classes))
        numbers["teacher's test accuracy"] = f"{best:.2%}"
        numbers["difference from the teacher (points)"] = _points(accuracy - best)
        numbers["same prediction as the teacher"] = f"{equal:.2%}"
    if alone is not None:
        numbers[alone.name] = f"{alone.accuracy:.2%}"
        numbers["difference from the student alone (points)"] = _points(
            accuracy - alone.accuracy
        )
    return numbers


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _details(
    history: Sequence[Record],
    loaded: runs.LoadedNetwork,
    calibrations: dict[str, _statistics.Calibration],
) -> dict[str, str]:
    """Return the other numbers at the top of the page, as text by name."""
    metric, numbers = runs.accuracy_metric(history), {}
    accuracies = [record[metric] for record in history if metric in record]
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
    for name, each in calibrations.items():
        numbers[f"calibration error, {name}"] = f"{each.error:.3f}"
    numbers["epochs"] = str(history[-1]["epoch"])
    numbers["images per second"] = f"{history[-1]['images_per_second']:,.0f}"
    return numbers


def _results(
    predictions: RunPredictions,
    calibrations: dict[str, _statistics.Calibration],
    labels: np.ndarray,
) -> dict[str, Any]:
    """Return the page's numbers of the test set, for a comparison of runs."""
    student, teacher = predictions.student, predictions.teacher
    results: dict[str, Any] = {
        "trial": predictions.loaded.trial,
        "calibration": {
            "student" if name == _STUDENT else name: {
                key: values.tolist() for key, values in each._asdict().items()
            }
            for name, each in calibrations.items()
        },
    }
    if teacher is not None:
        found = _statistics.agreement(student.classes, teacher.classes, labels)
        results["agreement"] = found._asdict()
    return results


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

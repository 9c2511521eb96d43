import dataclasses
import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import _runs
from experiments.recipes import TABLES, _cost, _results
from experiments.recipes.__main__ import main
from experiments.recipes._table import smoke
from jaxkd import cli, distillers, models, reports, runs
from jaxkd.cli._options import Distill, Train, parse

pytestmark = pytest.mark.usefixtures("quickly_compiled")
TABLE_1 = TABLES["hkd_table1"]
R50_VGG8 = 3
# In percent. With it the printed column comes out for all methods but CRD+KD.
HKD_KD_THAT_FITS = 74.85
COMPARED = [row for row in TABLE_1.rows if row.method != TABLE_1.baseline]


def names(row):
    return row.name


def improvement(row, **replaced):
    """Of HKD+KD over a method, in percent, from the means as they are printed."""
    (baseline,) = (row for row in TABLE_1.rows if row.method == TABLE_1.baseline)
    ours, theirs, student = (
        [published.mean for published in cells]
        for cells in (baseline.published, row.published, TABLE_1.students)
    )
    ours[R50_VGG8] = replaced.get("ours", ours[R50_VGG8])
    return 100 * reports.average_relative_improvement(ours, theirs, student)


@functools.cache
def options(name):
    """A table's commands as ``jaxkd`` reads them: each row once, and each column."""
    root, table = Path("runs"), TABLES[name]
    first, *others = table.pairs
    jobs = [table.teacher_job(first, root), table.student_job(first, root)]
    jobs += [table.cell_job(first, row, root) for row in table.rows]
    for pair in others:
        jobs += [
            table.teacher_job(pair, root),
            table.cell_job(pair, table.rows[0], root),
        ]
    return [parse(job.arguments) for job in jobs]


class Jaxkd:
    """Leaves run folders as training does, and carries out ``jaxkd report``."""

    def __init__(self, accuracies):
        self.accuracies = accuracies
        self.commands = []

    def __call__(self, arguments):
        if arguments[0] == "report":
            return cli.main(arguments)
        self.commands.append(list(arguments))
        given = parse(arguments)
        method = given.method if isinstance(given, Distill) else given.out.parent.name
        values = self.accuracies[method][: given.trials]
        network = {"model": given.model, "width": given.width}
        config = {
            "command": " ".join(["jaxkd", *arguments]),
            "options": dataclasses.asdict(given),
            "network": network,
            "dataset": {"source": given.dataset},
        }
        if isinstance(given, Distill):
            accuracy = self.accuracies["teachers"][0]
            teacher = json.loads((given.teacher / "config.json").read_text())["network"]
            config["teacher"] = {"network": teacher, "test_accuracy": accuracy}
        history = [
            {"epoch": epoch, "step": epoch, "images_per_second": 1.0}
            | {"trials": {"test/accuracy": shown}, "test/accuracy": shown[0]}
            for epoch, shown in enumerate([[0.99] * len(values), values], start=1)
        ]
        given.out.mkdir(parents=True, exist_ok=True)
        summary = runs.summarize(history, seed=given.seed, data_seed=0)
        (given.out / "config.json").write_text(json.dumps(config, default=str))
        (given.out / "summary.json").write_text(json.dumps(summary))
        lines = "".join(json.dumps(record) + "\n" for record in history)
        (given.out / "metrics.jsonl").write_text(lines)


@pytest.fixture
def jaxkd():
    return Jaxkd(
        {
            "teachers": [0.9],
            "students": [0.69, 0.71],
            "kd": [0.72, 0.76],
            "hkd+kd": [0.77, 0.79],
            "crd": [0.79, 0.81],
        }
    )


@pytest.mark.parametrize("row", COMPARED, ids=names)
def test_the_printed_means_give_the_printed_improvement_within_a_quarter_point(row):
    # All but CRD+KD are 0.14 to 0.21 too high: the column is not of these means.
    assert improvement(row) == pytest.approx(row.improvement, abs=0.25)


@pytest.mark.parametrize("row", COMPARED, ids=names)
def test_one_other_entry_gives_the_improvement_over_all_but_crd_exactly(row):
    # CRD+KD's is of the entry as printed: no single one gives all nine.
    fits = {} if row.name == "CRD+KD" else {"ours": HKD_KD_THAT_FITS}
    misses = {"ours": HKD_KD_THAT_FITS} if not fits else {}
    assert improvement(row, **fits) == pytest.approx(row.improvement, abs=0.01)
    assert abs(improvement(row, **misses) - row.improvement) > 0.1


def test_table_1_has_twelve_rows_and_all_numbers():
    printed = [TABLE_1.teachers, TABLE_1.students]
    printed += [row.published for row in TABLE_1.rows]
    assert [len(cells) for cells in printed] == [5] * 12


@pytest.mark.parametrize("name", TABLES)
def test_jaxkd_reads_the_commands(name):
    for given in options(name):
        assert isinstance(given, Distill | Train)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_teacher_is_trained_before_its_students_and_once(table, tmp_path):
    known = []
    for job in table.jobs(tmp_path):
        words = job.arguments
        if words[0] == "distill":
            assert Path(words[words.index("--teacher") + 1]) in known
        known.append(job.out)
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_method_has_the_weights_of_the_recipe(table):
    for row in table.rows:
        assert row.weights == distillers.RECIPES[row.method]


@pytest.mark.parametrize("name", TABLES)
def test_the_commands_have_the_weights(name):
    found = [given for given in options(name) if isinstance(given, Distill)]
    for given, row in zip(found, TABLES[name].rows, strict=False):
        assert (given.method, given.weights) == (row.method, row.weights)


@pytest.mark.parametrize(
    "name", ["hkd_table1", "repdistiller_same", "repdistiller_cross", "tiny_imagenet"]
)
def test_the_schedule_is_the_published_one(name):
    for given in options(name):
        slow = given.model in ("MobileNetV2", "ShuffleV1", "ShuffleV2")
        sgd = given.optimizer
        assert sgd.learning_rate == (0.01 if slow else 0.05)
        assert (sgd.momentum, sgd.weight_decay) == (0.9, 5e-4)
        assert [240 * part for part in sgd.milestones] == [150, 180, 210]
        assert (given.epochs, given.batch_size) == (240, 64)


def test_tables_on_the_same_data_agree_on_the_runs_that_they_share(tmp_path):
    found = {}
    for name in ("hkd_table1", "repdistiller_same", "repdistiller_cross"):
        for job in TABLES[name].jobs(tmp_path):
            assert found.setdefault(job.out, job.arguments) == job.arguments
    assert len(found) < sum(len(t.jobs(tmp_path)) for t in list(TABLES.values())[:3])


def test_the_docstring_shows_the_table():
    doc = importlib.import_module("experiments.recipes.hkd_table1").__doc__
    assert doc is not None
    shown = [line.strip() for line in doc.splitlines()]
    lines = _results.text_table(TABLE_1, {}).splitlines()
    assert {line.strip() for line in lines} <= set(shown)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TABLES if name != "fashion_mnist"])
def test_the_docstring_shows_the_estimate_of_the_cost(name):
    table = TABLES[name]
    doc = importlib.import_module(f"experiments.recipes.{table.name}").__doc__
    assert _cost.sentence(table) in " ".join(doc.split())


def test_lists_the_commands(tmp_path, capsys):
    main(["hkd_table1", "--runs", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# R32x4-R8x4, teacher"
    command = lines[lines.index("# VGG13-MV2, CRD+KD") + 1]
    assert "--method crd+kd --weights ce 1 crd 0.8 kd 1" in command
    assert "--learning-rate 0.01 " in command
    assert "--trials 5 " in command


def test_runs_a_cell_and_its_teacher_once(tmp_path, jaxkd, capsys):
    cell = ["imagenet", "--runs", str(tmp_path), "--run", "R34-R18", "hkd+kd"]
    main(cell, jaxkd)
    main(cell, jaxkd)
    assert [command[0] for command in jaxkd.commands] == ["train", "distill"]
    assert capsys.readouterr().out.count("is finished") == 2


def test_an_interrupted_run_is_resumed(tmp_path, jaxkd):
    job = TABLE_1.teacher_job(TABLE_1.pairs[0], tmp_path)
    jaxkd(job.arguments)
    (job.out / "summary.json").unlink()
    _runs.run([job], jaxkd)
    assert jaxkd.commands[-1] == [*job.arguments, "--resume"]


def test_a_folder_of_another_command_is_refused(tmp_path, jaxkd, capsys):
    cell = ["imagenet", "--runs", str(tmp_path), "--run", "R34-R18", "student"]
    main(cell, jaxkd)
    with pytest.raises(SystemExit) as caught:
        main([*cell, "--trials", "2"], jaxkd)
    assert caught.value.code == 2
    assert "is of another command" in capsys.readouterr().err


def test_runs_may_be_moved(tmp_path, jaxkd):
    there, here = tmp_path / "there", tmp_path / "here"
    cell = ["imagenet", "--run", "R34-R18", "kd", "--runs"]
    main([*cell, str(there)], jaxkd)
    there.rename(here)
    main([*cell, str(here)], jaxkd)
    assert len(jaxkd.commands) == 2


def test_a_converted_teacher_is_taken_as_it_is(tmp_path):
    job = TABLE_1.teacher_job(TABLE_1.pairs[0], tmp_path)
    job.out.mkdir(parents=True)
    config = {"command": f"jaxkd convert net.pth --out {job.out}"}
    (job.out / "config.json").write_text(json.dumps(config))
    assert _runs.finished(job)


def test_an_unknown_cell_is_answered_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["imagenet", "--run", "R34-R18", "fsp"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "no cell R34-R18 fsp; pairs: R34-R18; methods: teacher, student, kd" in line


def test_the_report_fills_the_measured_column(tmp_path, jaxkd, capsys):
    start = ["hkd_table1", "--trials", "2", "--runs", str(tmp_path)]
    for method in ("student", "kd", "hkd+kd"):
        main([*start, "--run", "R50-VGG8", method], jaxkd)
    main([*start, "--report"], jaxkd)
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line and "/" in line}
    assert rows["teacher"][4] == "79.34/90.00"
    assert rows["student"][4] == "70.56±.32/70.00±1.41"
    assert rows["KD"][4:] == ["73.76±.09/74.00±2.83", "67.83±.46/-", "126.48/100.00"]
    assert rows["HKD+KD"][4] == "74.88±.30/78.00±1.41"
    assert rows["AT+KD"][4] == "73.91±.24/-"


@pytest.mark.slow
def test_the_improvement_is_that_of_the_tables_own_baseline(tmp_path, jaxkd, capsys):
    start = ["repdistiller_same", "--trials", "2", "--runs", str(tmp_path)]
    for method in ("student", "kd", "crd"):
        main([*start, "--run", "VGG13-VGG8", method], jaxkd)
    main([*start, "--report"], jaxkd)
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("KD "))
    assert line.split()[-1] == "·/150.00"  # (80 - 74) / (74 - 70)


def test_without_a_distilled_student_there_is_nothing_to_report(tmp_path, jaxkd):
    main(["imagenet", "--runs", str(tmp_path), "--run", "R34-R18", "student"], jaxkd)
    assert _results.measure(TABLES["imagenet"], tmp_path, jaxkd) == {}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_smoke_table_has_no_published_number(table):
    small = smoke(table)
    assert not small.teachers
    assert not small.students
    assert not any(row.published or row.improvement for row in small.rows)
    assert [pair.name for pair in small.pairs] == [pair.name for pair in table.pairs]


def run_smoke(root, name, method, *more, jaxkd=cli.main):
    """Runs a cell and its teacher for two epochs on digits; returns its summary."""
    pair = TABLES[name].pairs[-1].name
    main([name, "--smoke", *more, "--runs", str(root), "--run", pair, method], jaxkd)
    (folder,) = root.glob(f"digits/*/{method}")
    return json.loads((folder / "summary.json").read_text())


SMALLEST = ("mlp", "--trials", "1")


# The next test reads its commands; the tests of the commands train.
@pytest.mark.slow
def test_the_smallest_variant_runs_end_to_end(tmp_path):
    assert run_smoke(tmp_path, "hkd_table1", "kd", *SMALLEST)["epochs"] == 2


@pytest.mark.slow
def test_the_smallest_variants_of_all_tables_are_the_same_runs(tmp_path, jaxkd):
    found = {}
    for name in TABLES:
        jaxkd.commands.clear()
        run_smoke(tmp_path / name, name, "kd", *SMALLEST, jaxkd=jaxkd)
        given = [vars(parse(command)) for command in jaxkd.commands]
        places = ("out", "teacher")
        found[name] = [
            {k: v for k, v in options.items() if k not in places} for options in given
        ]
    assert len(found["hkd_table1"]) == 2
    assert all(commands == found["hkd_table1"] for commands in found.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, method",
    [
        ("hkd_table1", "hkd+kd"),
        ("repdistiller_same", "fsp"),
        ("repdistiller_cross", "hint"),
        ("tiny_imagenet", "sp+kd"),
        ("imagenet", "at"),
    ],
)
def test_the_smoke_variant_runs_end_to_end(tmp_path, name, method):
    assert run_smoke(tmp_path, name, method)["trials"]["seeds"] == [0, 1]


@functools.cache
def abstract_output(network, data):
    def build():
        model = models.build(
            network.model,
            num_classes=data.classes,
            image_shape=data.shape,
            rngs=nnx.Rngs(0),
        )
        return model(jnp.zeros((16, *data.shape)))

    return jax.eval_shape(build)


def start_abstractly(table, pair, row):
    """The heads and the loss of a cell's method, as shapes at the published sizes."""
    data = table.settings.data
    labels = np.arange(data.images) % data.classes
    student, teacher = (
        abstract_output(network, data) for network in (pair.student, pair.teacher)
    )
    distiller = distillers.recipe(row.method, weights=dict(row.weights))
    spec = distillers.Spec(student, teacher, data.classes, labels)

    def begin():
        state = distiller.init(nnx.Rngs(0), spec)
        if distiller.pretraining is not None:
            state = distiller.pretraining.finish(*state)
        return state

    def loss(state, student, teacher):
        images = jnp.zeros((16, *data.shape), jnp.uint8)
        rows = jnp.arange(16)
        key = jax.random.key(0)
        batch = distillers.Batch(images, jnp.asarray(labels[:16]), rows, key)
        batch = batch._replace(step=jnp.int32(0), steps_per_epoch=4)
        return distiller.loss(*state, student, teacher, batch)[0]

    state = jax.eval_shape(begin)
    if distiller.views is None:
        assert jax.eval_shape(loss, state, student, teacher).shape == (16,)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_cell_fits_its_networks_at_the_published_sizes(table):
    for pair in table.pairs:
        for row in table.rows:
            if pair.name not in row.without:
                start_abstractly(table, pair, row)


@pytest.mark.slow
def test_a_method_is_left_out_only_where_the_networks_do_not_fit():
    table = TABLES["repdistiller_same"]
    pairs = {pair.name: pair for pair in table.pairs}
    for row in table.rows:
        for name in row.without:
            with pytest.raises(ValueError, match="channels"):
                start_abstractly(table, pairs[name], row)

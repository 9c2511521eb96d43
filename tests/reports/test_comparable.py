"""Which runs a comparison puts side by side: the same in all but what it compares."""

import json

import pytest
from comparison_support import cells, make_run, rows

from jaxkd import reports

pytestmark = pytest.mark.usefixtures("without_figures")

FULL = {"fingerprint": "npz:sha256:0123456789abcdef"}
PUBLISHED = {"optimizer": "published", "learning_rate": 0.05}
PLAIN = {"flip": False, "mixup": 0.0}
HALF = {"normalization": {"mean": [0.5], "std": [0.5]}}


# What differs between two runs of kd, beside the seed, and the rows that say it.
SETTINGS = {
    "epochs": ({"epochs": 2}, {"epochs": 9}, "epochs {}"),
    "batch size": ({"batch_size": 64}, {"batch_size": 128}, "batch size {}"),
    "averaged weights": ({"ema": None}, {"ema": 0.9}, "ema {}"),
    "learning rate": (
        {"optimizer": PUBLISHED},
        {"optimizer": {**PUBLISHED, "learning_rate": 1e-05}},
        "learning rate {}",
    ),
    "optimizer": (
        {"optimizer": PUBLISHED},
        {"optimizer": {**PUBLISHED, "optimizer": "adamw"}},
        "optimizer {}",
    ),
    "augmentation": ({"data": PLAIN}, {"data": {**PLAIN, "mixup": 0.2}}, "mixup {}"),
    "flips": ({"data": PLAIN}, {"data": {**PLAIN, "flip": True}}, "flip {}"),
    "RandAugment": (
        {"data": PLAIN},
        {"data": {**PLAIN, "randaugment": [2, 9.0]}},
        "randaugment {}",
    ),
    "precision": (
        {"compute_dtype": "float32"},
        {"compute_dtype": "bfloat16"},
        "compute dtype {}",
    ),
    "temperature": ({"temperature": 4.0}, {"temperature": "inf"}, "temperature {}"),
    "weight": ({"weights": {}}, {"weights": {"kd": 3.0}}, "weights.kd {}"),
    "setting of a part": (
        {"settings": {}},
        {"settings": {"kd.temperature": "2"}},
        "kd.temperature {}",
    ),
    "equal means": ({"equal_means": False}, {"equal_means": True}, "equal means {}"),
    "statistics": (
        {},
        {"config": HALF},
        "normalization.std {}",
    ),
}
VALUES = {
    "epochs": ("2", "9"),
    "batch size": ("64", "128"),
    "averaged weights": ("default", "0.9"),
    "learning rate": ("0.05", "1e-05"),
    "optimizer": ("published", "adamw"),
    "augmentation": ("0", "0.2"),
    "flips": ("False", "True"),
    "RandAugment": ("default", "2 9"),
    "precision": ("float32", "bfloat16"),
    "temperature": ("4", "inf"),
    "weight": ("0.9", "3"),
    "setting of a part": ("default", "2"),
    "equal means": ("False", "True"),
    "statistics": ("0.25", "0.5"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_runs_with_different_settings_are_different_rows(kind, tmp_path):
    one, other, name = SETTINGS[kind]
    runs = [
        make_run(tmp_path, "a", "kd", [[0.6], [0.7]], **one),
        make_run(tmp_path, "b", "kd", [[0.6], [0.8]], seed=1, **other),
    ]
    table = reports.write_comparison(runs, tmp_path / "out")
    found = rows(tmp_path / "out")
    names = [f"kd ({name.format(value)})" for value in VALUES[kind]]
    assert {row: found[row]["last_values"] for row in found} == dict(
        zip(names, ("0.7", "0.8"), strict=True)
    )
    assert "1 seed." in table
    assert "±" not in table.splitlines()[4]
    assert "are separate rows, which name it" in table


@pytest.mark.parametrize(
    "one, other",
    [
        ({"seed": 0}, {"seed": 1}),
        ({"seed": 0, "data_seed": 0}, {"seed": 1, "data_seed": 1}),
        ({"out": "x"}, {"out": "y", "seed": 1}),
        ({"checkpoint_every": 1}, {"checkpoint_every": 2, "seed": 1}),
        (
            {"data": {"cache_dir": None, "workers": 0}},
            {"data": {"cache_dir": "/c", "workers": 2}, "seed": 1},
        ),
        ({"ema": None}, {"seed": 1}),  # an option that an older version did not have
        ({"config": HALF}, {"config": HALF, "seed": 1}),
        ({"teacher": "/a/t"}, {"teacher": "/moved/t", "seed": 1}),
    ],
)
def test_runs_that_differ_in_nothing_that_trains_are_trials(one, other, tmp_path):
    def made(name, values, options):
        path = options.get("teacher")
        if isinstance(path, str):
            options = {k: v for k, v in options.items() if k != "teacher"}
        return make_run(tmp_path, name, "kd", values, **options)

    runs = [made("a", [[0.6], [0.7]], one), made("b", [[0.6], [0.8]], other)]
    table = reports.write_comparison(runs, tmp_path / "out")
    assert cells(table)["kd"][0] == "75.00 ± 7.07"
    assert "over 2 seeds." in table


PAIRS = {
    "teachers": (
        {"teacher": {"fingerprint": "aaaaaaaa"}},
        {"teacher": {"fingerprint": "bbbbbbbb"}},
        "resnet20 ({}) → resnet8, digits",
        ("aaaaaaaa", "bbbbbbbb"),
    ),
    "contents of the dataset": (
        {"dataset": FULL},
        {"dataset": {"fingerprint": "npz:sha256:ffff456789abcdef"}},
        "resnet20 → resnet8, digits (npz:sha256:{})",
        ("01234567", "ffff4567"),
    ),
    "subsets": (
        {"dataset": FULL},
        {"dataset": {"fingerprint": FULL["fingerprint"] + ", 9 of 90 rows, seed 0"}},
        "resnet20 → resnet8, digits (npz:sha256:01234567{})",
        ("", ", 9 of 90 rows, seed 0"),
    ),
    "image sizes": (
        {"dataset": {"fingerprint": "folder:0123456789abcdef, size 32"}},
        {"dataset": {"fingerprint": "folder:0123456789abcdef, size 64"}},
        "resnet20 → resnet8, digits (folder:01234567, size {})",
        ("32", "64"),
    ),
    "teachers without fingerprints": (
        {"teacher": {"fingerprint": None, "test_accuracy": 0.5}},
        {"teacher": {"fingerprint": None}},
        "resnet20 (resnet20, accuracy {}, trial 0) → resnet8, digits",
        ("0.5", "0.9"),
    ),
    "datasets without fingerprints": (
        {"dataset": {"source": "/a/digits"}},
        {"dataset": {"source": "/b/digits"}},
        "resnet20 → resnet8, digits ({})",
        ("/a/digits", "/b/digits"),
    ),
    "students": ({"model": "vgg8"}, {"model": "mlp"}, "resnet20 → {}, digits", None),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_other_networks_and_data_are_other_columns(kind, tmp_path):
    one, other, label, names = PAIRS[kind]
    runs = [
        make_run(tmp_path, "a", "kd", [[0.6], [0.7]], **one),
        make_run(tmp_path, "b", "kd", [[0.6], [0.8]], seed=1, **other),
    ]
    table = reports.write_comparison(runs, tmp_path / "out")
    header = cells(table)["method"]
    titles = [label.format(x) for x in names or ("vgg8", "mlp")]
    assert header[:2] == titles
    assert cells(table)["kd"] == ["70.00", "80.00", ""]
    assert ("cannot be compared" in table) == (names is not None)


def test_settings_of_a_part_that_the_method_does_not_have_make_no_rows(tmp_path):
    hkd = {"neighbors": 8}
    runs = [
        make_run(
            tmp_path,
            *(str(seed), "crd", [[0.6], [0.7]]),
            seed=seed,
            temperature=temperature,
            hkd={"neighbors": neighbors},
        )
        for seed, temperature, neighbors in ((0, 4.0, 8), (1, 2.0, 4))
    ]
    runs.append(
        make_run(tmp_path, "kd", "kd", [[0.6], [0.8]], temperature=4.0, hkd=hkd)
    )
    table = reports.write_comparison(runs, tmp_path / "out")
    assert list(cells(table)) == ["method", "teacher", "crd", "kd"]
    assert cells(table)["crd"][0] == "70.00 ± 0.00"


def test_a_ramp_of_one_method_names_no_row_and_stays_comparable(tmp_path):
    ramp = {"weight_ramp": "linear", "weight_warmup": {"dkd": 20}}
    text = reports.write_comparison(
        [
            make_run(tmp_path, "a", "student", [[0.5], [0.70]]),
            make_run(tmp_path, "b", "dkd", [[0.5], [0.74]], **ramp),
            make_run(tmp_path, "c", "hkd+kd", [[0.5], [0.78]]),
        ],
        tmp_path / "out",
    )
    assert cells(text)["student alone"] == ["70.00", ""]
    assert cells(text)["dkd"] == ["74.00", "100.00"]


def test_a_dataset_that_was_moved_is_the_same(tmp_path):
    runs = [
        make_run(tmp_path, "a", "kd", [[0.6], [0.7]], dataset=FULL),
        make_run(
            tmp_path,
            *("b", "kd", [[0.6], [0.8]]),
            seed=1,
            dataset=FULL | {"source": "/moved/digits-2.npz"},
        ),
    ]
    table = reports.write_comparison(runs, tmp_path / "out")
    assert cells(table)["kd"][0] == "75.00 ± 7.07"


def test_a_subset_of_a_recorded_dataset_is_named_once(tmp_path):
    """The size of a subset is an option, too, which the fingerprint covers."""
    runs = [
        make_run(
            tmp_path,
            *(name, "kd", [[0.6], [0.7]]),
            data={"subset": subset, "image_size": size},
            dataset={"fingerprint": f"folder:{name}"},
        )
        for name, subset, size in (("a", None, 32), ("b", 9, None))
    ]
    table = reports.write_comparison(runs, tmp_path / "out")
    assert list(cells(table)) == ["method", "teacher", "kd"]


def test_students_alone_are_rows_of_their_own_settings(tmp_path, four):
    longer = make_run(tmp_path, "e", "student", [[0.5], [0.8]], epochs=9)
    table = reports.write_comparison([*four, longer], tmp_path / "out")
    assert cells(table)["student alone (epochs 9)"][0] == "80.00"
    assert cells(table)["student alone (epochs 2)"][0] == "70.00 ± 1.41"
    # The improvement is over the student that was trained as long.
    assert cells(table)["kd (epochs 2)"][1] == "100.00"


def test_there_is_no_improvement_over_runs_of_other_settings(tmp_path, four):
    longer = make_run(tmp_path, "e", "crd", [[0.5], [0.8]], epochs=9)
    table = reports.write_comparison([*four, longer], tmp_path / "out")
    assert cells(table)["crd (epochs 9)"] == ["80.00", ""]
    assert cells(table)["kd (epochs 2)"][1] == "100.00"
    assert "The ARI over crd (epochs 9) leaves out pairs" in table
    assert rows(tmp_path / "out")["crd (epochs 9)"]["ari"] == ""


def test_a_baseline_of_several_settings_must_be_named(tmp_path, four):
    hot = make_run(tmp_path, "e", "hkd+kd", [[0.5], [0.9]], temperature=9.0)
    out = tmp_path / "out"
    table = reports.write_comparison([*four, hot], out)
    assert cells(table)["kd"][1] == ""
    assert "The ARI over kd leaves out pairs" in table
    row = "hkd+kd (temperature 9)"
    table = reports.write_comparison([*four, hot], out, baseline=row)
    assert cells(table)["kd"][1] == "400.00"  # (90 - 74) / (74 - 70)


def test_methods_with_their_own_settings_are_compared(tmp_path, four):
    """Weights and settings belong to a method: they make no rows of other methods."""
    crd = make_run(tmp_path, "e", "crd", [[0.5], [0.8]], settings={"crd.dim": "64"})
    table = reports.write_comparison([*four, crd], tmp_path / "out")
    assert list(cells(table))[2:] == ["student alone", "crd", "kd", "hkd+kd"]


@pytest.mark.parametrize("method", ["kd", "student"])
def test_the_same_seed_twice_is_refused(method, tmp_path, four):
    again = make_run(tmp_path, "again", method, [[0.5], [0.7]])
    with pytest.raises(ValueError, match="seed twice is not two trials") as caught:
        reports.write_comparison([*four, again], tmp_path / "out")
    assert str(again) in str(caught.value)
    assert str(four[method == "kd"]) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_same_folder_twice_is_refused(tmp_path, four):
    (tmp_path / "link").symlink_to(four[1])
    for again in (four[1], tmp_path / "link"):
        with pytest.raises(ValueError, match="repeats seed 0 of kd"):
            reports.write_comparison([*four, again], tmp_path / "out")


def test_a_student_alone_of_another_dataset_is_left_out_aloud(tmp_path, capsys):
    runs = [
        make_run(tmp_path, "a", "student", [[0.6], [0.7]], dataset=FULL),
        make_run(tmp_path, "b", "kd", [[0.6], [0.8]]),
    ]
    table = reports.write_comparison(runs, tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no run with a teacher has the network and dataset of {runs[0]}" in line
    assert "student alone" not in cells(table)
    assert "left out: no run with a teacher" in (
        (tmp_path / "out" / "report.md").read_text()
    )


OWN = "npz:sha256:0123456789abcdef"


@pytest.mark.parametrize(
    "theirs, known",
    [
        ("npz:sha256:ffff456789abcdef", False),
        (OWN, True),
        (f"{OWN}, 9 of 90 rows, seed 0", True),  # of the training images
        (None, True),  # not recorded
    ],
)
@pytest.mark.parametrize("moved", [True, False])
def test_the_accuracy_of_a_teacher_is_of_the_same_test_set(
    theirs, known, moved, tmp_path, capsys
):
    teacher = make_run(
        tmp_path, "t", "student", [[0.9]], dataset={"fingerprint": theirs}
    )
    config = json.loads((teacher / "config.json").read_text())
    options = {"teacher": str(teacher), "method": "kd", "seed": 0, "trials": 1}
    student = make_run(
        tmp_path,
        *("s", "kd", [[0.6], [0.7]]),
        dataset={"fingerprint": f"{OWN}, 5 of 90 rows, seed 0"},
        teacher={"network": config["network"]},
        config={"options": options},
    )
    if moved:
        teacher.rename(tmp_path / "elsewhere")
    table = reports.write_comparison([student], tmp_path / "out")
    assert ("teacher" in cells(table)) == (known or moved)
    assert ("the teacher's accuracy is left out" in table) == (not (known or moved))
    assert ("the teacher's accuracy is left out" in capsys.readouterr().err) == (
        not (known or moved)
    )


def test_deviations_of_different_kinds_are_told_apart(tmp_path, four):
    more = [
        make_run(tmp_path, str(i), "crd", [[0.5], [0.8]], seed=i, data_seed=i)
        for i in (0, 1)
    ]
    table = reports.write_comparison([*four, *more], tmp_path / "out")
    assert "The deviation of crd includes the order of the data" in table
    assert "that of student alone, kd, hkd+kd does not." in table
    assert "order of the data" not in reports.write_comparison(four, tmp_path / "out")

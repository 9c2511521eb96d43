"""A comparison with a damaged run ends with one line that names the run."""

import json

import pytest
from cli_arguments import refusal
from comparison_support import make_run

from jaxkd import reports

pytestmark = pytest.mark.usefixtures("without_figures")


def change(name, **entries):
    """Replaces entries of a JSON file; `a__b` is the entry b of a, None removes one."""

    def damage(folder):
        content = json.loads((folder / name).read_text())
        for path, value in entries.items():
            *parents, last = path.split("__")
            inner = content
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
            if value is None:
                del inner[last]
        (folder / name).write_text(json.dumps(content))

    return damage


def replace(name, content):
    """Replaces a whole file."""

    def damage(folder):
        (folder / name).write_bytes(content)

    return damage


def folder_in_place_of(name):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


WHOLE = (b"", b"[]", b"null", b"5", b'"x"', b"\xff\xfe\x00", b"{", b"[" * 100_000)
DAMAGES = {
    **{
        f"{name} {content[:9]!r}": replace(name, content)
        for name in ("config.json", "summary.json", "metrics.jsonl")
        for content in WHOLE
    },
    "no metrics": replace("metrics.jsonl", b""),
    "metrics of lists": replace("metrics.jsonl", b"[1]\n[2]\n"),
    "metrics of numbers": replace("metrics.jsonl", b"1\n2\n"),
    "metrics of another run of the same length": replace(
        "metrics.jsonl",
        b'{"epoch": 1, "step": 1, "test/accuracy": 0.5}\n'
        b'{"epoch": 2, "step": 2, "test/accuracy": 0.7}\n',
    ),
    "metrics of another run": replace(
        "metrics.jsonl", b'{"epoch": 1, "step": 1, "test/accuracy": 0.1}\n'
    ),
    "config is a folder": folder_in_place_of("config.json"),
    "summary is a folder": folder_in_place_of("summary.json"),
    "metrics are a folder": folder_in_place_of("metrics.jsonl"),
    "options are a list": change("config.json", options=[1]),
    "options are a number": change("config.json", options=5),
    "no options": change("config.json", options=None),
    "method is a list": change("config.json", options__method=[]),
    "no method": change("config.json", options__method=None),
    "data are a list": change("config.json", options__data=[1]),
    "weights are a list": change("config.json", options__weights=[1]),
    "network is a list": change("config.json", network=[1]),
    "no network": change("config.json", network=None),
    "model is a number": change("config.json", network__model=5),
    "dataset is a word": change("config.json", dataset="digits"),
    "no dataset": change("config.json", dataset=None),
    "no source": change("config.json", dataset__source=None),
    "normalization is a number": change("config.json", normalization=5),
    "mean is a number": change("config.json", normalization__mean=5),
    "mean is a word": change("config.json", normalization__mean="x"),
    "teacher is a list": change("config.json", teacher=[1]),
    "teacher has no network": change("config.json", teacher__network=None),
    "teacher's accuracy is a word": change("config.json", teacher__test_accuracy="x"),
    "a method like a student alone": change("config.json", options__method="student"),
    "no seeds": change("summary.json", trials__seeds=None),
    "seeds are a number": change("summary.json", trials__seeds=5),
    "seeds are words": change("summary.json", trials__seeds=["x"]),
    "too many seeds": change("summary.json", trials__seeds=[1, 2]),
    "data seed is a word": change("summary.json", data_seed="x"),
    "trials are a word": change("summary.json", trials="three"),
    "values are a word": change(
        "summary.json", trials__test_accuracy_last={"values": "x"}
    ),
    "an accuracy above 1": replace(
        "metrics.jsonl", b'{"epoch": 1, "step": 1, "test/accuracy": 9.9e9}\n'
    ),
    "an accuracy that is a word": replace(
        "metrics.jsonl", b'{"epoch": 1, "step": 1, "test/accuracy": "x"}\n'
    ),
    "source is null": change("config.json", dataset={"source": None}),
    "source is a number": change("config.json", dataset__source=5),
    "seed is a float": change("summary.json", trials__seeds=[0.5]),
    "accuracies of another run": change(
        "summary.json", trials__test_accuracy_last__values=[9.9e9]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_one_line_names_the_damaged_run(damage, tmp_path, four, capsys):
    bad = make_run(tmp_path, "bad", "kd", [[0.5], [0.6]], seed=7)
    damage(bad)
    out = tmp_path / "out"
    line = refusal(["report", *four, bad, "--out", out], capsys)
    assert str(bad) in line
    assert not out.exists()


def test_a_converted_network_is_not_an_unfinished_run(tmp_path, four):
    run = make_run(tmp_path, "t", "student", [[0.5]], config={"source": {"file": "x"}})
    (run / "summary.json").unlink()
    with pytest.raises(ValueError, match="contains a converted network"):
        reports.write_comparison([*four, run], tmp_path / "out")


def test_a_run_of_quickstart_is_refused_with_the_reason(tmp_path, four):
    run = make_run(tmp_path, "t", "student", [[0.5]], config={"options": {}})
    with pytest.raises(ValueError, match="because `jaxkd quickstart` or an old"):
        reports.write_comparison([*four, run], tmp_path / "out")

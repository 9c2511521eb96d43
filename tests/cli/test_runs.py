import dataclasses
import inspect
import json

import pytest
from cli_arguments import distill_arguments, train_arguments
from PIL import Image

from jaxkd import cli, data, distillers, runs, training
from jaxkd.cli._method import make_distiller
from jaxkd.cli._options import HolisticOptions, parse


def test_a_run_folder_holds_config_metrics_checkpoints_and_plots(teacher):
    names = {path.name for path in teacher.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "curves.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert len(runs.read_metrics(teacher / "metrics.jsonl")) == 3
    with Image.open(teacher / "curves.png") as picture:
        assert picture.size > (500, 200)


def test_config_names_command_network_data_and_versions(teacher):
    config = json.loads((teacher / "config.json").read_text())
    assert config["command"].startswith("jaxkd train --dataset")
    assert config["network"]["image_shape"] == [8, 8, 1]
    assert config["network"]["num_classes"] == 4
    assert len(config["normalization"]["mean"]) == 1
    assert {"jax", "flax", "jaxkd", "python"} <= config["versions"].keys()


def test_the_holistic_options_have_the_librarys_defaults():
    library = inspect.signature(distillers.holistic).parameters
    for option in dataclasses.fields(HolisticOptions):
        assert option.default == library[option.name].default, option.name


HOLISTIC = {
    "neighbors": 2,
    "hops": 2,
    "dim": 16,
    "temperature": 0.2,
    "bank_momentum": 0.1,
    "smoothing": 0.1,
    "num_negatives": 5,
    "negatives": "shared",
    "negatives_from": "cross",
    "graph_from": "embeddings",
    "embedding_weight": 0.5,
    "graph_weight": 0.25,
    "bank_dtype": "bfloat16",
}
"""Values other than the defaults, for every option of the holistic loss."""


def test_every_holistic_option_reaches_its_argument(tmp_path, monkeypatch):
    given = {}

    class Reached(Exception):
        pass

    def holistic(**settings):
        given.update(settings)
        raise Reached

    holistic.__signature__ = inspect.signature(distillers.holistic)
    monkeypatch.setitem(distillers.PARTS, "hkd", holistic)
    flags = [
        word
        for option, value in HOLISTIC.items()
        for word in (f"--hkd.{option.replace('_', '-')}", str(value))
    ]
    options = parse(distill_arguments(tmp_path, tmp_path / "run", *flags))
    with pytest.raises(Reached):
        make_distiller(options)
    assert HOLISTIC.keys() == {f.name for f in dataclasses.fields(HolisticOptions)}
    assert given == HOLISTIC


def test_evaluate_prints_the_accuracy_of_the_last_epoch(teacher, capsys):
    cli.main(["evaluate", str(teacher)])
    last = runs.read_metrics(teacher / "metrics.jsonl")[-1]
    printed = capsys.readouterr().out
    assert f"test accuracy {last['test/accuracy']:.2%}" in printed
    assert "23 images" in printed


def test_a_run_taken_to_python_teaches_with_the_accuracy_of_its_last_epoch(
    teacher, quadrants
):
    loaded = runs.load_run(teacher)
    frozen = training.freeze_teacher(loaded.module, loaded.normalization)
    dataset = data.load(loaded.dataset)
    result = training.evaluate(frozen, dataset.test)
    last = runs.read_metrics(teacher / "metrics.jsonl")[-1]
    assert result.accuracy == pytest.approx(last["test/accuracy"])
    assert result.loss == pytest.approx(last["test/loss"], rel=1e-5)


def test_data_describes_a_dataset(quadrants, capsys):
    cli.main(["data", str(quadrants)])
    printed = capsys.readouterr().out
    assert "40 images (8, 8, 1) uint8" in printed
    assert "uint8, 10 per class" in printed


def test_resume_goes_on_to_the_end_and_keeps_one_line_per_epoch(
    tmp_path, quadrants, teacher, monkeypatch
):
    broken = tmp_path / "broken"

    class Stopped(Exception):
        pass

    save = training.Checkpoints.save

    def stop_after_saving(self, step, loop, record, *, wait):
        save(self, step, loop, record, wait=wait)
        if step >= 4:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(training.Checkpoints, "save", stop_after_saving)
        with pytest.raises(Stopped):
            cli.main(train_arguments(quadrants, broken, "--checkpoint-every", "1"))
    cli.main(train_arguments(quadrants, broken, "--resume"))
    before, after = (
        [
            {k: v for k, v in r.items() if k not in ("seconds", "images_per_second")}
            for r in runs.read_metrics(run / "metrics.jsonl")
        ]
        for run in (teacher, broken)
    )
    assert before == after

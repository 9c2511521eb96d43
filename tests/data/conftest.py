"""Datasets small enough to write in a test."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxkd import data


def random_split(rows, shape=(6, 5, 3), num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (rows, *shape), dtype=np.uint8)
    return data.Split(images, (np.arange(rows) % num_classes).astype(np.int32))


@pytest.fixture
def make_split():
    return random_split


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        file, "PNG"
    )
    return file.getvalue()


def write_prepared(
    root: Path,
    splits: dict,
    *,
    name="tiny",
    config=None,
    version="1.0.0",
    file_format="array_record",
    channels=3,
    encode=png,
):
    """Writes what TFDS leaves on disk after preparing a dataset, without TensorFlow.

    ``splits`` maps names to pairs of images and labels.
    """
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2 as proto

    folder = root.joinpath(*filter(None, [name, config, version]))
    folder.mkdir(parents=True)
    for split, (images, labels) in splits.items():
        path = folder / f"{name}-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for pixels, label in zip(images, labels, strict=True):
            example = proto.Example()
            feature = example.features.feature
            feature["image"].bytes_list.value.append(encode(pixels))
            feature["label"].int64_list.value.append(int(label))
            writer.write(example.SerializeToString())
        writer.close()
    info = {
        "name": name,
        "version": version,
        "fileFormat": file_format,
        "splits": [
            {
                "name": split,
                "shardLengths": [str(len(labels))],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for split, (_, labels) in splits.items()
        ],
    }
    if config:
        info["configName"] = config
    (folder / "dataset_info.json").write_text(json.dumps(info))
    connector = "tensorflow_datasets.core.features"
    image = {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", str(channels)]}}
    features = {
        "image": {
            "image": image,
            "pythonClassName": f"{connector}.image_feature.Image",
        },
        "label": {
            "classLabel": {"numClasses": "3"},
            "pythonClassName": f"{connector}.class_label_feature.ClassLabel",
        },
    }
    top = {
        "featuresDict": {"features": features},
        "pythonClassName": f"{connector}.features_dict.FeaturesDict",
    }
    (folder / "features.json").write_text(json.dumps(top))
    (folder / "label.labels.txt").write_text("cat\ndog\nowl\n")
    return folder


@pytest.fixture
def encode_png():
    return png


@pytest.fixture
def prepare_tiny():
    return write_prepared

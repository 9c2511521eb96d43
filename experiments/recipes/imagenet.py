"""ImageNet."""

from experiments.recipes._table import Data, Network, Pair, Row, Settings, Table

TABLE = Table(
    name="imagenet",
    title="ImageNet top-1 (%), ResNet-34 to ResNet-18: a variant",
    settings=Settings(
        Data("./imagenet", 1_281_167, (224, 224, 3), 1_000),
        trials=1,
        epochs=100,
        batch_size=256,
        milestones=(0.3, 0.6, 0.9),
        weight_decay=1e-4,
        options=(
            *("--image-size", "224", "--stream", "--workers", "16"),
            *("--crop-padding", "28", "--flip"),
        ),
    ),
    pairs=(
        Pair(
            "R34-R18",
            Network("resnet34", learning_rate=0.1),
            Network("resnet18", learning_rate=0.1),
        ),
    ),
    rows=(
        Row("KD", "kd", {"ce": 0.1, "kd": 0.9}),
        Row("AT", "at", {"ce": 1.0, "at": 1000.0}),
        Row("SP", "sp", {"ce": 1.0, "sp": 3000.0}),
        Row("CRD", "crd", {"ce": 1.0, "crd": 0.8}),
        Row("CRD+KD", "crd+kd", {"ce": 1.0, "crd": 0.8, "kd": 1.0}),
        Row("HKD", "hkd", {"ce": 1.0, "hkd": 3.0}),
        Row("HKD+KD", "hkd+kd", {"ce": 1.0, "hkd": 3.0, "kd": 1.0}),
    ),
    baseline="hkd+kd",
)

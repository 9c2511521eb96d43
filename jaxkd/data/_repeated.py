"""Find images that occur more than once in a dataset, by hashes of their contents."""

import hashlib

import numpy as np

from jaxkd._text import count

_DIGEST_BYTES = hashlib.sha256().digest_size


def doubts_about_repeated(
    digests: dict[str, bytes], labels: dict[str, np.ndarray]
) -> list[str]:
    """Describe images that are in both splits, or that have two labels.

    Args:
        digests: The hashes of the images of ``train`` and ``test``, or of another part,
            joined.
        labels: The class of each image.

    Returns:
        Sentences; empty if there are no such images.
    """
    hashes = {
        part: np.frombuffer(joined, f"V{_DIGEST_BYTES}").tolist()
        for part, joined in digests.items()
    }
    classes: dict[bytes, int] = {}
    contradictory = set()
    for part, own in hashes.items():
        for digest, label in zip(own, labels[part].tolist(), strict=True):
            if classes.setdefault(digest, label) != label:
                contradictory.add(digest)
    train = set(hashes.get("train", ()))
    test = hashes.get("test", ())
    leaked = sum(digest in train for digest in test)
    doubts = []
    if leaked:
        doubts.append(
            f"{leaked:,} of {len(test):,} test images are also training "
            "images, byte for byte, so the test accuracy may be too high"
        )
    if contradictory:
        number = count(len(contradictory), "image has", "images have")
        doubts.append(f"{number} copies, byte for byte, with other labels")
    return doubts

"""Identify a network by its contents."""

import zlib
from typing import Any

import jax
import numpy as np

from jaxkd import training


def fingerprint(network: training.FrozenNetwork) -> str:
    """Compute a checksum of a network's variables, as eight hexadecimal digits."""
    return fingerprint_of(network.variables)


def fingerprint_of(tree: Any) -> str:
    """Compute a checksum of the arrays of a tree, as eight hexadecimal digits."""
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    return f"{checksum:08x}"

"""Round and format the numbers of several seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def rounded(value: Any) -> Any:
    """Round all numbers in arrays, lists and mappings to five digits, for JSON."""
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | np.ndarray):
        return [rounded(each) for each in value]
    return float(f"{value:.5g}")


def mean_and_deviation(values: np.ndarray, digits: int = 2) -> str:
    """Format the mean and standard deviation over seeds; of one seed, its value."""
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.{digits}f}"

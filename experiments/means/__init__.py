"""Studies of the mean logit: what moves it, and what it changes.

python -m experiments.means offsets --measure "commit, hardware, date"    # minutes
python -m experiments.means drift --measure "commit, hardware, date"
python -m experiments.means offsets --table --draw docs/images

The default dataset is digits, which jaxkd includes. ``--dataset fashion_mnist`` reads a
TFDS dataset from $TFDS_DATA_DIR. ``experiments/means/results`` stores the numbers of
every student. The tables and figures are made only from them.
"""

from collections.abc import Mapping

from experiments.means import drift, offsets
from experiments.means._study import Study

STUDIES: Mapping[str, Study] = {
    module.STUDY.name: module.STUDY for module in (offsets, drift)
}
"""The studies by name."""

"""Studies of distillation: the runs, their numbers, a table and a figure.

python -m experiments.studies hkd_ablations                       # list the commands
python -m experiments.studies hkd_ablations --run-all             # hours, resumable
python -m experiments.studies hkd_ablations --gather "commit, hardware, date"
python -m experiments.studies hkd_ablations --table --draw docs/images

``experiments/studies/results`` stores the numbers of every run. The tables and figures
are made only from them.
"""

from collections.abc import Mapping

from experiments.studies import fashion_mnist, hkd_ablations, ramps, temperatures
from experiments.studies._study import Study

STUDIES: Mapping[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (fashion_mnist, hkd_ablations, temperatures, ramps)
}
"""The studies by name."""

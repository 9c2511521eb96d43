"""What this project measured about distillation: the runs, their numbers, a figure.

python -m experiments.studies hkd_ablations                       # its commands
python -m experiments.studies hkd_ablations --run-all             # hours, resumable
python -m experiments.studies hkd_ablations --gather "commit, hardware, date"
python -m experiments.studies hkd_ablations --table --draw docs/images

The numbers of every run are in ``experiments/studies/results``; tables and figures are
made of them alone.
"""

from collections.abc import Mapping

from experiments.studies import fashion_mnist, hkd_ablations, temperatures
from experiments.studies._study import Study

STUDIES: Mapping[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (fashion_mnist, hkd_ablations, temperatures)
}
"""By the names of their files."""

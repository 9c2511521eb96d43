"""Run the published tables: one file per table.

python -m experiments.recipes hkd_table1                         # list the commands
python -m experiments.recipes hkd_table1 --run R32x4-R8x4 hkd+kd
python -m experiments.recipes hkd_table1 --run-all
python -m experiments.recipes hkd_table1 --report
python -m experiments.recipes hkd_table1 --cost
python -m experiments.recipes hkd_table1 --smoke --run-all --report
"""

from collections.abc import Mapping

from experiments.recipes import (
    fashion_mnist,
    hkd_table1,
    imagenet,
    repdistiller_cross,
    repdistiller_same,
    tiny_imagenet,
)
from experiments.recipes._table import Table

TABLES: Mapping[str, Table] = {
    module.TABLE.name: module.TABLE
    for module in (
        hkd_table1,
        repdistiller_same,
        repdistiller_cross,
        tiny_imagenet,
        imagenet,
        fashion_mnist,
    )
}
"""By the names of their files."""

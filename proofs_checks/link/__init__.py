"""Theorems in Coq about single outputs of the library.

The definitions of the kernel, ``proofs_checks/kernel/Defs.v``, are about real numbers,
and the library computes with floating-point numbers. This package links the two: it
computes a loss in float64, writes a theorem that says how far this output is from
the ``kd`` of the definitions, and Coq proves it. Run ``python -m proofs_checks.link
FOLDER`` to write the files.
"""

from proofs_checks.link._cases import Case as Case
from proofs_checks.link._cases import cases as cases
from proofs_checks.link._cases import measure as measure
from proofs_checks.link._cases import measure_top as measure_top
from proofs_checks.link._write import write as write

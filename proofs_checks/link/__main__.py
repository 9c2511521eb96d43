"""Write the theorems about single outputs: ``python -m proofs_checks.link FOLDER``."""

import sys

from proofs_checks.link import write

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected one argument: python -m proofs_checks.link FOLDER")
    for case in write(sys.argv[1]):
        print(case.name, case.value, case.eps, case.gradient_eps or "")

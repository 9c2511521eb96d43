"""Print the page of the proofs in Coq: ``python -m experiments.zoo_pages``."""

import itertools

from proofs_checks import _kernel, _markdown
from proofs_checks.certificate import CHECKS

_TEXT = """\
# Proofs checked by Coq

`jaxkd verify` samples and measures. The proofs behind [the theorems](theorems.md) are
also written for [Coq](https://coq.inria.fr), whose kernel checks every step. To check
them on your machine, and what this machine computes for some inputs, run

```sh
apt-get install coq libcoq-coquelicot libcoq-interval make
jaxkd verify --kernel
```

Coq 8.16 with the libraries Coquelicot and Interval needs about 1 GB of disk. It is
optional: everything else works without it. Without Coq the command says so and stops.
On 2 cores of an AMD EPYC, the proofs take 12 s, `coqchk` 32 s and the outputs 39 s
(commit 9874eb1, 2026-11-30).

## What is proved, and what is not

- The formulas in `proofs_checks/kernel/Defs.v` satisfy the theorems below over exact
  real numbers, checked by Coq.
- For the listed inputs, the kernel certifies that the library's output in float64 is
  within ε of the formula. The outputs are computed when the command runs, so the
  certificate is about your machine. `proofs_checks/link` writes these theorems; Coq
  proves them by interval arithmetic.
- The Python code itself is not verified. Between the listed inputs, and in other
  dtypes, [the certificate](certificate.md) is what there is.

`coqchk`, a program of its own, then checks all compiled proofs again.
`proofs_checks/kernel/build.sh --check` does the same without Python.

## Axioms

The theorems rest on these axioms of Coq's classical real numbers, and on no other.
`build.sh` prints the axioms of all theorems, and fails if there is another.

"""


def page() -> str:
    """Return a Markdown page with the axioms and a table of the theorems."""
    axioms = [line.split(" ", 1) for line in _kernel.axioms()]
    lines = [f"- `{name}`: {words}" for name, words in axioms]
    listed = _kernel.theorems()
    lines += ["", "## Theorems", ""]
    lines += [f"{len(listed)} theorems, in the files of `proofs_checks/kernel`.", ""]
    for statement, some in itertools.groupby(listed, lambda theorem: theorem.statement):
        lines += [f"### {statement} {CHECKS[statement].title}", ""]
        lines += _markdown.header(("theorem", "in words"))
        lines += [_markdown.row((f"`{t.file}.{t.name}`", t.words)) for t in some]
        lines.append("")
    lines.append("`python -m experiments.zoo_pages` makes this page.")
    return _TEXT + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")

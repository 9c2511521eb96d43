"""Write theorems in Coq about outputs of the library."""

import dataclasses
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxkd import _json
from proofs_checks.link._cases import Case, cases

_LEMMAS = Path(__file__).parent / "LinkLemmas.v"

_HEADER = """\
(** Outputs of jaxkd at temperature {temperature:g}, in float64. *)

From Link Require Import LinkLemmas.
Open Scope R_scope.
"""

_LOGITS = """
Definition z_{name} : vec := logits {student}.
Definition v_{name} : vec := logits {teacher}.
"""

_VALUE = """
Theorem {name} :
  Rabs (kd {last} {temperature:g} z_{name} v_{name} - {value}) <= {eps}.
Proof. unfold z_{name}, v_{name}; value_bound. Qed.
"""

_GRADIENT = """
Theorem {name}_gradient :
  gradient_within {last} (fun x => kd {last} {temperature:g} x v_{name}) z_{name}
    (logits {gradient}) {gradient_eps}.
Proof. unfold z_{name}, v_{name}; gradient_bound. Qed.
"""

_TOP = """
Theorem {name} :
  Rabs (sparse_kd {last} {temperature:g} (classes_of {keep}) z_{name} v_{name}
        - {value}) <= {eps}.
Proof. unfold z_{name}, v_{name}; sparse_bound. Qed.
"""

_LIMIT = """
Theorem {name} :
  Rabs (variance {last} (fun k => z_{name} k - v_{name} k) / 2 - {value}) <= {eps}.
Proof. unfold z_{name}, v_{name}; limit_bound. Qed.
"""


def write(folder: str | Path, listed: Sequence[Case] | None = None) -> list[Case]:
    """Write Coq files that state and prove how exact outputs of the library are.

    For each case, a theorem says that the computed loss is within ``eps`` of the ``kd``
    or ``sparse_kd`` of ``proofs_checks/kernel/Defs.v`` (at infinite temperature, of
    half the variance, the limit), and another that ``jax.grad`` is within
    ``gradient_eps`` of its gradient. The folder receives ``LinkLemmas.v``, a file
    ``LinkT<temperature>.v`` for each temperature and ``cases.json``. Files of these
    names are overwritten. To check the theorems, compile the files::

        coqc -Q proofs_checks/kernel Kernel -Q FOLDER Link FOLDER/LinkLemmas.v
        coqc -Q proofs_checks/kernel Kernel -Q FOLDER Link FOLDER/LinkT1.v

    Args:
        folder: Folder for the files. It is created if it does not exist.
        listed: Cases to write, by default all of :func:`cases`, computed now.

    Returns:
        The cases, with their bounds.
    """
    listed = cases() if listed is None else list(listed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_LEMMAS, folder)
    for temperature in sorted({case.temperature for case in listed}):
        of_file = [case for case in listed if case.temperature == temperature]
        text = _HEADER.format(temperature=temperature) + "".join(
            map(_theorems, of_file)
        )
        (folder / f"LinkT{temperature:g}.v").write_text(text)
    rows = [dataclasses.asdict(case) | {"classes": case.classes} for case in listed]
    (folder / "cases.json").write_text(_json.dumps(rows, indent=1) + "\n")
    return listed


def _theorems(case: Case) -> str:
    """Return the theorems about a case and their proofs."""
    fields = {
        "name": case.name,
        "temperature": case.temperature,
        "last": case.classes - 1,
        "student": _list(case.student),
        "teacher": _list(case.teacher),
        "value": case.value.hex(),
        "eps": case.eps,
    }
    text = _LOGITS.format(**fields)
    if case.keep is not None:
        keep = "; ".join(str(kept).lower() for kept in case.keep)
        return text + _TOP.format(**fields, keep=f"[{keep}]")
    text += (_LIMIT if case.temperature == math.inf else _VALUE).format(**fields)
    if case.gradient is not None:
        gradient = {"gradient": _list(case.gradient), "gradient_eps": case.gradient_eps}
        text += _GRADIENT.format(**fields, **gradient)
    return text


def _list(numbers: Iterable[float]) -> str:
    """Return a list of numbers in Coq, without rounding."""
    return "[" + ";\n  ".join(x.hex() for x in numbers) + "]"

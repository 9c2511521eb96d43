"""Theorems about distillation as programs: ``python -m proofs_checks``.

Each statement has a module: the proof in its docstring, a function that yields
evidence, and negative controls that drop an assumption and must fail.
"""

from proofs_checks._cases import logit_case as logit_case
from proofs_checks._certificate_page import to_markdown as to_markdown
from proofs_checks._evidence import Check as Check
from proofs_checks._evidence import Evidence as Evidence
from proofs_checks._evidence import Settings as Settings
from proofs_checks._evidence import Tolerance as Tolerance
from proofs_checks._evidence import Verdict as Verdict
from proofs_checks._main import main_from_options as main_from_options
from proofs_checks.certificate import CHECKS as CHECKS
from proofs_checks.certificate import Certificate as Certificate
from proofs_checks.certificate import Result as Result
from proofs_checks.certificate import to_json as to_json
from proofs_checks.certificate import verify as verify

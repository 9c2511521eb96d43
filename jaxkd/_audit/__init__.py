"""Audit a distillation loss: ``jaxkd.audit`` and ``jaxkd audit``."""

from jaxkd._audit._findings import Finding as Finding
from jaxkd._audit._findings import Verdict as Verdict
from jaxkd._audit._load import load as load
from jaxkd._audit._report import AuditReport as AuditReport
from jaxkd._audit._run import CHECKS as CHECKS
from jaxkd._audit._run import audit as audit
from jaxkd._audit._subject import KINDS as KINDS

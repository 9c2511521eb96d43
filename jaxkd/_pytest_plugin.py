"""The pytest fixture ``audit_loss``. Loads no JAX unless a test uses it."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def audit_loss() -> Callable[..., Any]:
    """Audit a loss, and fail the test with the table of checks unless it is clean.

    Returns:
        A function with the arguments of ``jaxkd.audit``, which returns the report.
    """

    def run(loss: Callable[..., Any], **options: Any) -> Any:
        __tracebackhide__ = True
        import jaxkd

        report = jaxkd.audit(loss, **options)
        if not report.clean:
            pytest.fail(report.to_text(), pytrace=False)
        return report

    return run

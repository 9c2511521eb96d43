"""What a run's page says of the test set, as numbers: ``report.json``."""

from pathlib import Path
from typing import Any

from jaxkd.runs import _schema
from jaxkd.runs._files import damaged, read_json, write_json
from jaxkd.runs._folder import RunFolder
from jaxkd.runs._results import read_history


def write_test_results(run: Path, results: dict[str, Any]) -> None:
    """Write the numbers of a run's page, with the step of its newest record.

    Args:
        run: The run folder.
        results: The ``trial``; ``calibration``, by ``student`` and ``teacher``, as
            lists over the bins; and ``agreement``, if there is a teacher.
    """
    step = read_history(run)[-1]["step"]
    write_json(RunFolder(run).results, {"step": step, **results})


def read_test_results(run: Path) -> dict[str, Any] | None:
    """Read the numbers of a run's page.

    Returns:
        What :func:`write_test_results` was given; None if there is no page, or if the
        run has trained since it was made.

    Raises:
        InvalidInputError: If the file is damaged.
    """
    file = RunFolder(run).results
    try:
        results = read_json(file)
    except FileNotFoundError:
        return None
    _schema.check(file, results, _schema.TEST_RESULTS)
    if results["step"] != read_history(run)[-1]["step"]:
        return None
    for network, bins in results["calibration"].items():
        lengths = {len(bins[name]) for name in _schema.BINS}
        if len(lengths) > 1 or not sum(bins["counts"]):
            problem = f"calibration.{network} does not have a number for each bin"
            raise damaged(file, problem)
    return results

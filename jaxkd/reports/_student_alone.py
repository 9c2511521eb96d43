"""The accuracy of the same student without a teacher, from another run."""

from pathlib import Path
from typing import NamedTuple

from jaxkd._errors import InvalidInputError
from jaxkd._text import count
from jaxkd.reports._comparison_runs import read_run
from jaxkd.reports._comparison_table import collect


class StudentAlone(NamedTuple):
    """The test accuracy of a student that was trained without a teacher.

    Attributes:
        accuracy: Its test accuracy in ``[0, 1]``, averaged over the seeds.
        seeds: Number of seeds.
        differing: Settings with which the two runs do not agree.
    """

    accuracy: float
    seeds: int
    differing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the number is, for a page."""
        mean = f", mean of {count(self.seeds, 'seed')}" if self.seeds > 1 else ""
        return f"student alone{mean}"

    @property
    def note(self) -> str:
        """A sentence if the two runs cannot be compared directly."""
        if not self.differing:
            return ""
        settings = ", ".join(self.differing)
        return f"The student alone was trained with other settings: {settings}."


def read_student_alone(run: Path, alone: Path) -> StudentAlone:
    """Read the accuracy of a run's student without a teacher.

    Args:
        run: A finished run folder.
        alone: The finished run folder of the same network on the same dataset.

    Raises:
        ValueError: If a run is not finished or damaged, if ``alone`` had a teacher, or
            if its network or dataset is another.
    """
    ours, theirs = (collect([read_run(folder)])[0] for folder in (run, alone))
    if theirs.pair is not None:
        raise InvalidInputError(
            f"{alone} was trained with a teacher. Choose a run of `jaxkd train`.",
            argument="alone",
        )
    for wanted, found in (
        (ours.student, theirs.student),
        (ours.dataset.identity, theirs.dataset.identity),
    ):
        if wanted != found:
            raise InvalidInputError(
                f"{alone} is a run of {found}, but {run} of {wanted}. Choose a run of "
                "the same network and dataset.",
                argument="alone",
            )
    accuracy = theirs.reported["mean"]
    return StudentAlone(accuracy, len(theirs.seeds), ours.differing(theirs))

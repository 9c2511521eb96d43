"""What the tests need to know of a loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """A loss with settings, its definition, and arguments to compare them on.

    Attributes:
        loss: The function of ``jaxkd.losses``.
        definition: The formula in NumPy float64, with the same arguments and settings,
            sharing no code with the library.
        arguments: float64 arrays (labels: int32), drawn from a fixed seed, in general
            position: no ties, no kinks within 1e-5.
        student: How many of the leading arguments are the student's.
        trained: Further arguments, by position, that have gradients (scales and such).
        settings: Keyword arguments.
        degenerate: Arguments for which value and gradients must be finite, by a name
            that says what is special about them.
        teacher_gradient: Whether the loss has a gradient in the teacher's arguments;
            one that sees their signs alone has not.
        label: Tells cases of one loss apart.
    """

    loss: Callable[..., Any]
    definition: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    student: int = 1
    trained: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    degenerate: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    teacher_gradient: bool = True
    label: str = ""

    def __str__(self) -> str:
        name = self.loss.__name__
        return f"{name}-{self.label}" if self.label else name

    @property
    def differentiated(self) -> tuple[int, ...]:
        """The positions of the arguments that have gradients."""
        return (*range(self.student), *self.trained)

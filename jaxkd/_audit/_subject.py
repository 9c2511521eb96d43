"""The loss under audit: how to call it, and what it returns."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd._errors import InvalidInputError, InvalidTypeError, unknown_name
from jaxkd._text import shortened
from jaxkd.losses import Arguments, Declaration

KINDS: Mapping[str, Arguments] = {
    "logits": Arguments.LOGITS,
    "labeled": Arguments.LABELED_LOGITS,
    "embeddings": Arguments.EMBEDDINGS,
    "features": Arguments.FEATURE_MAPS,
}
"""The kinds of losses that can be audited, by name."""

_CALLS = {
    Arguments.LOGITS: "f(student_logits, teacher_logits)",
    Arguments.LABELED_LOGITS: "f(student_logits, teacher_logits, labels)",
    Arguments.EMBEDDINGS: "f(student_embeddings, teacher_embeddings)",
    Arguments.FEATURE_MAPS: "f(student_maps, teacher_maps)",
}
_TEMPERATURE_NAMES = ("temperature", "T", "tau", "temp")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A loss and how it is called.

    Attributes:
        loss: The function.
        name: Its name.
        arguments: The kind of its arguments.
        temperature: Name of its temperature parameter, or None.
        settings: Other keyword arguments.
        declaration: Its declared symmetries, if it is a loss of jaxkd.
    """

    loss: Callable[..., Any]
    name: str
    arguments: Arguments
    temperature: str | None
    settings: Mapping[str, Any]
    declaration: Declaration | None

    @property
    def labeled(self) -> bool:
        """Whether the loss takes labels."""
        return self.arguments is Arguments.LABELED_LOGITS

    @property
    def of_logits(self) -> bool:
        """Whether the loss compares logits."""
        return self.labeled or self.arguments is Arguments.LOGITS

    @property
    def kind(self) -> str:
        """Name of the kind of arguments."""
        return next(name for name, value in KINDS.items() if value is self.arguments)

    @property
    def call(self) -> str:
        """How the loss is called, for messages."""
        text = _CALLS[self.arguments]
        if self.temperature is not None:
            text = f"{text[:-1]}, {self.temperature}=...)"
        return text

    def __call__(self, student: Any, teacher: Any, labels: Any, t: Any = None) -> Any:
        """Call the loss; without ``t``, at its own default temperature."""
        settings = dict(self.settings)
        if self.temperature is not None and t is not None:
            settings[self.temperature] = t
        arrays = (student, teacher, labels) if self.labeled else (student, teacher)
        return self.loss(*arrays, **settings)


def make_subject(
    loss: Callable[..., Any],
    kind: str | None,
    temperature: str | None,
    settings: Mapping[str, Any],
) -> Subject:
    """Find out how a loss is called.

    Raises:
        InvalidInputError: If the kind is unknown or differs from the declared one, or
            if the loss has no such temperature parameter.
        InvalidTypeError: If the loss is not callable.
    """
    if not callable(loss):
        raise InvalidTypeError(
            f"loss must be a function, got {shortened(repr(loss))}", argument="loss"
        )
    declaration = getattr(loss, "declaration", None)
    arguments = _arguments(loss, kind, declaration)
    if declaration is not None:
        settings = {**declaration.settings, **settings}
    return Subject(
        loss=loss,
        name=_name(loss),
        arguments=arguments,
        temperature=_temperature(loss, temperature, settings),
        settings=dict(settings),
        declaration=declaration,
    )


def _name(loss: Callable[..., Any]) -> str:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return getattr(loss, "__name__", type(loss).__name__)


def _arguments(
    loss: Callable[..., Any], kind: str | None, declaration: Declaration | None
) -> Arguments:
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    if declaration is None:
        return KINDS[kind or "logits"]
    if declaration.arguments not in KINDS.values():
        raise InvalidInputError(
            f"{_name(loss)} takes {declaration.arguments.value}, which cannot be "
            f"audited; the kinds are {', '.join(KINDS)}",
            argument="loss",
        )
    if kind is not None and KINDS[kind] is not declaration.arguments:
        raise InvalidInputError(
            f"kind is {kind}, but {_name(loss)} declares that it takes "
            f"{declaration.arguments.value}. Leave the kind out",
            argument="kind",
        )
    return declaration.arguments


def _temperature(
    loss: Callable[..., Any], name: str | None, settings: Mapping[str, Any]
) -> str | None:
    """Return the name of the temperature parameter, unless the settings fix it."""
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a built-in function
        parameters = {}
    if name is None:
        found = [each for each in _TEMPERATURE_NAMES if each in parameters]
        name = found[0] if found else None
    elif name not in parameters:
        raise InvalidInputError(
            f"temperature is {name!r}, but {_name(loss)} has no parameter of this "
            f"name; it has {', '.join(parameters)}",
            argument="temperature",
        )
    return None if name in settings else name


def first_values(subject: Subject, student: Any, teacher: Any, labels: Any) -> Any:
    """Call the loss once.

    Returns:
        Its values.

    Raises:
        InvalidInputError: If the loss cannot be called, or returns something else than
            one array of floating-point numbers.
    """
    try:
        values = subject(student, teacher, labels, 4.0)
    except Exception as error:
        raise InvalidInputError(
            f"{subject.name} cannot be called as {subject.call} with arrays of shape "
            f"{np.shape(student)}: {type(error).__name__}: {first_line(error)}. Give "
            "other required arguments as settings, another kind, or more classes",
            argument="loss",
        ) from error
    if not hasattr(values, "dtype") or not jnp.issubdtype(values.dtype, jnp.floating):
        raise InvalidInputError(
            f"{subject.name} must return an array of floating-point numbers, got "
            f"{shortened(repr(values))}",
            argument="loss",
        )
    return values


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return shortened((str(error).strip().splitlines() or ["no message"])[0], 200)


def total(subject: Subject) -> Callable[..., jax.Array]:
    """Return the sum of the loss's values as a function of all arguments."""
    return lambda s, v, y, t=None: jnp.sum(jnp.asarray(subject(s, v, y, t)))

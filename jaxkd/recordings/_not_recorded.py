"""The placeholder of an output that a recording does not have."""

import dataclasses
from typing import Any, NoReturn

import jax

from jaxkd._errors import InvalidInputError
from jaxkd._text import printable, shell_line


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NotRecorded:
    """Stands for an output that was not recorded; any use of it is an error.

    It is a pytree without leaves, so it passes through ``jax.jit`` and ``jax.tree.map``
    as the other outputs do. A method that reads it stops with an error that names the
    output and the command that would record it.

    Attributes:
        name: Name of the output, such as ``"embedding"`` or ``"stages"``.
        path: The recording.
        recorded: The outputs that it has.
        maps: For ``"stages"`` and ``"preactivations"``, the number of the teacher's
            maps if it is known.
        in_ensemble: Whether the teacher is an ensemble, which has only logits.

    Example:
        >>> import jax
        >>> from jaxkd import recordings
        >>> jax.tree.leaves(recordings.NotRecorded("embedding", "teacher.recorded"))
        []
    """

    name: str
    path: str
    recorded: tuple[str, ...] = ("logits",)
    maps: int = 0
    in_ensemble: bool = False

    def refuse(self, name: str | None = None) -> NoReturn:
        """Raise the error of an output that was not recorded."""
        if self.in_ensemble:
            raise InvalidInputError(
                f"the method reads the teacher's {name or self.name}, but an ensemble "
                "has only logits. Use a method that compares logits, or one recording.",
                argument="recorded",
            )
        missing = [name] if name else self._names()
        outputs = dict.fromkeys([*self.recorded, *missing])
        options = ["--teacher", "RUN", "--out", "DIR", "--outputs", *outputs]
        command = shell_line(["jaxkd", "record", *options])
        raise InvalidInputError(
            f"the method reads the teacher's {name or self.name}, which the recording "
            f"{printable(self.path)} does not have: it has "
            f"{', '.join(self.recorded)}. Record the output too: `{command}`, with the "
            "other options as before.",
            argument="recorded",
        )

    def _names(self) -> list[str]:
        return [f"{self.name}.{i}" for i in range(self.maps)] or [self.name]

    def __getattr__(self, name: str) -> Any:
        """Refuse all attributes but the special names that Python and JAX look for."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        self.refuse()

    def __getitem__(self, index: Any) -> NoReturn:
        """Refuse, naming the map if its number is known."""
        if isinstance(index, int) and -self.maps <= index < self.maps:
            self.refuse(f"{self.name}.{index % self.maps}")
        self.refuse()


def _refuse(self: NotRecorded, *_: Any, **__: Any) -> NoReturn:
    self.refuse()


# Python looks special methods up in the class, so __getattr__ does not see them.
for _name in (
    *("len", "iter", "next", "contains", "call", "bool", "int", "float", "index"),
    *("array", "jax_array", "complex", "reversed"),
    *("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge"),
    *(
        f"{side}{operation}"
        for operation in ("add", "sub", "mul", "matmul", "truediv", "floordiv")
        for side in ("", "r")
    ),
    *("mod", "rmod", "pow", "rpow", "and", "rand", "or", "ror", "xor", "rxor"),
):
    setattr(NotRecorded, f"__{_name}__", _refuse)

"""The student's forward pass, whose activations may be computed again."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from flax import nnx

from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput
from jaxkd.models._capture import output_of
from jaxkd.models._mode import mode_arguments
from jaxkd.models._remat import compute_again
from jaxkd.training._state import PyTree

Forward = Callable[[PyTree, PyTree, jax.Array], tuple[ModelOutput, PyTree]]
"""``(parameters, other variables, images) -> (output, new other variables)``."""


def make_forward(
    graphdef: nnx.GraphDef, *, remat: bool, layers: Sequence[str] = ()
) -> Forward:
    """Build the student's forward pass in training mode.

    Args:
        graphdef: The student's static part (``nnx.split``).
        layers: Paths of layers whose outputs are added to the network's.
        remat: Whether its gradient keeps only the inputs of blocks, and computes their
            activations again. Draws of random numbers are the same: they depend on the
            variables alone.
    """

    def forward(params, rest, images):
        student = nnx.merge(graphdef, params, rest, copy=True)
        if remat:
            compute_again(student)
        arguments = mode_arguments(student, train=True)
        name = f"the student ({type(student).__name__})"
        output = output_of(student, images, layers, name=name, **arguments)
        return output, nnx.state(student, nnx.Not(nnx.Param))

    return forward


def compiler_options(*, remat: bool) -> dict[str, str] | None:
    """Return the options with which to compile a step.

    XLA for CPU removes the barriers between both forward passes, and then merges them
    again, unless the pass that removes them is disabled.
    """
    if not remat or jax.default_backend() != "cpu":
        return None
    return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def check_blocks(module: nnx.Module, images: jax.ShapeDtypeStruct) -> None:
    """Raise unless a network, which may be abstract, has blocks to compute again.

    Raises:
        InvalidInputError: If it has none, so that nothing would change.
    """
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)

    def count(*, remat: bool) -> int:
        forward = make_forward(graphdef, remat=remat)
        program = jax.make_jaxpr(forward)(params, rest, images)
        names = (each.primitive.name for each in _equations(program.jaxpr))
        return sum(name.startswith(("remat", "checkpoint")) for name in names)

    if count(remat=True) == count(remat=False):
        raise InvalidInputError(
            f"remat is True, but {type(module).__name__} does not say what its blocks "
            "are, so nothing would be computed again. Call them with "
            "models.call_block(block, x), or leave remat out.",
            argument="remat",
        )


def _equations(program: Any) -> Iterator[Any]:
    """Yield all equations of a jaxpr, including those of inner functions."""
    for equation in program.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)

"""How the checks that train networks compile and run."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from proofs_checks._evidence import Settings

_QUICK_ON_CPU = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@contextlib.contextmanager
def numerics(settings: Settings) -> Iterator[None]:
    """The settings' dtype, in this thread.

    Without float64, what optax computes on its own account stays in float32 as well;
    and products are not rounded below the dtype, as some accelerators do by default.
    """
    x64 = jax.enable_x64(settings.dtype == "float64")
    with x64, jax.default_matmul_precision("highest"):
        yield


def compile_together(
    programs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], settings: Settings
) -> list[Callable[..., Any]]:
    """Compiles functions for arguments like those given, two at a time.

    Each runs for a second or so, and would take longer than that to compile: on CPU it
    is done without the expensive passes.

    Args:
        programs: Functions with their arguments.
        settings: Dtype.

    Returns:
        The compiled functions.
    """
    options = compiler_options()

    def compiled(program):
        function, arguments = program
        with numerics(settings):
            return jax.jit(function).lower(*arguments).compile(options)

    # XLA does not hold the interpreter's lock while it compiles.
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compiled, programs))


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """Those of the options that this version of the compiler knows."""
    if jax.default_backend() != "cpu":
        return None
    known = {}
    for name, value in _QUICK_ON_CPU.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(jnp.negative).lower(0.0).compile({name: value})
            known[name] = value
    return known

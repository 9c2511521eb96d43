"""Compilation and numerics of the checks that train networks."""

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
    """Set this thread's numerics for the dtype of the settings.

    Float64 is enabled only if the dtype is float64, so that optax's own computations
    stay in float32 otherwise. Matrix products keep the precision of their dtype; some
    accelerators round them further by default.
    """
    x64 = jax.enable_x64(settings.dtype == "float64")
    with x64, jax.default_matmul_precision("highest"):
        yield


def compile_together(
    programs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], settings: Settings
) -> list[Callable[..., Any]]:
    """Compile functions for the given arguments, two at a time.

    The programs run for about a second and would take longer than that to compile. On
    CPU they are compiled without the expensive passes.

    Args:
        programs: Functions with their arguments.
        settings: Dtype.

    Returns:
        The compiled functions, in the order of ``programs``.
    """
    options = compiler_options()

    def compiled(program):
        function, arguments = program
        with numerics(settings):
            return jax.jit(function).lower(*arguments).compile(options)

    # XLA releases the interpreter's lock while it compiles.
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compiled, programs))


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """Return the quick compiler options that this version of XLA knows, or None."""
    if jax.default_backend() != "cpu":
        return None
    known = {}
    for name, value in _QUICK_ON_CPU.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(jnp.negative).lower(0.0).compile({name: value})
            known[name] = value
    return known

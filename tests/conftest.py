"""Every test runs with strict dtypes, no rank promotion and checked shapes."""

import os

# Before JAX starts: CPU only, so that a test never takes an accelerator by accident.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes of every annotated function are checked at run time. The hook must
# be in place before the first import of a jaxkd module.
install_import_hook(["jaxkd", "proofs_checks"], "beartype.beartype")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Runs the test in float64."""
    with jax.enable_x64(True):
        yield

"""Every test runs with strict dtypes, no rank promotion and checked shapes."""

import os
import shutil
import tempfile

# Before JAX starts: CPU only, so that a test never takes an accelerator by accident.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import pytest
from jaxtyping import install_import_hook

# Many tests train the same small networks, some in processes of their own: all workers
# and processes of a session share what XLA has compiled. Nothing outlives the session.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_own_cache = None
if _CACHE not in os.environ:
    _own_cache = os.environ[_CACHE] = tempfile.mkdtemp(prefix="jaxkd-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", _own_cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

# Shapes and dtypes of every annotated function are checked at run time. The hook must
# be in place before the first import of a jaxkd module.
install_import_hook(["jaxkd", "proofs_checks"], "beartype.beartype")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_unconfigure():
    """Removes the compiled programs when the process that made the folder ends."""
    if _own_cache is not None:
        shutil.rmtree(_own_cache, ignore_errors=True)


@pytest.fixture(scope="module")
def quickly_compiled():
    """Leaves out what XLA optimizes: for tests that run once what they compile."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def x64():
    """Runs the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def quadrants(tmp_path_factory):
    """A learnable dataset of 4 classes as a .npz file."""
    from cli_arguments import save_dataset
    from support import make_dataset

    return save_dataset(tmp_path_factory.mktemp("data") / "q.npz", make_dataset())


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, quadrants):
    """The run folder of a teacher trained on it."""
    from cli_arguments import train_arguments

    from jaxkd import cli

    out = tmp_path_factory.mktemp("runs") / "teacher"
    # Optimized, whichever module is the first to ask: other runs have its bits.
    quick = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    cli.main(train_arguments(quadrants, out))
    jax.config.update("jax_disable_most_optimizations", quick)
    return out

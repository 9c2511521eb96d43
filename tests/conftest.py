"""Every test runs with strict dtypes, no rank promotion and checked shapes."""

import contextlib
import importlib.metadata
import os
import shutil
import tempfile

# Before JAX starts: CPU only, so that a test never takes an accelerator by accident.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import jaxtyping
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


def pytest_configure(config):
    """Compile quickly in this process and its children, except for slow tests.

    Most programs of the quick tests run once, and compiling them would take most of the
    time. Slow tests train, which is worth an optimized program.
    """
    if config.option.markexpr != "not slow":
        return
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
    # XLA's older code generator, which later versions do not have, is quicker still.
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


def pytest_unconfigure():
    """Remove the compiled programs when the process that made the folder ends."""
    if _own_cache is not None:
        shutil.rmtree(_own_cache, ignore_errors=True)


@pytest.fixture(scope="module")
def quickly_compiled():
    """Leave out XLA's optimizations, in slow tests too: programs that run once."""
    with _optimizing(False):
        yield


@pytest.fixture(scope="module")
def optimized():
    """Compile with all of XLA's optimizations: for claims about the compiled code."""
    with _optimizing(True):
        yield


@contextlib.contextmanager
def _optimizing(wanted):
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not wanted)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def x64():
    """Run the test in float64."""
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
    # Whichever module asks first: other runs are compared with its bits.
    with _optimizing(os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") != "1"):
        cli.main(train_arguments(quadrants, out))
    return out


@pytest.fixture
def unchecked(monkeypatch):
    """Do not check annotations, as outside of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

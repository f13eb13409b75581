"""Both halves of the library in one process, in double precision, by programs that are compiled quickly."""

import pytest


@pytest.fixture(autouse=True)
def quick_compilation():
    """Let XLA leave most optimisations out: programs run once here, and would take longer to be optimised than to run."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def double_precision(quick_compilation):
    """Let JAX compute in float64."""
    import jax

    with jax.enable_x64(True):
        yield

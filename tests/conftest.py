"""Settings of the whole test session; they hold before bojax is imported."""

import gc
import os

# Several BLAS threads make small factorisations slower by an order of magnitude when cores are shared.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import pytest

# Scripts for other libraries, which are not installed here; looking for docstrings' examples would import them.
collect_ignore_glob = ["oracle/generate_*.py"]

if os.environ.get("BOJAX_TYPECHECK") == "1":
    from jaxtyping import install_import_hook

    import tests.typecheck  # noqa: F401  (the hook looks the decorator up, it does not import it)

    install_import_hook("bojax", "tests.typecheck.check")

# A shape that only broadcasting makes fit is mostly a mistake. The variable lets one look at other failures first.
jax.config.update("jax_numpy_rank_promotion", os.environ.get("JAX_NUMPY_RANK_PROMOTION", "raise"))


@pytest.fixture
def x64():
    """Float64 for one test; nowhere in the tests is it switched on globally."""
    with jax.enable_x64(True):
        yield


MAX_MAPS = 12_000
"""Compiled programs take hundreds of memory maps each, of the 65,530 that Linux allows a process, and as many megabytes
all together: at 25,000 a worker held 5 GB."""


def pytest_runtest_teardown(item):
    """Drops compiled programs before there are too many of them."""
    del item
    try:
        with open("/proc/self/maps", "rb") as file:
            num_maps = file.read().count(b"\n")
    except OSError:  # no Linux
        return
    if num_maps > MAX_MAPS:
        jax.clear_caches()
        gc.collect()

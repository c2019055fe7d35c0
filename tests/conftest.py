"""Settings of the whole test session; they hold before bojax is imported."""

import atexit
import gc
import os
import shutil
import tempfile

# Several BLAS threads make small factorisations slower by an order of magnitude when cores are shared.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The workers of a run and the processes that tests start share what they compile, in folders of this run alone:
# programs of other runs must not decide whether a test compiles.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _folder = tempfile.mkdtemp(prefix="bojax-tests-")
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    os.environ["BOJAX_CACHE"] = os.path.join(_folder, "programs")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_folder, "jax")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ["BOJAX_COMPILE_AHEAD"] = "off"

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

# Tracing makes many objects that live on; looking for circles among them every 700 takes a tenth of the time.
gc.set_threshold(50_000, 20, 50)


LONG_EXAMPLES = {
    "bojax.integrations.gpyopt.methods.BayesianOptimization",
    "bojax.loop._bayesopt.bayesopt",
    "bojax.loop._cma_es.cma_es",
    "bojax.loop._differential_evolution.differential_evolution",
    "bojax.loop._genetic.genetic",
    "bojax.loop._hybrid.hybrid",
    "bojax.loop._pso.pso",
    "bojax.loop._run.run_many",
    "bojax.loop._thompson.thompson",
    "bojax.loop._turbo.turbo",
    "bojax.optim._multistart.multistart",
    "bojax.study.reports._plots.plot_slices",
    "bojax.study.asking._suggest.suggest",
    "bojax.surrogates._gpjax.to_gpjax",
}
"""Examples of docstrings that compile for long."""


def pytest_collection_modifyitems(items):
    """The longest test of all is first, so that no worker is left alone with it."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"names of tests must be the same in every worker, got addresses in {unstable[:3]}.")
    for item in items:
        if item.name in LONG_EXAMPLES:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def x64():
    """Float64 for one test; nowhere in the tests is it switched on globally."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compiled():
    """A list that gains an entry for each program that JAX compiles, or takes from its own cache."""
    events, active = [], [True]

    def listen(name, duration, **_):
        if active[0] and name == "/jax/core/compile/backend_compile_duration":
            events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    active[0] = False


MAX_MAPS = 12_000
"""Compiled programs take hundreds of memory maps each, of the 65,530 that Linux allows a process, and as many megabytes
all together: at 25,000 a worker held 5 GB."""


def pytest_runtest_teardown(item):
    """Drops compiled programs before there are too many of them."""
    from bojax._programs import drop_programs

    del item
    try:
        with open("/proc/self/maps", "rb") as file:
            num_maps = file.read().count(b"\n")
    except OSError:  # no Linux
        return
    if num_maps > MAX_MAPS:
        drop_programs()
        jax.clear_caches()
        gc.collect()

"""The host's edge of compiled work: precision, threads and the compilation cache.

`host_scope` is entered around calls of compiled functions, never inside them. It changes nothing that outlives it.
"""

import contextlib
import functools
import os
import pathlib
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jaxlib.version
import numpy as np

from bojax._errors import BojaxWarning


@contextlib.contextmanager
def host_scope() -> Iterator[None]:
    """Float64 (but on TPU) and one BLAS thread for the calls inside; both as they were afterwards.

    The precision holds for the calling thread only, as JAX scopes do. The limit on BLAS threads holds for the whole
    process while the scope is open: more threads make factorisations of this size slower by up to 20 times when the
    cores are shared. Arrays that leave the scope should be turned into NumPy arrays inside it.
    """
    with contextlib.ExitStack() as stack:
        if jax.default_backend() == "cpu":
            stack.enter_context(_one_blas_thread())
        stack.enter_context(jax.enable_x64(jax.default_backend() != "tpu"))
        yield


class _BlasLimit:
    """The limit that the open scopes of all threads share: the first sets it, the last lifts it."""

    lock = threading.Lock()
    num_open = 0
    limit: Any = None


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    with _BlasLimit.lock:
        controller = _thread_controller()
        if _BlasLimit.num_open == 0 and controller is not None:
            _BlasLimit.limit = controller.limit(limits=1, user_api="blas")
        _BlasLimit.num_open += 1
    try:
        yield
    finally:
        with _BlasLimit.lock:
            _BlasLimit.num_open -= 1
            if _BlasLimit.num_open == 0 and _BlasLimit.limit is not None:
                _BlasLimit.limit.restore_original_limits()
                _BlasLimit.limit = None


def ambient_x64() -> bool:
    """Whether JAX's default float is float64 here, by the global setting or by a scope."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


@functools.cache
def _thread_controller():
    """The BLAS pools of this process; looking for them takes milliseconds, so it is done once."""
    import scipy.linalg.cython_lapack  # noqa: F401  jaxlib takes LAPACK from here: load it before looking
    import threadpoolctl

    controller = threadpoolctl.ThreadpoolController()
    return controller if len(controller) else None


def enable_compilation_cache(directory: str | os.PathLike | None = None) -> pathlib.Path | None:
    """Keep compiled programs on disk, so that a new process starts without compiling them again.

    This sets JAX's global cache options, which is why importing bojax never does it. Whoever can write to the directory
    can have code run by later processes, so keep it private.

    Args:
        directory: where to keep the programs; by default `$XDG_CACHE_HOME/bojax` or `~/.cache/bojax`. A folder named
            after the jaxlib version is made inside, since programs of another version must not be loaded.

    Returns:
        The folder in use. A cache the user has already configured (`JAX_COMPILATION_CACHE_DIR`) is kept as it is. None,
        after a warning, where the default folder cannot be written: then programs are compiled anew in each process.

    Raises:
        OSError: the given `directory` cannot be written.
    """
    configured = jax.config.values.get("jax_compilation_cache_dir")
    if configured is not None and directory is None:
        return pathlib.Path(configured)
    folder = f"jaxlib-{jaxlib.version.__version__}"
    if directory is not None:
        path = _writable(pathlib.Path(directory) / folder)
    else:
        try:
            path = _writable(_default_cache() / folder)
        except OSError as error:
            text = f"compiled programs are not kept on disk: {error}. Set XDG_CACHE_HOME to a folder you may write to."
            warnings.warn(text, BojaxWarning, stacklevel=2)
            return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return path


def _default_cache() -> pathlib.Path:
    home = os.path.expanduser("~")
    cache = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if os.path.isabs(home) else None)
    if cache is None:
        raise OSError("this user has no home folder")
    return pathlib.Path(cache) / "bojax"


def _writable(path: pathlib.Path) -> pathlib.Path:
    """The folder, made if need be; an OSError where no file can be written there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryFile(dir=path) as file:
        file.write(b"x")
    return path

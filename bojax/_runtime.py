"""The host's edge of compiled work: JAX's settings, precision, threads and the compilation cache.

`host_scope` is entered around calls of compiled functions, never inside them. It changes nothing that outlives it.

A user may have set JAX to look for NaN, to promote no dtypes, to make other keys. Those settings are meant for the
user's code: bojax marks what is not known by NaN, and a suggestion must not depend on them. So bojax's own code runs
under `own_settings`, and the user's functions under the user's. Rank promotion is left alone: nothing here needs it.
"""

import contextlib
import functools
import os
import pathlib
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from bojax._errors import BojaxWarning, StudyError

P = ParamSpec("P")
R = TypeVar("R")

PRNG_IMPL = "threefry2x32"
"""How keys work inside of bojax, whatever JAX's default: its results are the same under `vmap`."""

_OWN_SETTINGS = {
    "numpy_dtype_promotion": "standard",
    "default_matmul_precision": None,
    "default_prng_impl": PRNG_IMPL,
    "threefry_partitionable": True,
    "debug_nans": False,
    "debug_infs": False,
    "debug_key_reuse": False,
    "check_tracer_leaks": False,
    "disable_jit": False,
    "transfer_guard": "allow",
}


_TRANSFER_GUARDS = (
    "jax_transfer_guard",
    "jax_transfer_guard_host_to_device",
    "jax_transfer_guard_device_to_device",
    "jax_transfer_guard_device_to_host",
)


class own_settings:
    """A scope with JAX's settings as bojax needs them, for the calling thread, but for the precision.

    A class, since it is entered before every `ask`: a generator with an exit stack takes three times as long.
    """

    __slots__ = ("_entered",)

    def __enter__(self) -> None:
        # A setting that is as it should be costs nothing: entering all of them takes as long as a third of an `ask`.
        self._entered = [getattr(jax, name)(value) for name, value in _OWN_SETTINGS.items() if not _holds(name, value)]
        for setting in self._entered:
            setting.__enter__()

    def __exit__(self, *error: object) -> None:
        for setting in reversed(self._entered):
            setting.__exit__(None, None, None)


def _holds(name: str, value: Any) -> bool:
    if name == "transfer_guard":
        return all(getattr(jax.config, guard) is None for guard in _TRANSFER_GUARDS)
    return getattr(jax.config, f"jax_{name}") == value


def under_own_settings(fn: Callable[P, R]) -> Callable[P, R]:
    """A pure function that works alike whatever JAX's settings, but for the precision."""

    @functools.wraps(fn)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with own_settings():
            return fn(*args, **kwargs)

    return wrapped


class UserSettings(NamedTuple):
    """The settings of JAX that decide how a user's function is traced."""

    enable_x64: bool
    numpy_dtype_promotion: str
    default_matmul_precision: str | None
    default_prng_impl: str
    threefry_partitionable: bool


def user_settings() -> UserSettings:
    """The settings here, by the global ones or by scopes. Call it before bojax's own scopes are entered."""
    return UserSettings(**{name: getattr(jax.config, f"jax_{name}") for name in UserSettings._fields})


@contextlib.contextmanager
def as_user(settings: UserSettings) -> Iterator[None]:
    """The user's settings again, around the user's functions inside bojax's scopes, or in another thread."""
    with contextlib.ExitStack() as stack:
        for name, value in settings._asdict().items():
            stack.enter_context(getattr(jax, name)(value))
        yield


def as_key(key: Any) -> Any:
    """A random key, or an array of keys, in the form that bojax uses inside.

    Keys of JAX's RBG are two halves that `key`, `split` and `fold_in` treat like keys of Threefry: the first half is
    the key that the same program makes by default. So another default leads to the same suggestions.

    Args:
        key: as `jax.random.key` makes it, or the array that `jax.random.PRNGKey` makes.

    Raises:
        TypeError: it is no key.
        StudyError: this process was forked from one in which JAX had computed.
    """
    check_not_forked()
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if str(jax.random.key_impl(key)) == PRNG_IMPL:
            return key
        words = jax.random.key_data(key)
    elif dtype == np.uint32 and key.ndim and key.shape[-1] in (2, 4):
        words = jnp.asarray(key)
    else:
        raise TypeError(f"`key` must be a random key, as jax.random.key(0) makes it, got {key!r}.")
    return jax.random.wrap_key_data(words[..., :2], impl=PRNG_IMPL)


def seed_key(seed: int) -> Any:
    """The key of a seed, 0 <= seed < 2**32, whatever JAX's settings."""
    words: Any = np.array([0, seed], np.uint32)
    return jax.random.wrap_key_data(words, impl=PRNG_IMPL)


class _Fork:
    """What a process knows of its own forking; JAX's threads are not in a child, and whoever waits for them hangs."""

    has_dead_backend = False


def _after_fork_in_child() -> None:
    bridge = sys.modules.get("jax._src.xla_bridge")
    _Fork.has_dead_backend |= bool(getattr(bridge, "_backends", None))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def check_not_forked() -> None:
    """Raises StudyError in a process that was forked from one where JAX had computed, in which JAX would hang."""
    if _Fork.has_dead_backend:
        raise StudyError(
            "this process was forked from one in which JAX had computed, where JAX hangs. Start workers by "
            'multiprocessing.get_context("spawn"), or fork them before anything is computed, and let each open the '
            "study by the URL of its storage."
        )


@contextlib.contextmanager
def host_scope() -> Iterator[None]:
    """Open a scope with float64, one BLAS thread and bojax's own JAX settings; all are restored at its end.

    `Study` uses it around compiled calls. On TPU, where float64 is not available, the precision stays as it is.
    Precision and settings apply to the calling thread only, like JAX's scopes. The limit on BLAS threads applies to the
    whole process while the scope is open: on shared cores, more threads make small factorizations up to 20 times
    slower. Convert arrays that leave the scope to NumPy inside it.

    Yields:
        Nothing; use it in a `with` statement.

    Raises:
        StudyError: this process was forked from one in which JAX had computed.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> with host_scope():
        ...     x = np.asarray(jnp.ones(2))
        >>> x.dtype
        dtype('float64')
    """
    check_not_forked()
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_settings())
        if jax.default_backend() == "cpu":
            stack.enter_context(_one_blas_thread())
        stack.enter_context(jax.enable_x64(jax.default_backend() != "tpu"))
        yield


class _BlasLimit:
    """The limit that the open scopes of all threads share: the first sets it, the last lifts it."""

    lock = threading.Lock()
    num_open = 0
    before: list[tuple[Any, int]]


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    with _BlasLimit.lock:
        if _BlasLimit.num_open == 0:
            _BlasLimit.before = [(pool, pool.num_threads) for pool in _blas_pools()]
            _set_threads((pool, 1) for pool, _ in _BlasLimit.before)
        _BlasLimit.num_open += 1
    try:
        yield
    finally:
        with _BlasLimit.lock:
            _BlasLimit.num_open -= 1
            if _BlasLimit.num_open == 0:
                _set_threads(_BlasLimit.before)


def _set_threads(limits: Iterable[tuple[Any, int]]) -> None:
    _any_thread_may_limit()
    for pool, num_threads in limits:
        pool.set_num_threads(num_threads)
    _any_thread_may_limit()


def _any_thread_may_limit() -> None:
    """Let the calling thread change the limit, whichever thread did so before.

    threadpoolctl 3.8 and later ignore every thread but the first one. Here the scope that ends last lifts the limit,
    in whatever thread it is.
    """
    import threadpoolctl

    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


def ambient_x64() -> bool:
    """Whether JAX's default float is float64 here, by the global setting or by a scope."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


@functools.cache
def _blas_pools() -> tuple[Any, ...]:
    """The BLAS pools of this process; looking for them takes milliseconds, so it is done once."""
    import scipy.linalg.cython_lapack  # noqa: F401  jaxlib takes LAPACK from here: load it before looking
    import threadpoolctl

    pools = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    return tuple(pool for pool in pools if pool.num_threads is not None)


def enable_compilation_cache(directory: str | os.PathLike | None = None) -> pathlib.Path | None:
    """Keep compiled programs on disk, so that a new process starts without compiling them again.

    This sets JAX's global cache options, which is why importing bojax never does it. Anyone who can write to the
    directory can make later processes run their code, so keep it private.

    Args:
        directory: folder for the programs; by default `$XDG_CACHE_HOME/bojax` or `~/.cache/bojax`. Programs are kept in
            a folder inside it that is named after the jaxlib version, because programs of other versions must not be
            loaded.

    Returns:
        The folder in use. If a cache is already configured (`JAX_COMPILATION_CACHE_DIR`) and no `directory` is given,
        it is left unchanged. None, with a warning, if the default folder cannot be written; programs are then compiled
        in each process.

    Raises:
        OSError: the given `directory` cannot be written.

    Example:
        >>> import bojax
        >>> bojax.enable_compilation_cache("programs").name  # doctest: +SKIP
        'jaxlib-0.10.2'
    """
    configured = jax.config.values.get("jax_compilation_cache_dir")
    if configured is not None and directory is None:
        return pathlib.Path(configured)
    folder = f"jaxlib-{jaxlib.version.__version__}"
    if directory is not None:
        path = _writable(pathlib.Path(directory) / folder)
    else:
        try:
            path = _writable(default_cache() / folder)
        except OSError as error:
            text = f"compiled programs are not kept on disk: {error}. Set XDG_CACHE_HOME to a folder you may write to."
            warnings.warn(text, BojaxWarning, stacklevel=2)
            return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return path


def default_cache() -> pathlib.Path:
    """`$XDG_CACHE_HOME/bojax` or `~/.cache/bojax`; an OSError where there is no home folder."""
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

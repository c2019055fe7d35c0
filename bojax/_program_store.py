"""Compiled programs as files.

    what it computes, shapes, settings, versions, processor --digest--> file --load--> program

JAX's own cache needs global settings, and traces a function before it can look for its program. Here a function has an
*identity*, a text that says what it computes and is the same in every process. So its program is found without a trace.

Files are in `~/.cache/bojax/programs`, or in the folder that `BOJAX_CACHE` names; `BOJAX_CACHE=off` switches the store
off. Results never depend on it: a program that cannot be loaded is compiled, and one that cannot be stored is not.

A file holds machine code, so it is trusted as code is: the folder must belong to the user, and nobody else may write to
it. Nothing in a file is unpickled. A file is complete or absent: it is written under another name and then renamed.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray

from bojax import _linalg
from bojax._errors import BojaxWarning
from bojax._runtime import default_cache

MAX_BYTES = 2**29
"""Programs take about 2 MB each. Beyond 512 MiB those that were not used for longest are removed."""
MAX_WAIT = 60.0
"""Seconds to wait for another process that compiles the same program; then this one compiles it as well."""
STALE = 3600.0
"""Age in seconds from which a temporary file belongs to a process that was killed."""

_MAGIC = b"bojax program 1\n"
_TEMPORARY = ".new-"
_LOCK = ".lock"
_LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "optax", "flax", "lineax", "equinox", "gpjax", "paramax", "evosax")
_IMPORTED = time.time()

Program = Callable[[Sequence[Any]], tuple[Any, ...]]
"""From the leaves of the arguments to the leaves of the result."""


class Unusable(Exception):
    """A program was loaded but does not run, as one of which the compiler left something out."""


def file_of(*texts: str) -> pathlib.Path | None:
    """The file of a program that these texts describe, or None where programs are not kept.

    Warns once for each folder that was named but cannot be used, or that is not safe.
    """
    environment = _environment()
    folder = None if environment is None else _folder()
    if folder is None:
        return None
    content = json.dumps([*texts, environment])
    return folder / hashlib.blake2b(content.encode(), digest_size=20).hexdigest()


@functools.cache
def _environment() -> str | None:
    """What programs depend on beside their function: versions, bojax's source, the processor, the compiler's flags.

    None where no program is kept: on accelerators, with several devices, and where the source is not the one that was
    imported, because it is being edited or is not in files.
    """
    if jax.default_backend() != "cpu" or jax.local_device_count() != 1:
        return None
    source = _source()
    if source is None:
        return None
    flags = os.environ.get("XLA_FLAGS"), os.environ.get("JAX_COMPILER_ENABLE_REMAT_PASS")
    return json.dumps([[_version(name) for name in _LIBRARIES], sys.version, source, _processor(), flags])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _source() -> str | None:
    """A digest of bojax's source; None where it cannot be read or has changed since it was imported."""
    package = pathlib.Path(__file__).parent
    digest = hashlib.blake2b(digest_size=20)
    try:
        for path in sorted(package.rglob("*.py")):
            if path.stat().st_mtime > _IMPORTED:
                return None
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
        return digest.hexdigest() if (package / "__init__.py").exists() else None
    except OSError:
        return None


def _processor() -> list[str]:
    """The kind of processor and its features: machine code for one may not run on another."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.platform(), platform.processor()]
    told = {line.partition(":")[0].strip(): line for line in lines}
    return [platform.machine(), *(told[key] for key in ("model name", "flags", "Features") if key in told)]


def _folder() -> pathlib.Path | None:
    """The folder of programs, made if need be; None where there is none that can be used."""
    choice = os.environ.get("BOJAX_CACHE", "")
    if choice.lower() == "off":
        return None
    try:
        folder = pathlib.Path(choice).expanduser() if choice else default_cache() / "programs"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except (OSError, RuntimeError) as error:
        if choice:
            _warn_once(f"compiled programs are not kept: {error}. Set BOJAX_CACHE to a folder that you may write to.")
        return None
    if not _is_private(found):
        _warn_once(
            f"compiled programs are not kept: the folder {folder} belongs to another user, or others may write to it. "
            'Make it private by "chmod 700", or set BOJAX_CACHE to another folder or to "off".'
        )
        return None
    return folder


def _is_private(found: os.stat_result) -> bool:
    """Whether only this user may write to it. Windows keeps a user's files from others by other means."""
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


@functools.cache
def _warn_once(text: str) -> None:
    warnings.warn(text, BojaxWarning, stacklevel=2)


def load(path: pathlib.Path, arguments: Sequence[Any]) -> Program | None:
    """The program in a file.

    Args:
        path: the file.
        arguments: a plain description of the leaves that the program takes.

    Returns:
        The program, or None where there is none, or one that is broken or takes other arguments. Such a file is
        replaced by the next `save`.
    """
    try:
        with open(path, "rb") as file:
            private = _is_private(os.fstat(file.fileno()))  # the folder may not always have been
            content = file.read()
        if not private or not content.startswith(_MAGIC):
            return None
        header, payload = content[len(_MAGIC) :].split(b"\n", 1)
        if header != _header(payload, arguments):
            return None
        program = _program(payload, arguments)
    except Exception:  # whatever is wrong with the file, its program can be compiled
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was used
    return program


def _header(payload: bytes, arguments: Sequence[Any]) -> bytes:
    return json.dumps([hashlib.blake2b(payload).hexdigest(), arguments]).encode()


def _program(payload: bytes, arguments: Sequence[Any]) -> Program:
    from jax._src.lib import xla_client  # pyright: ignore[reportPrivateImportUsage]

    _initialize_lapack()
    device = jax.local_devices()[0]
    executable = device.client.deserialize_executable(payload, executable_devices=xla_client.DeviceList((device,)))
    place = functools.partial(_placed, xla_client.batched_device_put, jax.sharding.SingleDeviceSharding(device), device)
    kinds = [ShapedArray(tuple(shape), jnp.dtype(dtype)) for dtype, _, *shape in arguments]

    def program(leaves: Sequence[Any]) -> tuple[Any, ...]:
        try:
            results = executable.execute_sharded([place(*pair) for pair in zip(kinds, leaves, strict=True)])
            shards = results.disassemble_into_single_device_arrays()
            return jax.block_until_ready(tuple(arrays[0] for arrays in shards))
        except jax.errors.JaxRuntimeError as error:
            raise Unusable from error

    return program


def _placed(put: Callable[..., Any], sharding: Any, device: Any, kind: Any, leaf: Any) -> Any:
    """An argument on the device; for NumPy arrays a tenth of the time that `jax.device_put` takes."""
    if isinstance(leaf, jax.Array):
        return leaf
    return put(kind, sharding, [np.asarray(leaf, kind.dtype)], [device])


@functools.cache
def _initialize_lapack() -> None:
    """Make LAPACK known to programs that are loaded, which JAX does when it lowers the first factorization.

    Without it such a program ends the process.
    """
    try:
        from jaxlib import lapack

        lapack.prepare_lapack_call("potrf_ffi", np.dtype(np.float64))
    except (ImportError, AttributeError):  # another version of jaxlib
        with jax.enable_x64(True):
            jax.block_until_ready(jax.jit(_linalg.cholesky)(np.eye(1)))


def save(path: pathlib.Path, compiled: Any, arguments: Sequence[Any]) -> None:
    """Keep a compiled program of arrays, if that is possible."""
    payload = _serialized(compiled)
    if payload is None:
        return
    with contextlib.suppress(OSError):  # a full disk, a folder that can only be read
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + _header(payload, arguments) + b"\n" + payload)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _make_room(path)


@contextlib.contextmanager
def jax_cache_hits() -> Iterator[list[str]]:
    """What this thread took from JAX's own cache of programs, which must not be stored here.

    Such a program runs, but XLA leaves functions out when it is serialized again.
    """
    hits: list[str] = []
    thread = threading.get_ident()

    def listen(event: str, **_: Any) -> None:
        if threading.get_ident() == thread and event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        with contextlib.suppress(Exception):  # another one removed all listeners
            jax.monitoring.unregister_event_listener(listen)


def _serialized(compiled: Any) -> bytes | None:
    """The executable as bytes; None where it calls back into Python, or its form is unknown."""
    try:
        inner = compiled._executable
        call = inner.unsafe_call
        if call.has_host_callbacks or call.ordered_effects or call.has_unordered_effects or compiled._params.const_args:
            return None
        if call.mut is not None or len(call.kept_var_idx) != len(inner.in_avals):
            return None
        return inner.xla_executable.client.serialize_executable(inner.xla_executable)
    except Exception:  # another version of JAX may have none of these; its programs are compiled in every process
        return None


def _make_room(newest: pathlib.Path) -> None:
    """Remove the programs that were not used for longest, and what killed processes left."""
    files = []
    for path in newest.parent.iterdir():
        with contextlib.suppress(OSError):
            found = path.stat()
            files.append((path != newest, -found.st_mtime, found.st_size, path))
    total = 0
    for other, used, size, path in sorted(files):
        total += size
        left = path.name.startswith(_TEMPORARY) or path.suffix == _LOCK
        if other and (total > MAX_BYTES or (left and time.time() + used > STALE)):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def only_one(path: pathlib.Path) -> Iterator[None]:
    """Wait while another process compiles the program of this file, at most `MAX_WAIT` seconds.

    The lock is the system's, so it ends with the process that holds it. Where the other one could not store its
    program, the lock is passed on at once: those that waited compile side by side.
    """
    try:
        import fcntl

        file = path.with_suffix(_LOCK)
        lock = open(file, "ab")  # noqa: SIM115
    except (ImportError, OSError):  # Windows; a folder that can only be read
        yield
        return
    with lock:
        deadline = time.monotonic() + MAX_WAIT
        waited = False
        holds = False
        while not holds and time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                holds = True
            except BlockingIOError:
                waited = True
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        if holds and waited and not path.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield
        finally:
            if holds:
                with contextlib.suppress(OSError):
                    file.unlink()

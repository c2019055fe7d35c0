"""Compiled programs that are kept, and compiled before they are needed.

    kept(*args) --> in this process? --> in a file? --> trace, compile, store --> run
    kept.ahead(*args)    the same in a thread, without the run

A program is compiled once, whoever asks first: who needs one that is being compiled waits for it, and who needs one
that is still in the queue compiles it. It is stored before it runs, so that a process that is killed has not compiled
in vain.
"""

import contextlib
import pathlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import _program_store as store
from bojax._background import may_work_ahead
from bojax._background import workers as _workers
from bojax._runtime import check_not_forked, own_settings

MAX_PROGRAMS = 16
"""Programs in memory; those of an `ask` take about 50 MB each. Beyond, those not used for longest are dropped."""

_CONFIG = (
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_optimization_level",
    "jax_use_simplified_jaxpr_constants",
)
"""Global settings of JAX that `own_settings` leaves alone and a program depends on."""


class _Leaf(NamedTuple):
    """What a program knows of an array."""

    shape: tuple[int, ...]
    dtype: Any
    weak_type: bool
    sharding: Any


class _Signature(NamedTuple):
    """What one program of a function is for."""

    form: Any
    leaves: tuple[_Leaf, ...]
    x64: bool
    device: Any
    config: tuple[Any, ...]


def _signature(args: tuple[Any, ...]) -> tuple[_Signature, list[Any]]:
    """The signature of arguments, and their leaves."""
    leaves, form = jax.tree.flatten(args)
    config = tuple(jax.config.values.get(name) for name in _CONFIG)
    x64, device = (getattr(jax.config, f"jax_{name}") for name in ("enable_x64", "default_device"))
    return _Signature(form, tuple(map(_leaf, leaves)), x64, device, config), leaves


def _leaf(leaf: Any) -> _Leaf:
    if isinstance(leaf, (np.ndarray, np.generic)):  # the usual case, and the quickest
        return _Leaf(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype), False, None)
    kind = jax.typeof(leaf)
    # Only where there is a choice does it matter that an array is to stay where it is.
    stays = isinstance(leaf, jax.Array) and leaf.committed and jax.device_count() > 1
    dtype = kind.dtype if _is_extended(kind.dtype) else jax.dtypes.canonicalize_dtype(kind.dtype)
    return _Leaf(kind.shape, dtype, bool(kind.weak_type), leaf.sharding if stays else None)


def _is_extended(dtype: Any) -> bool:
    """Whether it is a dtype of JAX's own, as that of random keys."""
    return jnp.issubdtype(dtype, jax.dtypes.extended)


class Kept:
    """A compiled function whose programs are kept, by this process and on disk, and may be compiled ahead.

    Calls run the same executable whether it was compiled here or loaded. They may come from several threads.
    """

    def __init__(self, function: Callable[..., Any], identity: str | None) -> None:
        """Make a compiled function.

        Args:
            function: a pure function of trees of arrays, traceable, that returns a tree of arrays.
            identity: what it computes; the same text in every process, and another one for every other function. None
                keeps its programs in this process only.
        """
        self._function = function
        self._identity = identity
        self._programs: dict[_Signature, _Entry] = {}
        self._jobs: dict[_Signature, _Job] = {}

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Run the function, compiled or loaded for these shapes where it is not yet there.

        Precision is the caller's, other settings of JAX are bojax's own.

        Args:
            *args: trees of arrays.

        Returns:
            The leaves of the function's result as a flat tuple of arrays.

        Raises:
            StudyError: this process was forked from one in which JAX had computed.
        """
        check_not_forked()
        signature, leaves = _signature(args)
        try:
            return self._program(signature)(leaves)
        except store.Unusable:
            with _workers.lock:
                self._programs.pop(signature, None)
            return _Job(self, signature, load=False).run()(leaves)

    def ahead(self, *args: Any) -> None:
        """Compile or load the program for arguments of these shapes in a thread.

        Without effect on any result. A failure has none either: the call that needs the program compiles it, and
        raises what there is to raise. `BOJAX_COMPILE_AHEAD=off` in the environment switches it off.

        Args:
            *args: trees of arrays or of `jax.ShapeDtypeStruct`.
        """
        if not may_work_ahead():
            return
        with contextlib.suppress(Exception), _workers.lock:
            signature = _signature(args)[0]
            if not (_workers.closing or signature in self._programs or signature in self._jobs):
                self._jobs[signature] = job = _Job(self, signature)
                _workers.put(job)

    def _program(self, signature: _Signature) -> store.Program:
        while True:
            with _workers.lock:
                entry = self._programs.get(signature)
                if entry is not None:
                    _use(entry)
                    return entry.program
                job = self._jobs.get(signature)
                mine = job is None or job in _workers.queue
                if job is None:
                    job = self._jobs[signature] = _Job(self, signature)
                elif mine:
                    _workers.queue.remove(job)
            if mine:
                return job.run()
            job.done.wait()
            if job.program is not None:
                return job.program


class _Entry:
    """A program in memory; equal to itself only."""

    __slots__ = ("owner", "program", "signature")

    def __init__(self, kept: Kept, signature: _Signature, program: store.Program) -> None:
        self.owner, self.signature, self.program = weakref.ref(kept), signature, program

    def drop(self) -> None:
        owner = self.owner()
        if owner is not None and owner._programs.get(self.signature) is self:
            del owner._programs[self.signature]


class _Job:
    """One program to be loaded or compiled."""

    def __init__(self, kept: Kept, signature: _Signature, *, load: bool = True) -> None:
        self._kept, self._signature, self._load = kept, signature, load
        self.done = threading.Event()
        self.program: store.Program | None = None
        self.can_stop = True
        """Whether it is in Python, so that an exception ends it."""

    def run(self) -> store.Program:
        """Load or compile it."""
        kept, signature = self._kept, self._signature
        try:
            with own_settings(), jax.enable_x64(signature.x64), jax.default_device(signature.device):
                program = self._found_or_compiled(self._path())
            with _workers.lock:
                self.program = program
                kept._programs[signature] = entry = _Entry(kept, signature, program)
                _use(entry)
            return program
        finally:
            self.forget()

    def forget(self) -> None:
        """It is done, or will not be."""
        with _workers.lock:
            self._kept._jobs.pop(self._signature, None)
        self.done.set()

    def _path(self) -> pathlib.Path | None:
        identity, signature = self._kept._identity, self._signature
        if identity is None or any(_is_extended(leaf.dtype) for leaf in signature.leaves):
            return None
        settings = f"float64 {signature.x64}, {signature.config}"
        return store.file_of(identity, str(signature.form), str(self._arguments()), settings)

    def _arguments(self) -> list[Any]:
        """The leaves of the arguments in plain words."""
        return [[str(leaf.dtype), leaf.weak_type, *leaf.shape] for leaf in self._signature.leaves]

    def _found_or_compiled(self, path: pathlib.Path | None) -> store.Program:
        if path is None or not self._load:
            return self._compiled(path)
        program = store.load(path, self._arguments())
        if program is None:
            with store.only_one(path):  # another process may have stored it in the meantime
                program = store.load(path, self._arguments()) or self._compiled(path)
        return program

    def _compiled(self, path: pathlib.Path | None) -> store.Program:
        function, form = self._kept._function, self._signature.form

        def program(*leaves: Any) -> tuple[Any, ...]:
            return tuple(map(_strong, jax.tree.leaves(function(*jax.tree.unflatten(form, leaves)))))

        shapes = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=leaf.weak_type, sharding=leaf.sharding)
            for leaf in self._signature.leaves
        ]
        # Made for this program alone, so that JAX forgets the trace with it.
        lowered = jax.jit(program, keep_unused=True).lower(*shapes)
        with _workers.lock:
            self.can_stop = False
        try:
            with store.jax_cache_hits() as hits:
                compiled = lowered.compile()
            if path is not None and not hits:
                store.save(path, compiled, self._arguments())
        finally:
            self.can_stop = True
        return lambda leaves: compiled(*leaves)


def _strong(result: Any) -> Any:
    """A result whose dtype does not give way to others', as in a program that is loaded."""
    result = jnp.asarray(result)
    return result if _is_extended(result.dtype) else jnp.asarray(result, dtype=result.dtype)


_recent: OrderedDict[_Entry, None] = OrderedDict()
"""Programs in memory, the last used one last."""


def _use(entry: _Entry) -> None:
    """Note that a program is used, and drop the one that was not for longest if there are too many; under the lock."""
    if entry not in _recent:
        for gone in [other for other in _recent if other.owner() is None]:
            del _recent[gone]
    _recent[entry] = None
    _recent.move_to_end(entry)
    while len(_recent) > MAX_PROGRAMS:
        _recent.popitem(last=False)[0].drop()


def drop_programs() -> None:
    """Drop all programs from memory; what is on disk stays."""
    with _workers.lock:
        for entry in _recent:
            entry.drop()
        _recent.clear()

"""Functions that do the same, though they are not the same object.

A program is compiled for a function, and who writes `algorithm=lambda space, q: ...` in a loop makes a new function
each time. So programs are kept under what a function is made of: its code, what it closes over, its defaults, and the
global names that it reads, all the way down. Equal parts mean equal programs. What is not understood counts as alike
only if it is the same object.

Functions of installed libraries read global names of their modules, which do not change; those are not followed.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, np.dtype)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")})
_INSTALLED = ("site-packages", "dist-packages")
_PACKAGE = __name__.partition(".")[0]

MAX_READ = 4096
"""Most entries of an array on a device that are fetched to be compared; larger ones are alike to themselves only."""


class Alike:
    """A value that is equal to another one made of the same parts; a key of caches.

    Attributes:
        value: what it was made for. Of values that are alike a cache keeps the first.
        has_tracers: whether arrays that are being traced are among the parts; no cache should keep it then.
    """

    __slots__ = ("_hash", "_held", "_parts", "has_tracers", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._held: list[Any] = []  # objects known by their id stay, so that no other gets it
        self._parts = _Reader(self._held).parts(value)
        self.has_tracers = any(isinstance(part, Tracer) for part in self._held)
        self._hash = hash(self._parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike) and self._hash == other._hash and self._parts == other._parts


@functools.lru_cache(maxsize=64)
def alike(*values: Any) -> Alike:
    """`Alike` of values that can be hashed; the same objects are read once.

    So an object counts as what it was when it was first seen, as everywhere in JAX.
    """
    return Alike(values)


class _Reader:
    """Turns a value into nested tuples that can be compared and hashed."""

    def __init__(self, held: list[Any]) -> None:
        self._held = held
        self._seen: dict[int, tuple[int, Any]] = {}  # id -> its number and the value, which stays alive until the end

    def parts(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return type(value), _exact(value)
        if id(value) in self._seen:  # read once, though it stands in many places or in itself
            return "again", self._seen[id(value)][0]
        self._seen[id(value)] = len(self._seen), value
        return self._inside(value)

    def _inside(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return "method", self.parts(value.__func__), self.parts(value.__self__)
        if isinstance(value, functools.partial):
            return "partial", self.parts(value.func), self.parts(value.args), self.parts(value.keywords)
        if isinstance(value, types.CellType):
            return "cell", self._cell(value)
        if isinstance(value, (list, set)):
            # It may be there to be filled, and then the right one must be; its contents decide, too.
            return self._same(value), tuple(self.parts(item) for item in value.copy())
        if isinstance(value, tuple):
            return type(value), tuple(self.parts(item) for item in value)
        if isinstance(value, Mapping) and type(value) in (dict, types.MappingProxyType):
            # A copy: making pairs may run the garbage collector, and a finalizer or a thread may change the original.
            return type(value), tuple((self.parts(key), self.parts(item)) for key, item in dict(value).items())
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            return type(value), tuple(self.parts(getattr(value, field.name)) for field in dataclasses.fields(value))
        if isinstance(value, frozenset):
            return type(value), frozenset(self.parts(item) for item in value)
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            return "array", value.dtype, value.shape, _content(value)
        if isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.size <= MAX_READ:
            return self._device_array(value)
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped) and type(value).__module__.startswith("jax"):  # jit, custom_jvp and the like
            others = {k: v for k, v in getattr(value, "__dict__", {}).items() if k != "__wrapped__"}
            return type(value), self.parts(wrapped), self.parts(others)
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, types.ModuleType):
            return "builtin", value.__name__, self.parts(value.__self__)
        return self._object(value)

    def _function(self, function: types.FunctionType) -> Any:
        code = function.__code__
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        defaults = self.parts(function.__defaults__), self.parts(function.__kwdefaults__)
        attributes = self.parts({k: v for k, v in vars(function).items() if k != "__wrapped__"})
        names = () if self._is_library(function) else tuple(sorted(_global_names(code)))
        read = tuple((name, self.parts(function.__globals__[name])) for name in names if name in function.__globals__)
        return "function", function.__module__, code, cells, defaults, attributes, read

    def _is_library(self, function: types.FunctionType) -> bool:
        return _is_library(function)

    def _cell(self, cell: types.CellType) -> Any:
        try:
            return self.parts(cell.cell_contents)
        except ValueError:  # empty
            return "empty"

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, jax.Array)):
            return self._same(value)
        if kind.__eq__ is not object.__eq__ and kind.__hash__ not in (None, object.__hash__):
            try:
                hash(value)
            except TypeError:
                return self._same(value)
            return "equal", kind, value
        # Equal to itself only, and as long as its attributes are what they were.
        return self._same(value), self.parts(dict(getattr(value, "__dict__", {})))

    def _device_array(self, value: jax.Array) -> Any:
        """A small array on a device, by what is in it; keys included."""
        if not value.is_fully_addressable:
            return self._same(value)
        is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        words = np.asarray(jax.random.key_data(value) if is_key else value)
        return "device array", str(value.dtype), value.shape, bool(value.weak_type), _content(words)

    def _same(self, value: Any) -> Any:
        self._held.append(value)
        return "same", id(value)


def _content(array: Any) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()


def _exact(value: Any) -> Any:
    """A float by its bits: 0.0 and -0.0 differ, NaN is alike to itself."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, slice):
        return repr(value)
    return repr(value) if isinstance(value, complex) else value


def _global_names(code: types.CodeType) -> set[str]:
    """The names a function may look up in its module, those of functions inside it included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _is_library(function: types.FunctionType) -> bool:
    """Whether a function belongs to bojax or to an installed package, whose global names stay as they are."""
    top = str(function.__module__).partition(".")[0]
    if top == _PACKAGE or top in sys.stdlib_module_names:
        return True
    return function.__code__.co_filename.startswith(_LIBRARIES)


class _Unstable(Exception):
    """A part has no text that is the same in every process."""


class _StableReader(_Reader):
    """Turns a value into parts that are the same in every process, and in which nothing is left out."""

    def _inside(self, value: Any) -> Any:
        if isinstance(value, (list, set)):
            raise _Unstable  # it may be there to be filled while a program is traced, which will not happen
        if isinstance(value, inspect.Signature):
            return "signature"  # that of a compiled function, which is read beside it
        if isinstance(value, jax.tree_util.PyTreeDef):
            return "tree", str(value)
        if type(value).__name__ == "PjitInfo" and hasattr(value, "fun_sourceinfo"):
            value = value._replace(fun_sourceinfo=None)  # a file's path
        return super()._inside(value)

    def _function(self, function: types.FunctionType) -> Any:
        version = _version(function.__module__) if self._is_library(function) else None
        return version, super()._function(function)

    def _is_library(self, function: types.FunctionType) -> bool:
        try:
            _version(function.__module__)
        except _Unstable:
            return False
        return True

    def _object(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return "module", value.__name__, _version(value.__name__)
        if isinstance(value, types.BuiltinFunctionType):
            return "builtin", value.__qualname__, value.__module__, _version(value.__module__)
        if isinstance(value, type):
            return value
        if type(value).__name__ == "UnspecifiedValue" and type(value).__module__.startswith("jax."):
            return "unspecified"
        raise _Unstable

    def _same(self, value: Any) -> Any:
        raise _Unstable


@functools.cache
def _version(module: str | None) -> str:
    """The version of the installed package that a module belongs to; modules of others are unstable."""
    top = str(module).partition(".")[0]
    if top == _PACKAGE or top in sys.stdlib_module_names:
        return ""  # the source of bojax and the version of Python are told apart where programs are stored
    try:
        package = importlib.metadata.distribution(top)
    except importlib.metadata.PackageNotFoundError:
        raise _Unstable from None
    root, file = str(package.locate_file("")), getattr(sys.modules.get(top), "__file__", None)
    # A package that is installed so that its source may be edited is elsewhere.
    if not file or not file.startswith(root) or os.path.basename(os.path.normpath(root)) not in _INSTALLED:
        raise _Unstable
    return package.version


def stable_text(*values: Any) -> str | None:
    """A text that is the same in every process for values made of the same parts, and another one for all others.

    Functions count by their code, what they close over and the global names that they read, as for `Alike`; functions
    and classes of installed packages by name and version. bojax's own count by name: whoever keeps the text beyond the
    process adds a digest of bojax's source and the version of Python.

    Args:
        *values: functions and plain values.

    Returns:
        A digest, or None where a part is known by its address only, such as an object of a user's class.
    """
    try:
        return hashlib.blake2b(_canonical(_StableReader([]).parts(values)), digest_size=20).hexdigest()
    except _Unstable:
        return None


_CODE = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_consts", "co_flags", "co_argcount")
_CODE += ("co_posonlyargcount", "co_kwonlyargcount", "co_exceptiontable")


def _canonical(part: Any) -> bytes:
    """Nested parts as bytes, different for parts that differ."""
    if isinstance(part, types.CodeType):
        return _canonical(("code", *(getattr(part, name) for name in _CODE)))
    if type(part) is tuple:
        kind, items = b"tuple", [_canonical(item) for item in part]
    elif type(part) is frozenset:
        kind, items = b"set", sorted(_canonical(item) for item in part)
    elif type(part) is bytes:
        kind, items = b"bytes", [part]
    elif isinstance(part, type):
        texts = part.__module__, part.__qualname__, _version(part.__module__)
        kind, items = b"type", [text.encode() for text in texts]
    elif type(part) in _PLAIN or isinstance(part, np.dtype):
        kind, items = b"plain", [type(part).__name__.encode(), repr(part).encode()]
    else:
        raise _Unstable
    return kind + b"".join(b"(%d:" % len(item) + item for item in items) + b")"

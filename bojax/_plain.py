"""What users hand over, as plain Python: scalars and arrays of NumPy, JAX and their like, alone or inside containers.

Every door of a study passes what it is given through here, so that all storages hold, and give back, the same objects.
"""

import decimal
import fractions
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_KINDS = "biufUV"
"""Kinds of NumPy types with plain values: the last one is that of bfloat16 and other small types of JAX."""


def plain(value: Any) -> Any:
    """Returns a scalar, or an array without axes, as the Python value it holds; all else as it is.

    Subclasses of bool, int, float and str, such as members of an `IntEnum`, become values of these types.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item") and value is not np.ma.masked:
        if getattr(getattr(value, "dtype", None), "kind", "f") not in _KINDS:
            return value  # complex numbers, bytes, dates
        try:
            value = value.item()
        except Exception:  # a traced value, a random key: whoever needs a number says so
            return value
        return float(value) if isinstance(value, np.floating) else value  # a longdouble stays one
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return value if type(value) is base else _AS_BASE[base](value)
    return value


def plain_number(value: Any) -> Any:
    """Returns like `plain`, and a `Decimal` or `Fraction` as a float."""
    value = plain(value)
    return float(value) if isinstance(value, (decimal.Decimal, fractions.Fraction)) else value


def plain_json(value: Any) -> Any:
    """Returns what a JSON text of a value would give back: numbers, texts, None, lists, and dicts with texts as names.

    Arrays and tuples become lists, `Decimal` and `Fraction` floats, and names of a dict texts. NaN and infinities stay.

    Raises:
        TypeError: something in it has no such form. The message begins with "it must fit into JSON".
    """
    try:
        result = _plain_json(value)
        json.dumps(result)  # for circles, and for integers that are too long to be written down
    except (RecursionError, ValueError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TypeError(f"it must fit into JSON: {what}") from None
    return result


_AS_BASE: dict[type, Any] = {int: int.__int__, float: float.__float__, str: str.__str__}


def _plain_json(value: Any) -> Any:
    value = plain_number(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_plain_json(item) for item in value]
    if hasattr(value, "__array__") and getattr(value, "shape", ()) != ():
        return _plain_array(value)
    raise TypeError(f"it must fit into JSON, got {_short(value)} ({type(value).__name__})")


def _plain_dict(value: Mapping) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        key = plain(key)
        if key is not None and not isinstance(key, (bool, int, float, str)):
            raise TypeError(f"it must fit into JSON, got the name {_short(key)} ({type(key).__name__})")
        name = key if isinstance(key, str) else json.dumps(key)
        if name in result:
            raise TypeError(f"it must fit into JSON, got the name {name!r} twice")
        result[name] = _plain_json(item)
    return result


def _plain_array(value: Any) -> list[Any]:
    try:
        array = np.asarray(value)
    except Exception as error:  # a traced, deleted or key array, or one on another device
        raise TypeError(f"it must fit into JSON, got an array that cannot be read: {_short(error)}") from error
    if array.dtype.kind not in _KINDS + "O" or array.dtype.names is not None:
        raise TypeError(f"it must fit into JSON, got an array of type {array.dtype}")
    return [_plain_json(item) for item in array] if array.dtype.kind in "OV" else _plain_json(array.tolist())


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, BaseException) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."

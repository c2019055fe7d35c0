"""The plain-data form of a space, for JSON, the model zoo and storages.

A mapping from name to the fields of the parameter, `type` first:
`{"width": {"type": "int", "low": 16, "high": 256, "log": true, "step": 1}}`.
"""

from collections.abc import Mapping
from typing import Any

from bojax.space._parameters import Categorical, Float, Int, Ordinal, Parameter, did_you_mean

_CLASSES = {"float": Float, "int": Int, "categorical": Categorical, "ordinal": Ordinal}
_FIELDS = {
    "float": ("low", "high", "log", "step", "when"),
    "int": ("low", "high", "log", "step", "when"),
    "categorical": ("choices", "when"),
    "ordinal": ("values", "when"),
}
_OPTIONAL = ("log", "step", "when")


def parameter_to_spec(parameter: Parameter) -> dict[str, Any]:
    """Returns the fields of `parameter` as plain data."""
    kind = next(kind for kind, cls in _CLASSES.items() if isinstance(parameter, cls))
    fields = {field: getattr(parameter, field) for field in _FIELDS[kind]}
    fields["when"] = {name: list(values) for name, values in parameter.when}
    fields = {field: value for field, value in fields.items() if field != "step" or value is not None}
    fields = {field: value for field, value in fields.items() if field != "when" or value}
    return {"type": kind} | {field: list(v) if isinstance(v, tuple) else v for field, v in fields.items()}


def parameter_from_spec(name: str, spec: Any) -> Parameter:
    """Returns the parameter that `spec` describes; error messages name it `name`."""
    if not isinstance(spec, Mapping):
        raise TypeError(f"The spec of `{name}` must be a mapping, got {spec!r} ({type(spec).__name__}).")
    kinds = list(_CLASSES)
    if "type" not in spec:
        raise ValueError(f"The spec of `{name}` must have a field 'type', one of {kinds}, got {dict(spec)}.")
    kind = spec["type"]
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise ValueError(f"The type of `{name}` must be one of {kinds}, got {kind!r}.{did_you_mean(kind, kinds)}")
    fields = _FIELDS[kind]
    for field in spec:
        if field != "type" and field not in fields:
            raise ValueError(
                f"The spec of `{name}` (type {kind!r}) must have no fields but {list(fields)}, got {field!r}."
                f"{did_you_mean(field, fields)}"
            )
    for field in fields:
        if field not in spec and field not in _OPTIONAL:
            raise ValueError(f"The spec of `{name}` (type {kind!r}) must have a field {field!r}, got {dict(spec)}.")
    try:
        return _CLASSES[kind](**{field: value for field, value in spec.items() if field != "type"})
    except (TypeError, ValueError) as error:
        raise type(error)(f"In the spec of `{name}`: {error}") from None

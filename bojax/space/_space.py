"""`Space`: an ordered set of named parameters, and their map to the unit cube [0, 1]^d, one column per parameter.

Methods on arrays (`decode`, `encode`, `round`, `positions`, `coordinates`, `sample`) are pure, traceable and batched
over leading axes; they keep the dtype of X. Methods on dicts of Python values (`to_params`, `from_params`, `to_arrays`)
run on the host in NumPy float64, independent of JAX's settings.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from bojax._plain import plain
from bojax._types import Array, Key
from bojax._types import Float as FloatArray
from bojax._types import Int as IntArray
from bojax.space import _encoding as encoding
from bojax.space._parameters import Categorical, Float, Int, Ordinal, Parameter, did_you_mean
from bojax.space._spec import parameter_from_spec, parameter_to_spec


@final
class Space(Mapping[str, Parameter]):
    """A search space: an immutable, ordered, hashable mapping from name to parameter.

    Two spaces are equal if names, order and parameters are equal. A space is static in compiled code: close over it, or
    pass it as a static argument.

    Args:
        parameters: mapping from name to `Float`, `Int`, `Categorical` or `Ordinal`. Its order is the order of the
            columns.
        **named: the same as keywords, instead of the mapping.

    Attributes:
        names: the names, in order.
        parameters: the parameters, in order.
        num_dims: d, the number of columns.
        num_values: number of values of each column, 0 for a Float without `step`.
        is_categorical: whether each column is a Categorical, whose positions have no order.
        cardinality: number of points of the space; None if it has a Float without `step`.

    Raises:
        TypeError: a name is not a string, a parameter is of another type, or both forms are given.
        ValueError: there are no parameters, or a name is empty.

    Example:
        >>> space = Space({"learning_rate": Float(1e-5, 1e-1, log=True), "layers": Int(1, 4)})
        >>> space.to_params([1.0, 0.9])
        {'learning_rate': 0.1, 'layers': 4}
    """

    __slots__ = ("_hash", "cardinality", "is_categorical", "names", "num_dims", "num_values", "parameters")

    names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    num_dims: int
    num_values: tuple[int, ...]
    is_categorical: tuple[bool, ...]
    cardinality: int | None

    def __init__(self, parameters: Mapping[str, Parameter] | None = None, /, **named: Parameter) -> None:
        if parameters is not None and named:
            raise TypeError(f"Space must be given a mapping or keywords, not both, got a mapping and {list(named)}.")
        given = named if parameters is None else parameters
        if not isinstance(given, Mapping):
            raise TypeError(f"`parameters` must map names to parameters, got {given!r} ({type(given).__name__}).")
        if not given:
            raise ValueError("`parameters` must not be empty, got none. Give at least one name and parameter.")
        for name, parameter in given.items():
            _check_entry(name, parameter)
        sizes = tuple(parameter.num_values for parameter in given.values())
        fields = {
            "names": tuple(given),
            "parameters": tuple(given.values()),
            "num_dims": len(given),
            "num_values": sizes,
            "is_categorical": tuple(isinstance(parameter, Categorical) for parameter in given.values()),
            "cardinality": math.prod(sizes) or None,
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)
        object.__setattr__(self, "_hash", hash((self.names, self.parameters)))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"A Space must not be changed, got {name}={value!r}. Make a new one.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"A Space must not be changed, got `del {name}`. Make a new one.")

    def __getitem__(self, name: str) -> Parameter:
        try:
            return self.parameters[self.names.index(name)]
        except ValueError:
            raise KeyError(f"no parameter {name!r} in {list(self.names)}.{did_you_mean(name, self.names)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return self.num_dims

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self.names == other.names and self.parameters == other.parameters

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        inner = ", ".join(f"{name!r}: {parameter!r}" for name, parameter in self.items())
        return f"Space({{{inner}}})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Space, (dict(self.items()),)

    # Pure functions of arrays.

    def decode(self, X: FloatArray[Array, "... d"]) -> dict[str, Array]:
        """Returns the native values of points of the unit cube.

        Args:
            X: points [..., d]; clipped to [0, 1].

        Returns:
            For each name an array [...]: a Float in the dtype of X, within [low, high]; an Int's value as
            int32; an Ordinal's or a Categorical's position as int32.
        """
        X, columns = self._points(X)
        positions = encoding.positions(columns, X, jnp)
        values = encoding.grid_values(columns, positions, encoding.float_values(columns, X, jnp), jnp)
        c = columns.against(X)
        numbers = c.first + c.step * positions
        return {
            name: (values if isinstance(parameter, Float) else numbers)[..., i]
            for i, (name, parameter) in enumerate(self.items())
        }

    def encode(self, params: Mapping[str, Any], *, dtype: Any = None) -> FloatArray[Array, "... d"]:
        """Returns the points of native values: the inverse of `decode`.

        Values outside their bounds are clipped, because compiled code cannot raise; `from_params` checks them.

        Args:
            params: for each name an array [...] as `decode` gives it; shapes broadcast.
            dtype: floating dtype of the result; by default that of the Float columns, or JAX's default if there are
                none.

        Returns:
            Points [..., d] in the unit cube.

        Raises:
            ValueError: a name is missing or unknown.
        """
        self._check_names(params)
        arrays = [jnp.asarray(params[name]) for name in self.names]
        if dtype is None:
            floats = [a for a, p in zip(arrays, self.parameters, strict=True) if isinstance(p, Float)]
            dtype = jnp.result_type(*floats) if floats else jnp.result_type(float)
            dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
        shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
        values, numbers = [], []
        for array, parameter in zip(arrays, self.parameters, strict=True):
            array, is_float = jnp.broadcast_to(array, shape), not parameter.num_values
            values.append(array.astype(dtype) if is_float else jnp.zeros(shape, dtype))
            numbers.append(jnp.zeros(shape, jnp.int32) if is_float else _position(parameter, array))
        V = jnp.stack(values, axis=-1)
        columns = encoding.make_columns(self.parameters, np.dtype(V.dtype))
        X = encoding.float_coordinates(columns, V, jnp)
        return encoding.coordinates(columns, jnp.stack(numbers, axis=-1), X, jnp)

    def round(self, X: FloatArray[Array, "... d"]) -> FloatArray[Array, "... d"]:
        """Returns the nearest representable points: cell centers, or [0, 1] in Float columns.

        Idempotent bit for bit. A discrete column with more cells than the dtype can distinguish (in float32 2e6, or
        1.5e5 for a log Int) is only clipped. To compare points use `positions`: coordinates of log Ints with more than
        4096 values may differ in the last bit with the shape of X and under `jit`.
        """
        X, columns = self._points(X)
        return encoding.round_to_cells(columns, X, jnp)

    def positions(self, X: FloatArray[Array, "... d"]) -> IntArray[Array, "... d"]:
        """Returns the 0-based value numbers, int32, of discrete columns, and 0 for Float columns."""
        X, columns = self._points(X)
        return encoding.positions(columns, X, jnp)

    def coordinates(self, P: IntArray[Array, "... d"], X: FloatArray[Array, "... d"]) -> FloatArray[Array, "... d"]:
        """Returns X with discrete columns replaced by the cell centers of positions P; Float columns are unchanged.

        Args:
            P: value numbers [..., d], clipped to the valid range; entries of Float columns are ignored.
            X: points [..., d]; leading axes broadcast with those of P.
        """
        X, columns = self._points(X)
        P = jnp.asarray(P)
        if not jnp.issubdtype(P.dtype, jnp.integer):
            raise TypeError(f"`P` must be integers, got dtype {P.dtype}.")
        shape = jnp.broadcast_shapes(P.shape, X.shape)
        return encoding.coordinates(columns, jnp.broadcast_to(P, shape), jnp.broadcast_to(X, shape), jnp)

    def sample(self, key: Key, num_points: int, dtype: Any = None) -> FloatArray[Array, "n d"]:
        """Returns `num_points` points [num_points, d], uniform on the unit cube and rounded.

        Floats are uniform or log-uniform, choices and values equally likely, and the probability of a value of a log
        Int is the width of its cell.

        Args:
            key: random key, as `jax.random.key` makes it.
            num_points: number of points.
            dtype: floating dtype; by default that of JAX (float64 under `jax.enable_x64`).
        """
        dtype = jnp.result_type(float) if dtype is None else dtype
        return self.round(jax.random.uniform(key, (num_points, self.num_dims), dtype))

    # Host functions of Python values.

    def to_params(self, x: Any) -> dict[str, Any]:
        """Returns the native values of one point as plain Python values: float, int, or the choice itself.

        Args:
            x: one point [d] of the unit cube; clipped to [0, 1].

        Raises:
            ValueError: `x` has another shape, or is not finite.
        """
        x = np.asarray(x, np.float64)
        if x.shape != (self.num_dims,):
            raise ValueError(f"`x` must have shape ({self.num_dims},), got {x.shape}. Pass one point at a time.")
        if not np.isfinite(x).all():
            raise ValueError(f"`x` must be finite, got {x}.")
        columns = encoding.make_columns(self.parameters, x.dtype)
        values = encoding.float_values(columns, x, np).tolist()
        numbers = encoding.positions(columns, x, np).tolist()
        return {
            name: parameter.value(numbers[i]) if parameter.num_values else values[i]
            for i, (name, parameter) in enumerate(self.items())
        }

    def from_params(self, params: Mapping[str, Any]) -> np.ndarray:
        """Returns the point, float64 [d], of one dict of plain Python values: the inverse of `to_params`.

        Raises:
            TypeError: `params` is not a mapping, or a value has the wrong type.
            ValueError: a name is missing or unknown; a value is out of range, off the step grid, or not a choice.
        """
        self._check_names(params)
        values, numbers = np.zeros(self.num_dims), np.zeros(self.num_dims, np.int32)
        for i, (name, parameter) in enumerate(self.items()):
            if isinstance(parameter, Float) and not parameter.num_values:
                values[i] = parameter.check(params[name], name=name)
            else:
                numbers[i] = parameter.position(params[name], name=name)
        columns = encoding.make_columns(self.parameters, values.dtype)
        return encoding.coordinates(columns, numbers, encoding.float_coordinates(columns, values, np), np)

    def to_arrays(self, params: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns many dicts of plain Python values as one dict of arrays [n], in the form of `decode`.

        Floats are float64, Ints int32 values, Ordinals and Categoricals int32 positions. Values are checked.
        """
        columns: dict[str, list[Any]] = {name: [] for name in self.names}
        for row in params:
            self._check_names(row)
            for name, parameter in self.items():
                value = row[name]
                if isinstance(parameter, Float):
                    columns[name].append(parameter.check(value, name=name))
                else:
                    position = parameter.position(value, name=name)
                    columns[name].append(parameter.value(position) if isinstance(parameter, Int) else position)
        kinds = {name: np.float64 if isinstance(p, Float) else np.int32 for name, p in self.items()}
        return {name: np.array(column, kinds[name]) for name, column in columns.items()}

    # Plain data.

    def to_spec(self) -> dict[str, dict[str, Any]]:
        """Returns the space as plain data for JSON: name to `{"type": "float", "low": ...}`, in order."""
        return {name: parameter_to_spec(parameter) for name, parameter in self.items()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Mapping[str, Any]]) -> "Space":
        """Returns the space that plain data describes: the inverse of `to_spec`.

        Args:
            spec: mapping from name to fields: `type` ("float", "int", "categorical", "ordinal") and the arguments of
                that class.

        Raises:
            TypeError: `spec` or an entry is not a mapping, or a field has the wrong type.
            ValueError: a type is unknown, a field is unknown or missing, or arguments are inconsistent.
        """
        if not isinstance(spec, Mapping):
            raise TypeError(f"`spec` must map names to fields, got {spec!r} ({type(spec).__name__}).")
        return cls({name: parameter_from_spec(name, fields) for name, fields in spec.items()})

    # Private.

    def _points(self, X: Any) -> tuple[Array, encoding.Columns]:
        X = jnp.asarray(X)
        if not jnp.issubdtype(X.dtype, jnp.floating):
            raise TypeError(f"`X` must be floating, got dtype {X.dtype}. Points lie in the unit cube.")
        if X.ndim == 0 or X.shape[-1] != self.num_dims:
            raise ValueError(f"`X` must have shape [..., {self.num_dims}], got {X.shape}.")
        return X, encoding.make_columns(self.parameters, np.dtype(X.dtype))

    def _check_names(self, params: Any) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(f"`params` must map names to values, got {params!r} ({type(params).__name__}).")
        for name in params:
            if name not in self.names:
                hint = did_you_mean(name, [known for known in self.names if known not in params])
                raise ValueError(f"`params` must have no names but {list(self.names)}, got {name!r}.{hint}")
        missing = [name for name in self.names if name not in params]
        if missing:
            raise ValueError(f"`params` must have all names of the space, got {list(params)}. Missing: {missing}.")


def _check_entry(name: Any, parameter: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"A name in `parameters` must be a str, got {name!r} ({type(name).__name__}).")
    if not name:
        raise ValueError("A name in `parameters` must not be empty, got ''.")
    if not isinstance(parameter, (Float, Int, Categorical, Ordinal)):
        raise TypeError(
            f"`{name}` must be a Float, Int, Categorical or Ordinal, got {plain(parameter)!r} "
            f"({type(parameter).__name__}). For plain data use Space.from_spec."
        )


def _position(parameter: Parameter, value: Array) -> Array:
    if isinstance(parameter, Float):
        steps = (jnp.clip(value, parameter.low, parameter.high) - parameter.low) / parameter._given_step()
        return jnp.clip(jnp.rint(steps), 0, parameter.num_values - 1).astype(jnp.int32)
    value = (jnp.rint(value) if jnp.issubdtype(value.dtype, jnp.floating) else value).astype(jnp.int32)
    if not isinstance(parameter, Int):
        return value
    return (jnp.clip(value, parameter.low, parameter.high) - parameter.low) // parameter.step

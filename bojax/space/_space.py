"""`Space`: an ordered set of named parameters, and their map to the unit cube [0, 1]^d, one column per parameter.

Methods on arrays (`decode`, `encode`, `round`, `positions`, `coordinates`, `sample`) are pure, traceable and batched
over leading axes; they keep the dtype of X. Methods on dicts of Python values (`to_params`, `from_params`, `to_arrays`)
run on the host in NumPy float64, independent of JAX's settings.

Constraints say which points of the cube count. Points that `encode`, `round` and `from_params` make may be infeasible:
`is_feasible` tells.

A parameter with `when` exists only under some values of others. Where it does not, dicts of Python values leave it out,
its coordinate is 0.5, `decode` gives its lowest value, and `active` tells it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from bojax._plain import plain
from bojax._types import Array, Key
from bojax._types import Bool as BoolArray
from bojax._types import Float as FloatArray
from bojax._types import Int as IntArray
from bojax.space import _conditions, _region
from bojax.space import _encoding as encoding
from bojax.space._constraints import Constraint, constraint_to_spec, constraints_from_spec, functions_of
from bojax.space._parameters import Categorical, Float, Int, Ordinal, Parameter, did_you_mean
from bojax.space._spec import parameter_from_spec, parameter_to_spec

CONSTRAINTS = "bojax:constraints"
"""Where the plain data of a space holds its constraints; no parameter may have this name."""


@final
class Space(Mapping[str, Parameter]):
    """A search space: an immutable, ordered, hashable mapping from name to parameter.

    Two spaces are equal if names, order and parameters are equal. A space is static in compiled code: close over it, or
    pass it as a static argument.

    Args:
        parameters: mapping from name to `Float`, `Int`, `Categorical` or `Ordinal`. Its order is the order of the
            columns.
        constraints: which points are feasible: traceable functions of the decoded parameters of a point (a dict as
            `decode` gives it, inactive parameters at their lowest value) that return one number, at least 0 where it
            is feasible; or `bojax.linear(...)`. Points that are not feasible are never suggested. Functions with the
            same code and values count as equal.
        **named: the parameters as keywords, instead of the mapping.

    Attributes:
        names: the names, in order.
        parameters: the parameters, in order.
        num_dims: d, the number of columns.
        num_values: number of values of each column, 0 for a Float without `step`.
        is_categorical: whether each column is a Categorical, whose positions have no order.
        is_conditional: whether a parameter has the argument `when`.
        cardinality: number of (feasible) points of the space; None if it has a Float without `step`. Of a constrained
            space with more than 65,536 points in all, their number, which is an upper bound.
        constraints: the constraints, in order.
        region: the feasible region; None without constraints.
        conditions: the arguments `when` as arrays, joined with those of the parents.

    Raises:
        TypeError: a name is not a string, a parameter is of another type, both forms are given, or a constraint is not
            a traceable function to one number.
        ValueError: there are no parameters, a name is empty, or an argument `when` names an unknown or continuous
            parameter or values that it does not have, forms a circle, or can never hold; or a constraint is NaN
            somewhere or names no parameter that has an order.
        BojaxError: no feasible point is found among 65,536 random points and 25,600 points of a search.

    Example:
        >>> space = Space({"learning_rate": Float(1e-5, 1e-1, log=True), "layers": Int(1, 4)})
        >>> space.to_params([1.0, 0.9])
        {'learning_rate': 0.1, 'layers': 4}
        >>> choice = Categorical(["adam", "sgd"])
        >>> branching = Space(optimizer=choice, momentum=Float(0.0, 0.9, when={"optimizer": "sgd"}))
        >>> branching.to_params([0.2, 1.0]), branching.to_params([0.8, 1.0])
        ({'optimizer': 'adam'}, {'optimizer': 'sgd', 'momentum': 0.9})
        >>> disk = Space(
        ...     {"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}, constraints=[lambda p: 1.0 - p["x"] ** 2 - p["y"] ** 2]
        ... )
        >>> disk.is_feasible([[0.5, 0.5], [1.0, 1.0]]).tolist()
        [True, False]
    """

    __slots__ = (
        "_deciding",
        "_hash",
        "_key",
        "_resolved",
        "cardinality",
        "conditions",
        "constraints",
        "is_categorical",
        "is_conditional",
        "names",
        "num_dims",
        "num_values",
        "parameters",
        "region",
    )

    names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    num_dims: int
    num_values: tuple[int, ...]
    is_categorical: tuple[bool, ...]
    is_conditional: bool
    cardinality: int | None
    conditions: _conditions.Conditions
    constraints: tuple[Constraint, ...]
    region: _region.Region | None
    _key: Any
    _resolved: _conditions.Resolved
    _deciding: frozenset[int]

    def __init__(
        self,
        parameters: Mapping[str, Parameter] | None = None,
        /,
        *,
        constraints: Sequence[Constraint] = (),
        **named: Parameter,
    ) -> None:
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
        resolved = _conditions.resolve(given)
        fields = {
            "names": tuple(given),
            "parameters": tuple(given.values()),
            "num_dims": len(given),
            "num_values": sizes,
            "is_categorical": tuple(isinstance(parameter, Categorical) for parameter in given.values()),
            "is_conditional": any(resolved),
            "cardinality": _conditions.count_points(tuple(given.values()), resolved),
            "_resolved": resolved,
            "_deciding": frozenset(parent for column in resolved for parent in column),
            "conditions": _conditions.as_arrays(resolved, sizes),
            "constraints": (),
            "region": None,
            "_key": None,
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)
        object.__setattr__(self, "_hash", hash((self.names, self.parameters)))
        self._constrain(constraints)

    def _constrain(self, given: Any, found: Any = None) -> None:
        """Completes a new space by its constraints, and by what was found of them before."""
        constraints, key = _region.checked_constraints(self, given)
        if key is None:
            return
        for field, value in {"constraints": constraints, "_key": key, "_hash": hash((self._hash, key))}.items():
            object.__setattr__(self, field, value)
        region = _region.region_of(self, key, found)
        object.__setattr__(self, "region", region)
        if region.anchors.count is not None:
            object.__setattr__(self, "cardinality", region.anchors.count)

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
        return self.names == other.names and self.parameters == other.parameters and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        inner = ", ".join(f"{name!r}: {parameter!r}" for name, parameter in self.items())
        constraints = [constraint_to_spec(constraint).get("name", constraint) for constraint in self.constraints]
        return f"Space({{{inner}}}{f', constraints={constraints!r}' if constraints else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (dict(self.items()), self.constraints, self.region and self.region[1:])

    # Pure functions of arrays.

    def decode(self, X: FloatArray[Array, "... d"]) -> dict[str, Array]:
        """Returns the native values of points of the unit cube.

        Args:
            X: points [..., d]; clipped to [0, 1].

        Returns:
            For each name an array [...]: a Float in the dtype of X, within [low, high]; an Int's value as
            int32; an Ordinal's or a Categorical's position as int32. Inactive parameters have their lowest value.
        """
        X, columns = self._points(X)
        positions = encoding.positions(columns, X, jnp)
        if self.is_conditional:
            exists = _conditions.active(self.conditions, positions, jnp)
            X, positions = jnp.where(exists, X, 0.0), jnp.where(exists, positions, 0)
        values: Any = encoding.grid_values(columns, positions, encoding.float_values(columns, X, jnp), jnp)
        c = columns.against(X)
        numbers: Any = c.first + c.step * positions
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
        P = jnp.stack(numbers, axis=-1)
        return self._without_inactive(encoding.coordinates(columns, P, X, jnp), P, jnp)

    def active(self, X: FloatArray[Array, "... d"]) -> BoolArray[Array, "... d"]:
        """Returns which parameters exist at points: all but those whose argument `when` does not hold.

        Args:
            X: points [..., d] of the unit cube.

        Example:
            >>> space = Space(kind=Categorical(["a", "b"]), x=Float(0.0, 1.0, when={"kind": "b"}))
            >>> space.active(jnp.array([[0.25, 0.5], [0.75, 0.5]])).tolist()
            [[True, False], [True, True]]
        """
        X, columns = self._points(X)
        return _conditions.active(self.conditions, encoding.positions(columns, X, jnp), jnp)

    def is_feasible(self, X: FloatArray[Array, "... d"]) -> BoolArray[Array, "..."]:
        """Returns whether points satisfy all constraints.

        Args:
            X: points [..., d] of the unit cube.

        Returns:
            [...] bool; true without constraints. Margins may be below 0 by rounding: by 1e-9 (1e-5 in float32) of a
            function's mean absolute value over the cube, or of the largest value that a linear constraint's terms
            could add up to.

        Example:
            >>> space = Space({"a": Int(0, 9), "b": Int(0, 9)}, constraints=[lambda p: 9 - p["a"] - p["b"]])
            >>> space.cardinality, bool(space.is_feasible(jnp.array([0.95, 0.05])))
            (55, True)
        """
        return _region.is_feasible(self, self._points(X)[0])

    def round(self, X: FloatArray[Array, "... d"]) -> FloatArray[Array, "... d"]:
        """Returns the nearest representable points: cell centers, [0, 1] in Float columns, 0.5 where inactive.

        Idempotent bit for bit. A discrete column with more cells than the dtype can distinguish (in float32 2e6, or
        1.5e5 for a log Int) is only clipped. To compare points use `positions`: coordinates of log Ints with more than
        4096 values may differ in the last bit with the shape of X and under `jit`.
        """
        X, columns = self._points(X)
        rounded = encoding.round_to_cells(columns, X, jnp)
        return self._without_inactive(rounded, encoding.positions(columns, X, jnp), jnp)

    def positions(self, X: FloatArray[Array, "... d"]) -> IntArray[Array, "... d"]:
        """Returns the 0-based value numbers, int32, of discrete columns, and 0 for Float columns.

        Inactive columns have the number that belongs to their coordinate.
        """
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
        P = jnp.broadcast_to(P, shape)
        return self._without_inactive(encoding.coordinates(columns, P, jnp.broadcast_to(X, shape), jnp), P, jnp)

    def sample(self, key: Key, num_points: int, dtype: Any = None) -> FloatArray[Array, "n d"]:
        """Returns `num_points` points [num_points, d], uniform on the unit cube and rounded.

        Floats are uniform or log-uniform, choices and values equally likely, and the probability of a value of a log
        Int is the width of its cell. Parameters that decide about others do not depend on how many those are. With
        constraints, all points are feasible; they are uniform where at least one in eight of the cube is.

        Args:
            key: random key, as `jax.random.key` makes it.
            num_points: number of points.
            dtype: floating dtype; by default that of JAX (float64 under `jax.enable_x64`).
        """
        dtype = jnp.result_type(float) if dtype is None else dtype
        if self.region is not None:
            return _region.sampled(self, key, num_points, dtype)
        return self.round(jax.random.uniform(key, (num_points, self.num_dims), dtype))

    # Host functions of Python values.

    def to_params(self, x: Any) -> dict[str, Any]:
        """Returns the native values of one point as plain Python values: float, int, or the choice itself.

        Inactive parameters are left out.

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
        positions = encoding.positions(columns, x, np)
        numbers, exists = positions.tolist(), _conditions.active(self.conditions, positions, np).tolist()
        return {
            name: parameter.value(numbers[i]) if parameter.num_values else values[i]
            for i, (name, parameter) in enumerate(self.items())
            if exists[i]
        }

    def from_params(self, params: Mapping[str, Any]) -> np.ndarray:
        """Returns the point, float64 [d], of one dict of plain Python values: the inverse of `to_params`.

        Raises:
            TypeError: `params` is not a mapping, or a value has the wrong type.
            ValueError: a name is missing, unknown or of an inactive parameter; a value is out of range, off the step
                grid, or not a choice.
        """
        self._check_names(params, partial=self.is_conditional)
        x = self._coordinates(params)
        if self.is_conditional:
            active = self.active_names(params)
            self._check_active(params, active)
            x = np.where([name in active for name in self.names], x, _conditions.INACTIVE)
        return x

    def active_names(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the names of the parameters that exist given values of those that decide about them, in order.

        Args:
            params: plain Python values by name. A parameter that is missing here, or has a value that does not belong
                to it, makes those that need it absent; further names are ignored.

        Example:
            >>> space = Space(kind=Categorical(["a", "b"]), x=Float(0.0, 1.0, when={"kind": "b"}))
            >>> space.active_names({"kind": "a"}), space.active_names({"kind": "b"})
            (('kind',), ('kind', 'x'))
        """
        if not self.is_conditional:
            return self.names
        numbers: dict[int, int] = {}
        for i in self._deciding:
            name, parameter = self.names[i], self.parameters[i]
            with contextlib.suppress(KeyError, TypeError, ValueError):
                numbers[i] = parameter.position(params[name], name=name)
        exists = [
            all(numbers.get(parent, -1) in positions for parent, positions in column.items())
            for column in self._resolved
        ]
        return tuple(name for name, there in zip(self.names, exists, strict=True) if there)

    def in_order(self) -> tuple[str, ...]:
        """Returns the names such that those of parents come before those of parameters that need them.

        Example:
            >>> Space(x=Float(0.0, 1.0, when={"kind": "b"}), kind=Categorical(["a", "b"])).in_order()
            ('kind', 'x')
        """
        return tuple(self.names[i] for i in sorted(range(self.num_dims), key=lambda i: len(self._resolved[i])))

    def coordinates_of(self, params: Mapping[str, Any]) -> np.ndarray:
        """Returns the coordinates, float64 [d], of some parameters, NaN for those without a value.

        Raises:
            TypeError: `params` is not a mapping, or a value has the wrong type.
            ValueError: a name is unknown; a value is out of range, off the step grid, or not a choice.
        """
        self._check_names(params, partial=True)
        return self._coordinates(params)

    def is_complete(self, params: Mapping[str, Any]) -> bool:
        """Returns whether a dict of plain Python values has all parameters that exist at its point.

        Args:
            params: plain Python values by name; names that are not in the space are ignored.

        Example:
            >>> space = Space(kind=Categorical(["a", "b"]), x=Float(0.0, 1.0, when={"kind": "b"}))
            >>> space.is_complete({"kind": "a"}), space.is_complete({"kind": "b"})
            (True, False)
        """
        return set(self.active_names(params)) <= set(params)

    def num_points(self, held: Mapping[str, Any] | None = None) -> int | None:
        """Returns the number of points that have the held values; None if a free Float without `step` can exist.

        Args:
            held: plain Python values by name; all parameters are free by default.

        Example:
            >>> Space(kind=Categorical(["a", "b"]), n=Int(1, 9, when={"kind": "b"})).num_points({"kind": "b"})
            9
        """
        fixed = {
            self.names.index(name): self[name].position(value, name=name) if self[name].num_values else None
            for name, value in (held or {}).items()
        }
        return _conditions.count_points(self.parameters, self._resolved, fixed)

    def to_arrays(self, params: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns many dicts of plain Python values as one dict of arrays [n], in the form of `decode`.

        Floats are float64, Ints int32 values, Ordinals and Categoricals int32 positions, of absent parameters the
        lowest. Values are checked.
        """
        columns: dict[str, list[Any]] = {name: [] for name in self.names}
        for row in params:
            self._check_names(row, partial=self.is_conditional)
            self._check_active(row, self.active_names(row))
            for name, parameter in self.items():
                if isinstance(parameter, Float):
                    value = parameter.check(row[name], name=name) if name in row else parameter.low
                    columns[name].append(value)
                else:
                    position = parameter.position(row[name], name=name) if name in row else 0
                    columns[name].append(parameter.value(position) if isinstance(parameter, Int) else position)
        kinds = {name: np.float64 if isinstance(p, Float) else np.int32 for name, p in self.items()}
        return {name: np.array(column, kinds[name]) for name, column in columns.items()}

    def feasible_points(self) -> np.ndarray | None:
        """Returns all feasible points [n, d] of a constrained finite space; None if they are not all known (> 1,024).

        Example:
            >>> space = Space({"n": Int(1, 4)}, constraints=[lambda p: 2 - p["n"]])
            >>> [space.to_params(x) for x in sorted(space.feasible_points())]
            [{'n': 1}, {'n': 2}]
        """
        if self.region is None or self.region.anchors.count != len(self.region.anchors.points):
            return None
        return self.region.anchors.points

    def all_positions(self) -> IntArray[np.ndarray, "n d"]:
        """Returns every point of a finite space, as positions; 0 for inactive parameters.

        Raises:
            ValueError: the space has a Float without `step`.
        """
        if self.cardinality is None:
            raise ValueError(f"A space must be finite to be enumerated, got {self!r}.")
        return _conditions.all_positions(self.parameters, self._resolved)

    def conditions_of(self, num_dims: int, num_conditions: int, num_entries: int) -> _conditions.Conditions:
        """Returns `conditions` with further columns, conditions and values that change nothing."""
        padding = num_dims - self.num_dims
        sizes = (*self.num_values, *(0,) * padding)
        return _conditions.as_arrays((*self._resolved, *({},) * padding), sizes, num_conditions, num_entries)

    # Plain data.

    def to_spec(self) -> dict[str, Any]:
        """Returns the space as plain data for JSON: name to `{"type": "float", "low": ...}`, in order.

        Constraints are a list under "bojax:constraints": linear ones as they are, of functions only the names.
        """
        spec: dict[str, Any] = {name: parameter_to_spec(parameter) for name, parameter in self.items()}
        constraints = [constraint_to_spec(constraint) for constraint in self.constraints]
        return spec | ({CONSTRAINTS: constraints} if constraints else {})

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, functions: Sequence[Constraint] = ()) -> "Space":
        """Returns the space that plain data describes: the inverse of `to_spec`.

        Args:
            spec: mapping from name to fields: `type` ("float", "int", "categorical", "ordinal") and the arguments of
                that class.
            functions: the constraint functions of the space, which plain data only names, in order. Only their names
                can be compared.

        Raises:
            TypeError: `spec` or an entry is not a mapping, or a field has the wrong type.
            ValueError: a type is unknown, a field is unknown or missing, arguments are inconsistent, or `functions`
                are not those that the spec names.
        """
        if not isinstance(spec, Mapping):
            raise TypeError(f"`spec` must map names to fields, got {spec!r} ({type(spec).__name__}).")
        parameters = {n: parameter_from_spec(n, fields) for n, fields in spec.items() if n != CONSTRAINTS}
        return cls(parameters, constraints=constraints_from_spec(spec.get(CONSTRAINTS, []), functions))

    def functions(self) -> tuple[Constraint, ...]:
        """Returns the constraints that are functions, which `to_spec` cannot store."""
        return functions_of(self)

    def broken_by(self, params: Mapping[str, Any]) -> str | None:
        """Returns which constraint a dict of plain Python values breaks, for messages; None if it is feasible.

        Raises:
            TypeError, ValueError: see `from_params`.

        Example:
            >>> space = Space({"a": Float(0.0, 1.0)}, constraints=[lambda p: 0.5 - p["a"]])
            >>> space.broken_by({"a": 0.25}), space.broken_by({"a": 0.75})
            (None, 'constraint 0 (<lambda>)')
        """
        return _region.broken(self, self.from_params(params))

    # Private.

    def _points(self, X: Any) -> tuple[Array, encoding.Columns]:
        X = jnp.asarray(X)
        if not jnp.issubdtype(X.dtype, jnp.floating):
            raise TypeError(f"`X` must be floating, got dtype {X.dtype}. Points lie in the unit cube.")
        if X.ndim == 0 or X.shape[-1] != self.num_dims:
            raise ValueError(f"`X` must have shape [..., {self.num_dims}], got {X.shape}.")
        return X, encoding.make_columns(self.parameters, np.dtype(X.dtype))

    def _check_names(self, params: Any, *, partial: bool = False) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(f"`params` must map names to values, got {params!r} ({type(params).__name__}).")
        for name in params:
            if name not in self.names:
                hint = did_you_mean(name, [known for known in self.names if known not in params])
                raise ValueError(f"`params` must have no names but {list(self.names)}, got {name!r}.{hint}")
        missing = [name for name in self.names if name not in params]
        if missing and not partial:
            raise ValueError(f"`params` must have all names of the space, got {list(params)}. Missing: {missing}.")

    def _coordinates(self, params: Mapping[str, Any]) -> np.ndarray:
        """`coordinates_of`, of names that were checked."""
        values, numbers = np.zeros(self.num_dims), np.zeros(self.num_dims, np.int32)
        for i, (name, parameter) in enumerate(self.items()):
            if name not in params:
                continue
            if isinstance(parameter, Float) and not parameter.num_values:
                values[i] = parameter.check(params[name], name=name)
            else:
                numbers[i] = parameter.position(params[name], name=name)
        columns = encoding.make_columns(self.parameters, values.dtype)
        x = encoding.coordinates(columns, numbers, encoding.float_coordinates(columns, values, np), np)
        return np.where([name in params for name in self.names], x, np.nan)

    def _check_active(self, params: Mapping[str, Any], active: Sequence[str]) -> None:
        """Raises ValueError if an active parameter is missing, or an inactive one is there."""
        for name, parameter in self.items():
            if name in active and name not in params:
                raise ValueError(
                    f"`params` must have all names that exist at its point, got {list(params)}. Missing: {name!r}."
                )
            if name not in active and name in params:
                needed = {parent: list(values) for parent, values in parameter.when}
                raise ValueError(f"`{name}` must be left out of `params` unless {needed} holds, got {dict(params)}.")

    def _without_inactive(self, X: Any, P: Any, xp: ModuleType) -> Any:
        """The points with the coordinates of inactive parameters at 0.5, given all positions."""
        if not self.is_conditional:
            return X
        return xp.where(_conditions.active(self.conditions, P, xp), X, X.dtype.type(_conditions.INACTIVE))


def describes(spec: Mapping[str, Any], space: Space) -> bool:
    """Compare plain data with a space; functions are compared by their names only.

    Args:
        spec: plain data, as `Space.to_spec` gives it.
        space: the space.

    Returns:
        Whether the plain data are those of the space.

    Example:
        >>> describes({"x": {"type": "float", "low": 0.0, "high": 1.0}}, Space(x=Float(0.0, 1.0)))
        True
    """
    parameters = {name: fields for name, fields in spec.items() if name != CONSTRAINTS}
    stored, own = spec.get(CONSTRAINTS, []), space.to_spec().get(CONSTRAINTS, [])
    return stored == own and Space.from_spec(parameters) == Space(dict(space))


def _remade(parameters: dict[str, Parameter], constraints: tuple[Constraint, ...], found: Any) -> Space:
    """A space that was pickled, with its feasible points."""
    space = Space(parameters)
    space._constrain(constraints, found)
    return space


def _check_entry(name: Any, parameter: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"A name in `parameters` must be a str, got {name!r} ({type(name).__name__}).")
    if name == CONSTRAINTS:
        raise ValueError(f"A name in `parameters` must not be {CONSTRAINTS!r}, which stands for constraints.")
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

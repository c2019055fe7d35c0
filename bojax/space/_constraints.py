"""Input constraints: which points of the cube belong to a space.

A constraint is a function of the decoded parameters of one point, feasible where its value, the *margin*, is at least
0; or `Linear`, which is plain data. Margins are divided by a scale, so that tolerances and penalties mean the same:

    linear      |limit| + sum |weight| max(|low|, |high|), a bound of the margin
    function    the mean of |margin| over sampled points of the cube

Functions are called point by point under `vmap`. Of an inactive parameter they see what `decode` gives, its lowest
value.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._namespace import namespace
from bojax._plain import plain
from bojax._runtime import host_scope
from bojax.space._choices import check_choices
from bojax.space._parameters import Float, Int, did_you_mean

if TYPE_CHECKING:
    from bojax.space._space import Space

TOLERANCE, TOLERANCE_32 = 1e-9, 1e-5
"""How far below 0 a scaled margin may be where a point counts as feasible, in float64 and in float32."""
NUM_SAMPLES = 1024
"""Points at which new functions are evaluated."""
ROWS = 512
"""Points that the host's program of the functions takes at a time."""

Constraint = Callable[[dict[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Linear:
    """A bound on a weighted sum of Float and Int parameters, made by `linear`. Plain data, and a constraint function.

    Attributes:
        weights: pairs of a name and its weight.
        at_most: the upper bound of the sum; None if there is none.
        at_least: the lower bound of the sum; None if there is none.

    Example:
        >>> import bojax
        >>> float(bojax.linear({"a": 1, "b": 2}, at_most=1.0)({"a": 0.25, "b": 0.25}))
        0.25
    """

    weights: tuple[tuple[str, float], ...]
    at_most: float | None = None
    at_least: float | None = None

    def __call__(self, params: Mapping[str, Any]) -> Any:
        """The margin of decoded parameters: the smaller distance to the bounds, negative outside of them."""
        total = sum(weight * params[name] for name, weight in self.weights)
        margins = [] if self.at_most is None else [self.at_most - total]
        margins += [] if self.at_least is None else [total - self.at_least]
        return margins[0] if len(margins) == 1 else jnp.minimum(*margins)

    def __repr__(self) -> str:
        bounds = [f"{name}={value!r}" for name in ("at_most", "at_least") if (value := getattr(self, name)) is not None]
        return f"linear({dict(self.weights)!r}, {', '.join(bounds)})"


def linear(weights: Mapping[str, float], *, at_most: float | None = None, at_least: float | None = None) -> Linear:
    """A linear constraint of a space: a bound on a weighted sum of parameters in their native units.

    It is plain data: equal ones compare equal, and a study stores them.

    Args:
        weights: weight of each Float or Int parameter in the sum, by name; finite, not all 0.
        at_most: the sum is at most this.
        at_least: the sum is at least this.

    Returns:
        A constraint for `bojax.Space(..., constraints=[...])`.

    Raises:
        TypeError: `weights` is not a mapping, or a number is something else.
        ValueError: no weight or no bound is given, a number is not finite, or the bounds leave no interval: an
            equality has no volume, so solve it for one parameter and leave that out of the space.

    Example:
        >>> import bojax
        >>> shares = {"a": bojax.Float(0.0, 1.0), "b": bojax.Float(0.0, 1.0)}
        >>> space = bojax.Space(shares, constraints=[bojax.linear({"a": 1, "b": 1}, at_most=1.0)])
        >>> space.is_feasible([[0.5, 0.25], [0.5, 0.75]]).tolist()
        [True, False]
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"`weights` must map names to numbers, got {weights!r} ({type(weights).__name__}).")
    pairs = tuple((name, _number(f"weights[{name!r}]", weight)) for name, weight in weights.items())
    if not any(weight for _, weight in pairs):
        raise ValueError(f"`weights` must hold at least one weight other than 0, got {dict(weights)!r}.")
    upper = None if at_most is None else _number("at_most", at_most)
    lower = None if at_least is None else _number("at_least", at_least)
    if upper is None and lower is None:
        raise ValueError("`at_most` or `at_least` must be given, got neither.")
    if upper is not None and lower is not None and lower >= upper:
        way_out = " An equality has no volume: solve it for one parameter, and leave that out of the space."
        raise ValueError(
            f"`at_least` must be below `at_most`, got {lower!r} and {upper!r}.{way_out if lower == upper else ''}"
        )
    return Linear(pairs, upper, lower)


class Rows(NamedTuple):
    """Linear constraints as arrays: scaled margins are `limits - values @ weights.T`.

    Attributes:
        weights: [m, d] scaled weights of the native values.
        limits: [m] scaled upper bounds.
    """

    weights: Any
    limits: Any

    def margins(self, values: Any) -> Any:
        """[..., m] scaled margins of native values [..., d]."""
        xp = namespace(values, self.weights, self.limits)
        if xp is np:
            return self.limits - values @ self.weights.T
        # Sums rather than a product of matrices: those lose digits on accelerators.
        before = (1,) * (values.ndim - 1)
        weights = xp.asarray(self.weights, values.dtype).reshape(*before, *self.weights.shape)
        limits = xp.asarray(self.limits, values.dtype).reshape(*before, -1)
        return limits - xp.sum(values[..., None, :] * weights, axis=-1)


def rows_of(space: "Space") -> Rows:
    """The linear constraints of a space, scaled; in float64."""
    weights, limits = [], []
    for constraint in space.constraints:
        if not isinstance(constraint, Linear):
            continue
        row = np.array([dict(constraint.weights).get(name, 0.0) for name in space.names], np.float64)
        sizes = [max(abs(p.low), abs(p.high)) if isinstance(p, (Float, Int)) else 0.0 for p in space.parameters]
        most = float(np.abs(row) @ np.array(sizes, np.float64))
        for limit, sign in ((constraint.at_most, 1.0), (constraint.at_least, -1.0)):
            if limit is not None:
                scale = abs(limit) + most or 1.0
                weights.append(sign * row / scale)
                limits.append(sign * limit / scale)
    return Rows(np.reshape(weights, (-1, space.num_dims)), np.array(limits, np.float64))


def functions_of(space: "Space") -> tuple[Constraint, ...]:
    """The constraints of a space that are functions."""
    return tuple(constraint for constraint in space.constraints if not isinstance(constraint, Linear))


def named(space: "Space", constraint: Any) -> str:
    """A constraint for messages: its place and name."""
    place = next(i for i, other in enumerate(space.constraints) if other is constraint)
    return f"constraint {place} ({_name(constraint)})"


def function_margins(space: "Space", X: Any) -> Any:
    """[..., f] margins of the functions at points [..., d] of the cube, not scaled; NumPy for NumPy arrays."""
    functions = functions_of(space)
    if not functions:
        return namespace(X).zeros((*X.shape[:-1], 0), X.dtype)
    flat = X.reshape(-1, X.shape[-1])
    flat = _on_host(space, flat) if isinstance(X, np.ndarray) else _traced(space, flat)
    return flat.reshape(*X.shape[:-1], len(functions))


def _traced(space, X):
    functions = functions_of(space)

    def at(x):
        params = space.decode(x)
        return jnp.stack([jnp.asarray(function(dict(params)), X.dtype) for function in functions])

    return jax.vmap(at)(X)


@functools.lru_cache(maxsize=64)
def _program(space: "Space") -> Callable[[Any], Any]:
    return jax.jit(lambda X: _traced(space, X))


def _on_host(space, X):
    """As `_traced`, by one small program for any number of points."""
    program, parts = _program(space), []
    # A space may be made while something is traced.
    with host_scope(), jax.ensure_compile_time_eval():
        for first in range(0, len(X), ROWS):
            part = X[first : first + ROWS]
            padded = np.concatenate([part, np.full((ROWS - len(part), X.shape[1]), 0.5, X.dtype)])
            parts.append(np.asarray(program(padded))[: len(part)])
    return np.concatenate(parts).astype(X.dtype) if parts else np.zeros((0, len(functions_of(space))), X.dtype)


def tolerance(dtype: Any) -> float:
    """How far below 0 a scaled margin of a feasible point may be."""
    return TOLERANCE if jnp.finfo(dtype).bits >= 64 else TOLERANCE_32


def check_constraints(space: "Space", given: Any) -> tuple[Constraint, ...]:
    """The constraints as a tuple. Of functions only what they are is checked here: `check_values` evaluates them.

    Raises:
        TypeError: `given` is no sequence, or a constraint is neither a function nor linear, compares a position with a
            choice, raises, or returns something else than one number.
        ValueError: a linear one names a parameter that the space lacks, or one without an order.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise TypeError(
            f"`constraints` must be a list of functions or bojax.linear(...), got {given!r}. Wrap it: [...]."
        )
    for i, constraint in enumerate(given):
        if isinstance(constraint, Linear):
            _check_linear(space, i, constraint)
        elif callable(constraint):
            _check_function(space, f"constraint {i} ({_name(constraint)})", constraint)
        else:
            raise TypeError(
                f"`constraints[{i}]` must be a function of the decoded parameters or bojax.linear(...), "
                f"got {plain(constraint)!r} ({type(constraint).__name__})."
            )
    return tuple(given)


def check_values(space: "Space", X: np.ndarray) -> tuple[float, ...]:
    """The scales of the functions, from their margins at points X [n, d].

    Raises:
        ValueError: a margin is NaN.
    """
    margins, scales = function_margins(space, X), []
    for function, column in zip(functions_of(space), margins.T, strict=True):
        wrong = np.flatnonzero(np.isnan(column))
        if len(wrong):
            raise ValueError(
                f"{named(space, function)} is NaN at {space.to_params(X[wrong[0]])}. Return a number everywhere, "
                "negative where a point is infeasible."
            )
        sizes = np.abs(column[np.isfinite(column)])
        scales.append(float(sizes.mean()) if len(sizes) and sizes.mean() > 0 else 1.0)
    return tuple(scales)


def constraint_to_spec(constraint: Constraint) -> dict[str, Any]:
    """A constraint as plain data; of a function only the name."""
    if not isinstance(constraint, Linear):
        return {"type": "function", "name": _name(constraint)}
    bounds = {name: value for name in ("at_most", "at_least") if (value := getattr(constraint, name)) is not None}
    return {"type": "linear", "weights": dict(constraint.weights)} | bounds


def constraints_from_spec(spec: Any, functions: Sequence[Constraint] = ()) -> list[Constraint]:
    """The constraints that plain data describes.

    Args:
        spec: a list, as `constraint_to_spec` gives its entries.
        functions: those that the entries of type "function" stand for, in order.

    Raises:
        ValueError: other functions are given than the spec names.
        TypeError: `spec` or an entry has the wrong form.
    """
    if not isinstance(spec, Sequence) or not all(isinstance(entry, Mapping) for entry in spec):
        raise TypeError(f"The constraints of a spec must be a list of mappings, got {spec!r}.")
    wanted = [entry.get("name") for entry in spec if entry.get("type") == "function"]
    got = [_name(function) for function in functions]
    if wanted != got:
        raise ValueError(
            f"the space has the constraint functions {wanted}, which are not stored, and was given {got}: give a space "
            "with the same ones. Linear constraints are stored: bojax.linear(...)."
        )
    left, found = iter(functions), []
    for entry in spec:
        if entry.get("type") == "function":
            found.append(next(left))
        elif entry.get("type") == "linear":
            fields = {name: value for name, value in entry.items() if name != "type"}
            found.append(linear(**fields))
        else:
            raise ValueError(f"The type of a constraint must be 'linear' or 'function', got {entry.get('type')!r}.")
    return found


def _check_linear(space, i, constraint):
    for name, _ in constraint.weights:
        if name not in space.names:
            raise ValueError(
                f"constraint {i} must name parameters of {list(space.names)}, got {name!r}."
                f"{did_you_mean(str(name), space.names)}"
            )
        if not isinstance(space[name], (Float, Int)):
            raise ValueError(
                f"constraint {i} must be linear in Float and Int parameters, and {name!r} is "
                f"{type(space[name]).__name__}. Write a function of its position instead."
            )


def _check_function(space, called, function):
    params = jax.eval_shape(space.decode, jax.ShapeDtypeStruct((space.num_dims,), jnp.float32))
    wanted = f"{called} must be a traceable function from a dict of decoded parameters to one number"
    check_choices(space, function, params)
    try:
        found = jax.eval_shape(lambda params: jnp.asarray(function(params)), params)
    except Exception as error:
        raise TypeError(f"{wanted}, and it raised {type(error).__name__}: {error}") from error
    if found.shape != ():
        raise TypeError(f"{wanted}, and it gave an array of shape {list(found.shape)} for one point.")
    if found.dtype == bool:
        raise TypeError(
            f"{wanted}, and it gave a bool: both are at least 0. Return a margin instead, such as bound - value."
        )
    if not (jnp.issubdtype(found.dtype, jnp.floating) or jnp.issubdtype(found.dtype, jnp.integer)):
        raise TypeError(f"{wanted}, and it gave the dtype {found.dtype}.")


def _name(constraint: Any) -> str:
    if isinstance(constraint, Linear):
        return repr(constraint)
    inner = constraint.func if isinstance(constraint, functools.partial) else constraint
    return getattr(inner, "__name__", type(inner).__name__)


def _number(name: str, value: Any) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number, got {value!r} ({type(value).__name__}).")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, got {value!r}.")
    return float(value)

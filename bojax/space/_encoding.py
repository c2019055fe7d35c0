"""The arithmetic between native columns and the unit cube, for all columns of a space at once.

Each parameter has one column. A `Float` without `step` covers [0, 1] linearly or on the log scale. A discrete parameter
with k values divides [0, 1] into k cells, and value number i is at the center of its cell:

* k equal cells, coordinate (i + 0.5) / k;
* with `log`: the cell of value v reaches from log(v - step / 2) to log(v + step / 2), and with the logarithms a
  and b of the outermost edges its coordinate is (log v - a) / (b - a). The first cell begins at low / 2 if that
  is larger, because `low - step / 2` may be negative.

Every function takes `columns` (see `make_columns`), arrays whose last axis is d, and the array namespace `xp`
(`jax.numpy` or `numpy`), and computes in the dtype of X. There are no branches on values.
"""

import functools
import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jax.numpy import finfo

from bojax.space._parameters import Float, Int, Parameter

# Log columns with at most this many values take their centers from a table computed in float64: the last bit of XLA's
# log depends on the shape of its argument, and equal points should be equal bit for bit. Floats with a step take their
# values from a table of the decimal numbers.
TABLE_SIZE = 4096


class Columns(NamedTuple):
    """Constants of the columns of a space, each [d] but `table`; the floating ones in the dtype of X."""

    is_float: np.ndarray  # Float without step
    is_log: np.ndarray  # Float or Int on the log scale
    is_snapped: np.ndarray  # discrete, and its cells are wide enough for the dtype to hit their centers
    is_grid: np.ndarray  # Float with step
    low: np.ndarray  # the value at coordinate 0: is_float: within its bounds; discrete log: the edge; others 0
    high: np.ndarray  # the value at coordinate 1: is_float: within its bounds; discrete log: the edge; others 1
    offset: np.ndarray  # log of the value at coordinate 0 (log columns; others 0)
    log_span: np.ndarray  # log of the ratio of the values at coordinates 1 and 0 (log columns; others 0)
    span: np.ndarray  # high - low, or log_span for log columns
    size: np.ndarray  # k as a float (is_float: 1)
    cell: np.ndarray  # 1 / k
    top: np.ndarray  # the largest number of the dtype up to k - 1, so that a cast to int32 is safe (is_float: 0)
    lead: np.ndarray  # discrete log: the value of position 0, less `low` (others 0)
    origin: np.ndarray  # is_grid: the value of position 0, within its bounds (others 0)
    end: np.ndarray  # is_grid: the value of position k - 1, within its bounds (others 0)
    pitch: np.ndarray  # is_grid or discrete log: `step` (others 1)
    first: np.ndarray  # Int: `low`, int32 (others 0)
    step: np.ndarray  # Int: `step`, int32 (others 1)
    last: np.ndarray  # k - 1, int32 (is_float: 0)
    start: np.ndarray  # where the column's centers begin in `table`, int32; -1 if it has none there
    values_at: np.ndarray  # where the column's values begin in `table`, int32; -1 if it has none there
    table: np.ndarray  # the centers and values of columns with few values, end to end (at least one entry)

    def against(self, X: Any) -> "Columns":
        """Returns the constants with as many axes as X, so that no rank is promoted."""
        shape = (1,) * (X.ndim - 1) + (-1,)
        return Columns(*(c.reshape(shape) for c in self[:-1]), table=self.table)


@functools.lru_cache(maxsize=512)
def make_columns(parameters: tuple[Parameter, ...], dtype: np.dtype) -> Columns:
    """Returns the constants of `parameters` for arrays of `dtype`."""
    rows = [_row(parameter, dtype) for parameter in parameters]
    kinds = (bool,) * 4 + (dtype,) * 12 + (np.int32,) * 3
    constants = [np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    starts, table = ([], []), np.zeros(0, dtype)
    for parameter in parameters:
        entries = _tabled_centers(parameter).astype(dtype), _tabled_values(parameter, dtype)
        for start, part in zip(starts, entries, strict=True):
            start.append(len(table) if len(part) else -1)
            table = np.append(table, part)
    table = table if len(table) else np.zeros(1, dtype)
    start, values_at = (np.array(start, np.int32) for start in starts)
    return Columns(*constants, start=start, values_at=values_at, table=table)


def to_cube(X: Any, xp: ModuleType) -> Any:
    """Returns X clipped to [0, 1]; on the bounds themselves the derivative is 1, unlike that of `clip`."""
    return xp.where(X < 0, xp.zeros_like(X), xp.where(X > 1, xp.ones_like(X), X))


def positions(columns: Columns, X: Any, xp: ModuleType) -> Any:
    """Returns the value numbers int32 [..., d] of the cells that X lies in; 0 for Float columns."""
    c, X = columns.against(X), to_cube(X, xp)
    log_number = xp.rint((_log_values(c, X, xp) - c.low - c.lead) / c.pitch)
    number = xp.where(c.is_log, log_number, xp.floor(X * c.size))
    inner = xp.clip(number, 0, c.top).astype(np.int32)
    return xp.where(X < 1, inner, c.last)


def coordinates(columns: Columns, P: Any, X: Any, xp: ModuleType) -> Any:
    """Returns X with the discrete columns replaced by the centers of cells P, and the Float columns kept."""
    c = columns.against(X)
    P = xp.clip(P, 0, c.last).astype(np.int32)
    value = xp.where(c.is_grid, c.origin + c.pitch * P.astype(X.dtype), (c.step * P + c.first).astype(X.dtype))
    value = xp.where(c.is_log & ~c.is_float, value, xp.ones_like(X))
    # Times 1 / k: XLA rewrites a quotient by a constant, and jit would differ from eager in the last bit.
    even = (P.astype(X.dtype) + X.dtype.type(0.5)) * c.cell
    log_center = xp.where(
        c.start < 0,
        to_cube((xp.log(value) - c.offset) / c.span, xp),
        xp.asarray(c.table)[xp.where(c.start < 0, 0, c.start + P)],
    )
    return xp.where(c.is_float, X, xp.where(c.is_log, log_center, even))


def cells(columns: Columns, X: Any, xp: ModuleType) -> tuple[Any, Any]:
    """Returns the lower and upper ends [..., d] of the cells that X lies in; X itself in Float columns."""
    c, P = columns.against(X), positions(columns, X, xp)

    def edge(number):  # the lower end of the cell of this number
        place = number.astype(X.dtype)
        value = xp.maximum(c.low + c.lead + c.pitch * (place - X.dtype.type(0.5)), c.low)
        logged = (xp.log(xp.where(c.is_log, value, xp.ones_like(X))) - c.offset) / c.span
        return to_cube(xp.where(c.is_log, logged, place * c.cell), xp)

    lower = xp.where(P == 0, xp.zeros_like(X), edge(P))
    upper = xp.where(c.last == P, xp.ones_like(X), edge(P + 1))
    return xp.where(c.is_float, X, lower), xp.where(c.is_float, X, upper)


def round_to_cells(columns: Columns, X: Any, xp: ModuleType) -> Any:
    """Returns the nearest representable points; columns too fine for the dtype are only clipped."""
    c, X = columns.against(X), to_cube(X, xp)
    return xp.where(c.is_snapped, coordinates(columns, positions(columns, X, xp), X, xp), X)


def float_values(columns: Columns, X: Any, xp: ModuleType) -> Any:
    """Returns the native values [..., d] of the Float columns, within their bounds; others are meaningless.

    Both formulas meet the bounds exactly, with the right derivative there.
    """
    c, X = columns.against(X), to_cube(X, xp)
    value = xp.where(c.is_log, _log_values(c, X, xp), c.low * (1 - X) + c.high * X)
    return xp.where(value < c.low, c.low, xp.where(value > c.high, c.high, value))


def grid_values(columns: Columns, P: Any, values: Any, xp: ModuleType) -> Any:
    """Returns `values` [..., d] with those of Floats with a step replaced by the values of positions P."""
    if not columns.is_grid.any():
        return values
    c = columns.against(values)
    computed = xp.where(P >= c.last, c.end, c.origin + c.pitch * P.astype(values.dtype))
    tabled = xp.asarray(c.table)[xp.where(c.values_at < 0, 0, c.values_at + P)]
    return xp.where(c.is_grid, xp.where(c.values_at < 0, computed, tabled), values)


def float_coordinates(columns: Columns, V: Any, xp: ModuleType) -> Any:
    """Returns the coordinates [..., d] of native values V in the Float columns; others are meaningless."""
    c = columns.against(V)
    inside = xp.where(V < c.low, c.low, xp.where(V > c.high, c.high, V))
    logged = xp.log(xp.where(c.is_log & c.is_float, inside, xp.ones_like(V))) - c.offset
    x = to_cube(xp.where(c.is_log, logged, inside - c.low) / c.span, xp)
    return xp.where(V <= c.low, xp.zeros_like(V), xp.where(V >= c.high, xp.ones_like(V), x))


def _log_values(c: Columns, X: Any, xp: ModuleType) -> Any:
    """Returns low (high / low)^X, from the nearer end, which is more exact than exp(log low + X log_span)."""
    lower = X < 0.5
    return xp.where(lower, c.low, c.high) * xp.exp(xp.where(lower, X, X - 1) * c.log_span)


def _row(parameter: Parameter, dtype: np.dtype) -> tuple[Any, ...]:
    eps = float(finfo(dtype).eps)  # of jax.numpy, which knows bfloat16
    if isinstance(parameter, Float) and parameter.step is None:
        low, high = _inward(parameter.low, parameter.high, dtype)
        offset, log_span = 0.0, 0.0
        if parameter.log:
            offset = math.log(parameter.low)
            log_span = math.log(parameter.high) - offset
        span = log_span if parameter.log else parameter.high - parameter.low
        return True, parameter.log, False, False, low, high, offset, log_span, span, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0
    k = parameter.num_values
    counts = min(k, float(finfo(dtype).max)), 1 / k, _inward(0, k - 1, dtype)[1]
    is_grid, (origin, end), pitch = isinstance(parameter, Float), (0, 0), 1
    if isinstance(parameter, Float):
        (origin, end), pitch = _inward(parameter.low, parameter.high, dtype), parameter.step
    numbers = (parameter.low, parameter.step, k - 1) if isinstance(parameter, Int) else (0, 1, k - 1)
    if isinstance(parameter, Float | Int) and parameter.log:
        low, high = _log_edges(parameter)
        offset = math.log(low)
        span = math.log(high) - offset
        # The error of a coordinate, as log v, against half of the narrowest cell, step / (2 high).
        size = max(abs(math.log(parameter.low)), abs(math.log(parameter.high)))
        snapped = eps * (4 * size + 4) * parameter.high < parameter.step  # type: ignore[operator]
        grid = parameter.low - low, origin, end, parameter.step
        return False, True, snapped, is_grid, *_inward(low, high, dtype), offset, span, span, *counts, *grid, *numbers
    snapped = eps * k <= 0.25
    return False, False, snapped, is_grid, 0, 1, 0, 0, 1, *counts, 0, origin, end, pitch, *numbers


def _log_edges(parameter: Float | Int) -> tuple[float, float]:
    """Returns where the first cell of a discrete log column begins and its last one ends."""
    half = 0.5 * (parameter.step or 0.0)
    return max(parameter.low - half, 0.5 * parameter.low), parameter.high + half


def _tabled_centers(parameter: Parameter) -> np.ndarray:
    if not (isinstance(parameter, Float | Int) and parameter.log and 0 < parameter.num_values <= TABLE_SIZE):
        return np.zeros(0)
    edges = np.log(_log_edges(parameter))
    values = np.array([parameter.value(i) for i in range(parameter.num_values)], np.float64)
    return (np.log(values) - edges[0]) / (edges[1] - edges[0])


def _tabled_values(parameter: Parameter, dtype: np.dtype) -> np.ndarray:
    if not (isinstance(parameter, Float) and 0 < parameter.num_values <= TABLE_SIZE):
        return np.zeros(0, dtype)
    values = np.array([parameter.value(i) for i in range(parameter.num_values)], np.float64).astype(dtype)
    return np.clip(values, *_inward(parameter.low, parameter.high, dtype))


def _inward(low: float, high: float, dtype: np.dtype) -> tuple[Any, Any]:
    """Returns the smallest and largest number of `dtype` in [low, high], or the nearest if there is none."""
    with np.errstate(over="ignore"):
        near_low, near_high = np.array(low).astype(dtype), np.array(high).astype(dtype)
        infinity = np.array(np.inf).astype(dtype)
        inner_low = np.nextafter(near_low, infinity) if float(near_low) < low else near_low
        inner_high = np.nextafter(near_high, -infinity) if float(near_high) > high else near_high
    return (inner_low, inner_high) if inner_low < inner_high else (near_low, near_high)

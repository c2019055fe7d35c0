"""Constraints written as text, such as "x[:,0]**2 + x[:,1] - 1", read without executing them.

The text is parsed by Python's own parser, and every node of its tree must be on a list: numbers, arithmetic, columns of
`x`, `np.pi`, `np.e`, and functions of NumPy that act on numbers. Anything else is an error, so a text can neither reach
names of the program nor run code. The tree is then evaluated on NumPy arrays or, while JAX traces, on JAX's.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from bojax._namespace import namespace

MAX_LENGTH, MAX_DEPTH = 10_000, 200
"""Longest text in characters, and deepest tree: deeper ones would overflow Python's stack."""

MAX_SHOWN = 100
"""Characters of a text that messages show."""

_NAMED = (
    "sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh square floor ceil sign"
)
_OF_TWO = ("power", "divide", "add", "subtract", "multiply", "arctan2", "minimum", "maximum", "hypot", "mod")
FUNCTIONS = {name: name for name in (*_NAMED.split(" "), "cbrt", *_OF_TWO)} | dict.fromkeys(
    ("abs", "absolute", "fabs"), "abs"
)
"""Functions of each row, by their name in the text; the value is the name in NumPy and JAX."""
REDUCTIONS = ("sum", "prod", "mean", "min", "max")
"""Functions over columns: `np.sum(x[:, 0:3], axis=1)`."""
CONSTANTS = {"pi": math.pi, "e": math.e}
_BUILTINS = ("abs", "pow")
_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: lambda a, b: _power(a, b),
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
}

Term = Callable[[Any], Any]
"""From x [n, d] to [n] numbers, or to [n, k] for several columns."""


def compile_expression(text: Any, num_columns: int, name: str) -> Callable[[Any], Any]:
    """The function of an array that a text describes.

    Args:
        text: an expression of `x`, whose columns are `x[:, i]`.
        num_columns: d, the number of columns of x.
        name: what the text is called in messages.

    Returns:
        A function from [n, d] to [n], for arrays of NumPy and JAX.

    Raises:
        TypeError: `text` is not a string.
        ValueError: it is no expression, contains something that is not on the list, or names a column that x lacks.

    Example:
        >>> import numpy as np
        >>> disk = compile_expression("x[:,0]**2 + x[:,1]**2 - 1", 2, "disk")
        >>> disk(np.array([[0.0, 0.5], [1.0, 1.0]])).tolist()
        [-0.75, 1.0]
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text such as 'x[:,0] + x[:,1] - 1', got {text!r} ({type(text).__name__}).")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{name} must have at most {MAX_LENGTH} characters, got {len(text)}.")
    shown = repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name} must be an expression such as 'x[:,0] + x[:,1] - 1', got {shown}: {error}.") from None
    if _depth(tree) > MAX_DEPTH:
        raise ValueError(f"{name} must be nested at most {MAX_DEPTH} deep, got {shown}. Write it in parts.")
    term, width = _Reader(shown, num_columns, name).term(tree)
    if width is None:
        raise ValueError(f"{name} must depend on `x`, got {shown}, a constant.")
    if width:
        raise ValueError(f"{name} must give one number for each row, got {shown}. Write np.sum(..., axis=1).")

    def function(X: Any) -> Any:
        with np.errstate(all="ignore"):
            return term(X)

    return function


class _Reader:
    """Turns nodes into terms. Beside a term goes its width: None for a constant, 0 for [n], k for [n, k]."""

    def __init__(self, shown: str, num_columns: int, name: str) -> None:
        self.shown, self.num_columns, self.name = shown, num_columns, name

    def term(self, node: ast.AST) -> tuple[Any, int | None]:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Attribute):
            return self._named_constant(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner, columns = self.term(node.operand)
            sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
            return self._applied(lambda a: sign * a, [(inner, columns)], node)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self._applied(_BINARY[type(node.op)], [self.term(node.left), self.term(node.right)], node)
        if isinstance(node, ast.Subscript):
            return self._columns(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._refused(node, "is not allowed")

    def _applied(self, function: Any, parts: list[tuple[Any, int | None]], node: ast.AST) -> tuple[Any, int | None]:
        """A function of terms. One of constants alone is a constant, which may overflow."""
        widths = {width for _, width in parts if width is not None}
        if len(widths) > 1:
            raise self._refused(node, "combines different numbers of columns")
        terms = [(term, width is not None) for term, width in parts]
        if not widths:
            try:
                with np.errstate(all="ignore"):
                    value = function(*(term for term, _ in terms))
            except (ArithmeticError, ValueError) as error:
                raise self._refused(node, f"is not a number ({error})") from None
            if isinstance(value, complex) or not math.isfinite(value):
                raise self._refused(node, "is not a finite real number")
            return float(value), None
        return lambda X: function(*(term(X) if varies else term for term, varies in terms)), widths.pop()

    def _constant(self, node: ast.Constant) -> tuple[Any, int | None]:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self._refused(node, "is not a number")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self._refused(node, "is not a finite number")
        return value, None

    def _named_constant(self, node: ast.Attribute) -> tuple[Any, int | None]:
        name = _numpy_name(node)
        if name is None or name not in CONSTANTS:
            raise self._refused(node, f"is not one of {['np.' + known for known in CONSTANTS]}")
        return CONSTANTS[name], None

    def _columns(self, node: ast.Subscript) -> tuple[Any, int | None]:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
        is_x = isinstance(node.value, ast.Name) and node.value.id == "x"
        all_rows = len(parts) == 2 and isinstance(parts[0], ast.Slice) and not any(vars(parts[0]).get(k) for k in _ENDS)
        if not (is_x and all_rows):
            raise self._refused(node, "is not of the form x[:, i] or x[:, i:j]")
        last = parts[1]
        if isinstance(last, ast.Slice):
            chosen = slice(*(self._index(getattr(last, end)) for end in _ENDS))
            if chosen.step == 0 or not range(self.num_columns)[chosen]:
                raise self._refused(node, f"names none of the {self.num_columns} columns of x")
            return lambda X: X[:, chosen], len(range(self.num_columns)[chosen])
        i = self._index(last)
        if i is None or not -self.num_columns <= i < self.num_columns:
            raise self._refused(node, f"names no column of x, which has {self.num_columns}")
        return lambda X: X[:, i], 0

    def _index(self, node: ast.AST | None) -> int | None:
        if node is None:
            return None
        sign, inner = (
            (-1, node.operand) if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else (1, node)
        )
        if not isinstance(inner, ast.Constant) or isinstance(inner.value, bool) or not isinstance(inner.value, int):
            raise self._refused(node, "is not a whole number")
        return sign * inner.value

    def _call(self, node: ast.Call) -> tuple[Any, int | None]:
        name = node.func.id if isinstance(node.func, ast.Name) else _numpy_name(node.func)
        known = _BUILTINS if isinstance(node.func, ast.Name) else (*FUNCTIONS, *REDUCTIONS)
        if name is None or name not in known or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._refused(node, "is not allowed")
        if name in REDUCTIONS:
            return self._reduction(node, name)
        if node.keywords:
            raise self._refused(node, "has keyword arguments")
        parts = [self.term(argument) for argument in node.args]
        method = "power" if name == "pow" else FUNCTIONS[name]
        wanted = 2 if method in _OF_TWO else 1
        if len(parts) != wanted:
            raise self._refused(node, f"must have {wanted} argument{'s' * (wanted > 1)}")

        def apply(*values: Any) -> Any:
            arrays = [value for value in values if not isinstance(value, float)]
            return getattr(namespace(*arrays), method)(*values)

        return self._applied(apply, parts, node)

    def _reduction(self, node: ast.Call, name: str) -> tuple[Any, int | None]:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        axis = given.pop("axis", node.args[1] if len(node.args) == 2 else None)
        if len(node.args) not in (1, 2) or given or axis is None or self._index(axis) not in (1, -1):
            raise self._refused(node, "must be of the form np.sum(x[:, i:j], axis=1)")
        inner, width = self.term(node.args[0])
        if not width:
            raise self._refused(node, "must be of several columns, x[:, i:j]")
        return lambda X: getattr(namespace(X), name)(inner(X), axis=1), 0

    def _refused(self, node: ast.AST, why: str) -> ValueError:
        return ValueError(
            f"{self.name} must be arithmetic of columns x[:, i] and functions of NumPy such as np.sqrt, got "
            f"{self.shown}: {ast.unparse(node)[:MAX_SHOWN]!r} {why}."
        )


_ENDS = ("lower", "upper", "step")


def _depth(tree: ast.AST) -> int:
    """The number of levels of a tree."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _power(base: Any, exponent: Any) -> Any:
    """A power; a whole exponent stays one, so that negative numbers have powers and derivatives."""
    whole = isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 64
    return base ** (int(exponent) if whole and not isinstance(base, float) else exponent)


def _numpy_name(node: ast.AST) -> str | None:
    """The name after `np.`, `numpy.` or `jnp.`; None for anything else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy", "jnp"):
        return node.attr
    return None


class Constraint:
    """A constraint for `bojax.Space`: a function of the decoded parameters of one point, feasible where it is >= 0.

    Args:
        name: its name.
        text: an expression of x, feasible where it is <= 0.
        columns: for each parameter its name, and its values if `decode` gives positions.
    """

    def __init__(self, name: str, text: str, columns: Mapping[str, tuple[float, ...] | None]) -> None:
        self.__name__, self.text, self.columns = name, text, tuple(columns.items())
        self.function = compile_expression(text, len(self.columns), f"the constraint {name!r}")

    def __call__(self, params: Mapping[str, Any]) -> Any:
        """The margin: minus the value of the expression; -inf where that is NaN, as beyond the range of a root."""
        dtype = jnp.result_type(float)
        row = [params[name] if values is None else jnp.asarray(values)[params[name]] for name, values in self.columns]
        margin = -self.function(jnp.stack([jnp.asarray(value, dtype) for value in row])[None])[0]
        return jnp.where(jnp.isnan(margin), -jnp.inf, margin)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constraint) and (self.text, self.columns) == (other.text, other.columns)

    def __hash__(self) -> int:
        return hash((self.text, self.columns))

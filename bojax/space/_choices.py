"""Detection of comparisons between the position of a choice and the choice itself.

Compiled functions get choices as positions, so a comparison with the choice is always False, without an error:

    params["activation"] == "relu"        # compares an integer with a string

JAX's arrays leave such comparisons to Python and cannot report them. User functions are therefore traced once more with
positions that raise.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._errors import BojaxWarning
from bojax.space._parameters import Categorical, Ordinal

if TYPE_CHECKING:
    from bojax.space._space import Space


class ChoiceComparisonError(TypeError):
    """A position was compared with a value that it can never equal."""


def check_choices(space: "Space", fn: Callable[[dict[str, Any]], Any], params: Mapping[str, Any]) -> None:
    """Raise TypeError if a traceable function compares the position of a choice with the choice itself.

    Args:
        space: the space, which says which parameters are choices.
        fn: a traceable function of params.
        params: arrays or their shapes, by name.

    Raises:
        TypeError: the function makes such a comparison.

    Example:
        >>> import bojax
        >>> space = bojax.Space(optimizer=bojax.Categorical(["adam", "sgd"]))
        >>> try:
        ...     check_choices(space, lambda params: params["optimizer"] == "sgd", {"optimizer": 0})
        ... except TypeError as error:
        ...     print(str(error).split(",")[0])
        'optimizer' is compared with 'sgd'
    """
    choices = _choices(space)
    if not choices:
        return

    def watched(params):
        return fn({name: Watched(x, name, choices[name]) if name in choices else x for name, x in params.items()})

    try:
        jax.eval_shape(watched, dict(params))
    except ChoiceComparisonError as error:
        raise TypeError(str(error)) from None
    except Exception:  # a watched position is not accepted everywhere; other errors appear in the real call
        return


def check_choices_on_host(
    space: "Space", fn: Callable[[dict[str, Any]], Any], columns: Mapping[str, np.ndarray]
) -> None:
    """Raise TypeError if a function of concrete scalars compares the position of a choice with the choice itself.

    Args:
        space: the space, which says which parameters are choices.
        fn: a function of params that cannot be traced.
        columns: arrays [n] by name; the first row is used.

    Raises:
        TypeError: the function makes such a comparison.

    Example:
        >>> import bojax, numpy as np
        >>> space = bojax.Space(optimizer=bojax.Categorical(["adam", "sgd"]))
        >>> check_choices_on_host(space, lambda params: params["optimizer"] == 1, {"optimizer": np.array([0])}) is None
        True
    """
    if not _choices(space):
        return
    try:
        fn({name: column[0:1].reshape(()) for name, column in watched_arrays(space, columns).items()})
    except ChoiceComparisonError as error:
        raise TypeError(str(error)) from None
    except Exception:  # `fn` gets an array in place of a scalar
        return


def watched_arrays(space: "Space", columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make NumPy columns [n] whose positions raise in comparisons with choices; otherwise they are plain arrays.

    Args:
        space: the space, which says which parameters are choices.
        columns: arrays [n] by name.

    Returns:
        The same numbers by name.

    Example:
        >>> import bojax, numpy as np
        >>> space = bojax.Space(optimizer=bojax.Categorical(["adam", "sgd"]))
        >>> watched_arrays(space, {"optimizer": np.array([0, 1])})["optimizer"].tolist()
        [0, 1]
    """
    choices = _choices(space)
    return {name: _marked(column, name, choices.get(name)) for name, column in columns.items()}


def warn_of_unread(space: "Space", unread: Sequence[str]) -> None:
    """Warn about parameters that a tuned function does not read; without any, do nothing.

    Args:
        space: the space, which says which parameters are choices.
        unread: names of the parameters that the function does not read.

    Example:
        >>> import bojax, warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_unread(bojax.Space(width=bojax.Int(1, 8)), ["width"])
        >>> str(caught[0].message).split(":")[0]
        "the tuned metric does not depend on ['width']"
    """
    if not unread:
        return
    choices = [name for name in unread if isinstance(space[name], Categorical | Ordinal)]
    hint = f" Choices such as {choices[0]!r} arrive as positions, not as their values." if choices else ""
    warnings.warn(
        f"the tuned metric does not depend on {unread}: the training function does not read "
        f"{'it' if len(unread) == 1 else 'them'}, and tuning has no effect.{hint} Use what is in the space, or take it "
        "out.",
        BojaxWarning,
        stacklevel=3,
    )


def _marked(column: np.ndarray, name: str, values: tuple[Any, ...] | None) -> np.ndarray:
    if values is None:
        return column
    marked = column.view(Positions)
    marked.name, marked.values = name, values
    return marked


def _choices(space: "Space") -> dict[str, tuple[Any, ...]]:
    kinds = {name: space[name] for name in space}
    choices: dict[str, tuple[Any, ...]] = {
        name: tuple(p.choices) for name, p in kinds.items() if isinstance(p, Categorical)
    }
    return choices | {name: tuple(p.values) for name, p in kinds.items() if isinstance(p, Ordinal)}


def _check(name: str | None, values: tuple[Any, ...], other: Any) -> None:
    """Raise for a string or another value that is not a position 0, ..., n - 1."""
    is_number = isinstance(other, (bool, int, float, np.number)) and not isinstance(other, str)
    wrong = isinstance(other, (str, bytes, tuple, type(None))) or (
        is_number and other in values and not (0 <= other < len(values) and other == int(other))
    )
    if name is not None and wrong:
        known = ", ".join(f"{i} is {value!r}" for i, value in enumerate(values[:6]))
        raise ChoiceComparisonError(
            f"{name!r} is compared with {other!r}, but choices arrive as positions, which never equal it: {known}"
            f"{', ...' if len(values) > 6 else ''}. Compare with a position, or choose by `jax.lax.switch`, "
            "`jnp.where` or a table indexed by it."
        )


class Watched:
    """The traced position of a choice; it behaves like its array almost everywhere."""

    def __init__(self, array: Any, name: str, values: tuple[Any, ...]) -> None:
        self._array, self._name, self._values = array, name, values

    def __jax_array__(self) -> Any:
        return self._array

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._array, attribute)

    def __eq__(self, other: Any) -> Any:
        _check(self._name, self._values, other)
        return self._array == _plain(other)

    def __ne__(self, other: Any) -> Any:
        _check(self._name, self._values, other)
        return self._array != _plain(other)

    __hash__ = None  # type: ignore[assignment]


def _delegate(operator: str) -> Callable[..., Any]:
    def method(self: Watched, *args: Any) -> Any:
        return getattr(jnp.asarray(self._array), operator)(*(_plain(arg) for arg in args))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    setattr(Watched, f"__{_name}__", _delegate(f"__{_name}__"))
    setattr(Watched, f"__r{_name}__", _delegate(f"__r{_name}__"))
for _name in ("lt", "le", "gt", "ge", "neg", "pos", "abs", "invert", "getitem", "index", "int", "float", "bool"):
    setattr(Watched, f"__{_name}__", _delegate(f"__{_name}__"))


def _plain(value: Any) -> Any:
    return value._array if isinstance(value, Watched) else value


jax.tree_util.register_pytree_node(
    Watched,
    lambda watched: ((watched._array,), (watched._name, watched._values)),
    lambda static, leaves: Watched(leaves[0], *static),
)


class Positions(np.ndarray):
    """Positions of a choice on the host."""

    name: str | None = None
    values: tuple[Any, ...] = ()

    def __array_finalize__(self, source: Any) -> None:
        self.name, self.values = getattr(source, "name", None), getattr(source, "values", ())

    def __eq__(self, other: Any) -> Any:
        _check(self.name, self.values, other)
        return super().__eq__(other)

    def __ne__(self, other: Any) -> Any:
        _check(self.name, self.values, other)
        return super().__ne__(other)

    __hash__ = None  # type: ignore[assignment]

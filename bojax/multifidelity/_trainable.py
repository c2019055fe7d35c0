"""The protocol of objectives that can be trained in parts.

A `Trainable` has a space of hyperparameters and, for each *structure* of a configuration (whatever determines the
shapes of its arrays), one program of three pure functions. Members of one structure train in one vmapped program.
The objectives of `bojax.models` are Trainables; `from_functions` makes one from three functions.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

Hparams = Mapping[str, Any]


class Program(NamedTuple):
    """A training run in pieces; every function can be jitted, and vmapped over all its arguments but `num_steps`.

    Attributes:
        init: `init(key, hparams) -> state`, before the first step.
        advance: `advance(state, hparams, num_steps) -> state` after `num_steps` more steps, which may be traced. Splits
            must not matter: 3 and then 4 steps are the same as 7.
        evaluate: `evaluate(state, hparams) -> metrics`, a dict of scalars, always finite.
    """

    init: Callable[[jax.Array, Hparams], Any]
    advance: Callable[[Any, Hparams, Any], Any]
    evaluate: Callable[[Any, Hparams], dict[str, jax.Array]]


@runtime_checkable
class Trainable(Protocol):
    """A tunable training run that can be stopped and resumed.

    Attributes:
        name: its name.
        space: the hyperparameters, a `bojax.Space` or plain data.
        metric: which metric is tuned.
        direction: "maximize" or "minimize".
        num_steps: steps of a full run.
    """

    name: str
    space: Any
    metric: str
    direction: str
    num_steps: int

    def structure(self, hparams: Hparams) -> Hashable:
        """The structure of a configuration (concrete scalars), which determines its program."""
        ...

    def program(self, structure: Hashable) -> Program:
        """The program of one structure; the same object each time."""
        ...


class FromFunctions(NamedTuple):
    """A Trainable of one structure; see `from_functions`."""

    name: str
    space: Any
    metric: str
    direction: str
    num_steps: int
    functions: Program

    def structure(self, hparams: Hparams) -> Hashable:
        """The only structure."""
        del hparams
        return ()

    def program(self, structure: Hashable) -> Program:
        """The three functions."""
        del structure
        return self.functions


def from_functions(
    space: Any,
    *,
    init: Callable[[jax.Array, Hparams], Any],
    advance: Callable[[Any, Hparams, Any], Any],
    evaluate: Callable[[Any, Hparams], dict[str, jax.Array]],
    metric: str,
    num_steps: int,
    direction: str = "maximize",
    name: str = "objective",
) -> FromFunctions:
    """A Trainable from three pure functions, to tune your own training run.

    Args:
        space: the hyperparameters, a `bojax.Space` or plain data.
        init: `init(key, hparams) -> state`, before the first step.
        advance: `advance(state, hparams, num_steps) -> state` after `num_steps` more steps, which may be traced; 3 and
            then 4 steps must be the same as 7.
        evaluate: `evaluate(state, hparams) -> metrics`, a dict of finite scalars.
        metric: which of them is tuned.
        num_steps: steps of a full run, >= 1.
        direction: "maximize" or "minimize".
        name: its name in messages and storages.

    Returns:
        A `Trainable` of one structure.

    Raises:
        ValueError: `direction` is neither "maximize" nor "minimize", or `num_steps` is below 1.

    Example:
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> bowl.metric, bowl.num_steps
        ('loss', 9)
    """
    if direction not in ("maximize", "minimize"):
        raise ValueError(f"`direction` must be 'maximize' or 'minimize', got {direction!r}.")
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}.")
    return FromFunctions(name, space, metric, direction, num_steps, Program(init, advance, evaluate))

"""What can be trained in part: the protocol of objectives that report before they are done.

A `Trainable` knows its hyperparameters and gives, for each *structure* a configuration may have (whatever decides the
shapes of its arrays), one program of three pure functions. Members of one structure train in one vmapped program.
The objectives of `bojax.models` are Trainables; `from_functions` makes one of three functions.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

Hparams = Mapping[str, Any]


class Program(NamedTuple):
    """A training run in pieces; every function can be jitted, and vmapped over all its arguments but `num_steps`.

    Attributes:
        init: `init(key, hparams) -> state`, before the first step.
        advance: `advance(state, hparams, num_steps) -> state` after so many further steps; `num_steps` may be traced.
            Steps do not depend on how they are cut: 3 and then 4 are the same as 7.
        evaluate: `evaluate(state, hparams) -> metrics`, a dict of scalars, always finite.
    """

    init: Callable[[jax.Array, Hparams], Any]
    advance: Callable[[Any, Hparams, Any], Any]
    evaluate: Callable[[Any, Hparams], dict[str, jax.Array]]


@runtime_checkable
class Trainable(Protocol):
    """A tunable training run that can be stopped and resumed.

    Attributes:
        name: what it is called.
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
        """Which program a configuration (concrete scalars) needs."""
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
        """There is only one."""
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
    """A Trainable of three pure functions: the way to tune a training run of your own.

    Args:
        space: the hyperparameters, a `bojax.Space` or plain data.
        init: `init(key, hparams) -> state`, before the first step.
        advance: `advance(state, hparams, num_steps) -> state` after `num_steps` further steps, which may be traced; 3
            and then 4 steps must be the same as 7.
        evaluate: `evaluate(state, hparams) -> metrics`, a dict of finite scalars.
        metric: which of them is tuned.
        num_steps: steps of a full run, >= 1.
        direction: "maximize" or "minimize".
        name: what it is called in messages and storages.

    Returns:
        A `Trainable` of one structure.

    Raises:
        ValueError: for a direction that is neither "maximize" nor "minimize", or a number of steps below 1.

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

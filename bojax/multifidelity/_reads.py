"""Which hyperparameters a training run reads: tuning one that it does not is work for nothing."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bojax._errors import BojaxWarning
from bojax._liveness import live_leaves
from bojax._types import Array, Shaped
from bojax.multifidelity._trainable import Program, Trainable
from bojax.space import Categorical, Ordinal, Space, to_space
from bojax.space._choices import check_choices, check_choices_on_host


def warn_of_unread(space: Space, fn: Callable[[dict[str, Any]], Any], hparams: Mapping[str, Any]) -> None:
    """Warns of hyperparameters, by name, on which `fn(hparams)` cannot depend; arrays or their shapes are given."""
    names = sorted(hparams)  # as the leaves of a dict are
    live = live_leaves(fn, dict(hparams))
    unread = [name for name, is_live in zip(names, live, strict=True) if not is_live]
    if unread:
        choices = [name for name in unread if name in list(space) and isinstance(space[name], Categorical | Ordinal)]
        hint = f" Choices such as {choices[0]!r} arrive as positions, not as their values." if choices else ""
        warnings.warn(
            f"the tuned metric does not depend on {unread}: the training function does not read "
            f"{'it' if len(unread) == 1 else 'them'}, and tuning has no effect.{hint} Use what is in the space, or "
            "take it out.",
            BojaxWarning,
            stacklevel=2,
        )


def check_reads(objective: Trainable, keys: Shaped[Array, "..."], hparams: Mapping[str, Any]) -> None:
    """Looks at a training run before it starts: comparisons of choices, and hyperparameters that it does not read.

    The latter only where there is one program for all configurations: another may read what one does not.

    Raises:
        TypeError: the structure or the program compares the position of a choice with the choice.
    """
    space = to_space(objective.space)
    check_choices_on_host(space, objective.structure, {name: column[:1] for name, column in hparams.items()})
    row = _Recorded({name: column[0] for name, column in hparams.items()})
    program = objective.program(objective.structure(row))
    shapes = {name: jax.ShapeDtypeStruct((), jnp.result_type(column)) for name, column in hparams.items()}

    def run(hparams: Mapping[str, Any]) -> Any:
        return _whole_run(program, keys[0], hparams)[objective.metric]

    check_choices(space, run, shapes)
    if row.read:
        return
    try:
        jax.eval_shape(run, shapes)
    except Exception:  # what is wrong is raised where it runs
        return
    warn_of_unread(space, run, shapes)


def _whole_run(program: Program, key: Any, hparams: Mapping[str, Any]) -> dict[str, Any]:
    state = program.init(key, hparams)
    return program.evaluate(program.advance(state, hparams, jnp.int32(1)), hparams)


class _Recorded(Mapping[str, Any]):
    """A mapping that knows whether anything was read from it."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries, self.read = dict(entries), False

    def __getitem__(self, name: str) -> Any:
        self.read = True
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self.read = True
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

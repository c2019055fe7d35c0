"""Detect hyperparameters that a training run does not read, since tuning those is wasted work."""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bojax._liveness import live_leaves
from bojax._runtime import seed_key
from bojax.multifidelity._trainable import Program, Trainable
from bojax.space import Space, check_choices, check_choices_on_host, to_space, warn_of_unread


def check_reads(objective: Trainable, hparams: Mapping[str, Any], tuned: Collection[str] | None = None) -> None:
    """Checks a training run before it starts for comparisons with choices and for unread hyperparameters.

    The latter only if all configurations share one program, since programs may read different hyperparameters.

    Args:
        objective: the training run.
        hparams: arrays [n].
        tuned: the hyperparameters that should be read; all by default.

    Raises:
        TypeError: the structure or the program compares the position of a choice with the choice.
    """
    space = to_space(objective.space)
    check_choices_on_host(space, objective.structure, {name: column[:1] for name, column in hparams.items()})
    row = _Recorded({name: column[0] for name, column in hparams.items()})
    program = objective.program(objective.structure(row))
    kinds = tuple((name, jnp.result_type(column)) for name, column in hparams.items())
    unread = _looked_at(program, space, objective.metric, kinds)
    if not row.read:
        warn_of_unread(space, [name for name in unread if tuned is None or name in tuned])


@functools.lru_cache(maxsize=64)
def _looked_at(program: Program, space: Space, metric: str, kinds: tuple[tuple[str, Any], ...]) -> list[str]:
    """The hyperparameters that a program does not read; its comparisons are checked first."""

    def run(hparams: Mapping[str, Any]) -> Any:
        state = program.init(seed_key(0), hparams)
        return program.evaluate(program.advance(state, hparams, jnp.int32(1)), hparams)[metric]

    shapes = {name: jax.ShapeDtypeStruct((), kind) for name, kind in kinds}
    check_choices(space, run, shapes)
    try:
        return _unread(run, shapes)
    except Exception:  # errors are raised when it runs
        return []


def _unread(fn: Callable[[dict[str, Any]], Any], hparams: Mapping[str, Any]) -> list[str]:
    names = sorted(hparams)  # the order of the leaves of a dict
    return [name for name, is_live in zip(names, live_leaves(fn, dict(hparams)), strict=True) if not is_live]


class _Recorded(Mapping[str, Any]):
    """A mapping that records whether anything was read from it."""

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

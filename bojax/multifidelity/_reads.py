"""Which hyperparameters a training run reads: tuning one that it does not is work for nothing."""

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
    """Looks at a training run before it starts: comparisons of choices, and hyperparameters that it does not read.

    The latter only where there is one program for all configurations: another may read what one does not.

    Args:
        objective: what is trained.
        hparams: arrays [n].
        tuned: the hyperparameters that are to be read; all by default.

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
    """The hyperparameters that a program does not read, once its comparisons are found right."""

    def run(hparams: Mapping[str, Any]) -> Any:
        state = program.init(seed_key(0), hparams)
        return program.evaluate(program.advance(state, hparams, jnp.int32(1)), hparams)[metric]

    shapes = {name: jax.ShapeDtypeStruct((), kind) for name, kind in kinds}
    check_choices(space, run, shapes)
    try:
        return _unread(run, shapes)
    except Exception:  # what is wrong is raised where it runs
        return []


def _unread(fn: Callable[[dict[str, Any]], Any], hparams: Mapping[str, Any]) -> list[str]:
    names = sorted(hparams)  # as the leaves of a dict are
    return [name for name, is_live in zip(names, live_leaves(fn, dict(hparams)), strict=True) if not is_live]


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

"""From hyperparameters to the structure of a model: the static part of a configuration."""

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ._objective import Hparams, Spec

Structure = tuple[tuple[str, Any], ...]
T = TypeVar("T")


class Shapes(NamedTuple):
    """The hyperparameters that determine the shapes of arrays; all others are traced.

    Attributes:
        structural: those that need a program for each of their values.
        sizes: those that are rounded up to one of these sizes; the rest of the arrays is masked.
    """

    structural: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, ...]] = MappingProxyType({})


NO_SHAPES = Shapes()


def structure_fn(space: Spec, shapes: Shapes) -> Callable:
    """``structure(hparams)``: pairs of name and static value, from concrete hyperparameters."""

    def structure(hparams: Hparams) -> Structure:
        exact = [(name, value_of(space[name], int(hparams[name]))) for name in shapes.structural]
        rounded = [(name, size_of(space[name], buckets, int(hparams[name]))) for name, buckets in shapes.sizes.items()]
        return tuple(exact + rounded)

    return structure


def value_of(entry: Mapping[str, Any], number: int) -> Any:
    """The value of a scalar: for categoricals and ordinals, the one at that position."""
    if entry["type"] == "categorical":
        return entry["choices"][number]
    return entry["values"][number] if entry["type"] == "ordinal" else number


def size_of(entry: Mapping[str, Any], buckets: tuple[int, ...], number: int) -> int:
    """The smallest size that holds the value; the largest size if none does."""
    value = value_of(entry, number)
    return min((size for size in buckets if size >= value), default=max(buckets))


def dispatch(space: Spec, shapes: Shapes, hparams: Hparams, run: Callable[[Structure], T]) -> T:
    """``run(structure)`` for the structure of ``hparams``, whether they are traced or not.

    Traced sizes count as the largest. Traced structural hyperparameters lead to a `lax.switch` over ``run`` of every
    combination of their values.
    """
    structural, sizes = shapes
    largest = [
        (name, max(buckets) if isinstance(hparams[name], Tracer) else size_of(space[name], buckets, int(hparams[name])))
        for name, buckets in sizes.items()
    ]
    traced = [name for name in structural if isinstance(hparams[name], Tracer)]
    ranges = [range(_count(space[n])) if n in traced else (int(hparams[n]) - _low(space[n]),) for n in structural]
    branches = [
        tuple((n, value_of(space[n], c + _low(space[n]))) for n, c in zip(structural, numbers, strict=True))
        for numbers in itertools.product(*ranges)
    ]
    if len(branches) == 1:
        return run((*branches[0], *largest))
    index = jnp.int32(0)
    for name in traced:
        number = jnp.clip(jnp.asarray(hparams[name], jnp.int32) - _low(space[name]), 0, _count(space[name]) - 1)
        index = index * _count(space[name]) + number
    return jax.lax.switch(index, [lambda _, b=b: run((*b, *largest)) for b in branches], None)


def _count(entry: Mapping[str, Any]) -> int:
    if entry["type"] == "int":
        return entry["high"] - entry["low"] + 1
    return len(entry["choices" if entry["type"] == "categorical" else "values"])


def _low(entry: Mapping[str, Any]) -> int:
    return entry["low"] if entry["type"] == "int" else 0

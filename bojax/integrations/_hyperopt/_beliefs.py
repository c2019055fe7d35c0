"""What a search space says of where the optimum may be: normal distributions and probabilities of choices.

The default algorithm multiplies its acquisition by a power of the density, `beta / n` after n trials. So the density
guides the first trials, and losses soon outweigh it:

    log density(x) = sum of the log densities of the labels that x uses, with respect to the unit cube

A normal draw z, in standard deviations, has log(width) + log phi(z) in a column of that width, and option i of K with
probability p has log(K p). Where values with a `q` begin with 0 on a logarithmic scale, 0 has a probability of its own.

Source: Hvarfner et al. (2022), arXiv:2204.11051, who recommend a tenth of the planned trials for beta.
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp

from bojax import loop
from bojax._types import Array, Float
from bojax.acquisition import batch_log_ei, with_prior
from bojax.integrations._hyperopt._expressions import Choice, Condition, Draw
from bojax.integrations._hyperopt._forms import Forms, possible
from bojax.integrations._hyperopt._priors import ZERO_CELL, begins_with_zero
from bojax.space import Categorical, Space
from bojax.space import Float as FloatParameter

BETA = 5.0
"""A tenth of 50 trials. Were it a tenth of those planned, going on with more trials would compile again."""


class Normal(NamedTuple):
    """A normal density of a value or of its logarithm.

    Attributes:
        mean: its mean.
        std: its standard deviation.
        log: whether it is that of the logarithm.
        log_width: logarithm of the column's width, in standard deviations.
        zero: values below the first count as 0, and have the second as log density; None if 0 is like any other.
    """

    mean: float
    std: float
    log: bool
    log_width: float
    zero: tuple[float, float] | None


class Belief(NamedTuple):
    """The density of one label, as plain data.

    Attributes:
        label: the label.
        ways: positions of choices that make it exist; () among them if it always does.
        density: a normal one, or the log densities of the positions of a choice.
    """

    label: str
    ways: tuple[Condition, ...]
    density: Normal | tuple[float, ...]


def beliefs_of(forms: Forms) -> tuple[Belief, ...]:
    """The densities that the bojax space does not know of."""
    found = []
    for label, (node, conditions) in forms.labels.items():
        density = _density(forms, label, node)
        if density is not None:
            ways = [way for way in (_positions(forms, condition) for condition in conditions) if way is not None]
            found.append(Belief(label, tuple(ways), density))
    return tuple(found)


def _density(forms: Forms, label: str, node: Draw | Choice) -> Normal | tuple[float, ...] | None:
    if forms.space is None or label not in forms.space:
        return None
    if isinstance(node, Choice):
        numbers, weights = possible(node), node.weights
        return None if weights is None else tuple(math.log(len(numbers) * weights[i]) for i in numbers)
    prior, column = node.prior, forms.space[label]
    if prior.base != "normal" or not isinstance(column, FloatParameter):
        return None
    mean, std = prior.first, prior.second
    scale = math.log if prior.log else float
    width = (scale(column.high) - scale(column.low)) / std
    zero = None
    if prior.q is not None and begins_with_zero(prior):
        below = 0.5 * math.erfc((mean - math.log(prior.q / 2)) / std / math.sqrt(2))
        zero = prior.q / 2, math.log(max(below, 1e-300)) + math.log(width * std / math.log(ZERO_CELL))
    return Normal(mean, std, prior.log, math.log(width), zero)


def _positions(forms: Forms, condition: Condition) -> Condition | None:
    """A way to a label in positions, without choices that are always made; None for one that cannot be taken."""
    way = []
    for label, number in condition:
        column = forms.space.get(label) if forms.space else None
        if isinstance(column, Categorical):
            if number not in column.choices:
                return None
            way.append((label, column.choices.index(number)))
        elif number != forms.constants[label]:
            return None
    return tuple(way)


def believing(beliefs: tuple[Belief, ...], space: Space, q: int) -> loop.Algorithm:
    """`bojax.bayesopt` guided by beliefs."""
    density = functools.partial(log_density, beliefs, space)
    return loop.bayesopt(space, q=q, acquisition=with_prior(batch_log_ei(), density, beta=BETA))


def log_density(beliefs: tuple[Belief, ...], space: Space, X: Float[Array, "k d"]) -> Float[Array, "k"]:
    """Logarithm of the density at points of the cube, with respect to the uniform one."""
    values = space.decode(X)
    total = jnp.zeros(X.shape[:-1], X.dtype)
    for label, ways, density in beliefs:
        own = _normal(density, values[label]) if isinstance(density, Normal) else jnp.asarray(density)[values[label]]
        total = total + jnp.where(_exists(ways, values, X), own.astype(X.dtype), 0.0)
    return total


def _normal(density: Normal, value: Array) -> Array:
    z = ((jnp.log(value) if density.log else value) - density.mean) / density.std
    own = density.log_width - 0.5 * math.log(2 * math.pi) - 0.5 * z**2
    return own if density.zero is None else jnp.where(value < density.zero[0], density.zero[1], own)


def _exists(ways: tuple[Condition, ...], values: dict[str, Array], X: Array) -> Array:
    """Whether each point takes one of the ways."""
    exists = jnp.zeros(X.shape[:-1], bool)
    for way in ways:
        taken = jnp.ones(X.shape[:-1], bool)
        for label, position in way:
            taken &= values[label] == position
        exists |= taken
    return exists

"""Hyperparameters in the coordinates in which they are searched."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from bojax._errors import NonDifferentiableHyperparameterError
from bojax._types import Array
from bojax.space import Space


def from_unit(space: Space, x: Array) -> dict[str, Array]:
    """The native values of a point of the unit cube, differentiable up to and on its faces.

    Args:
        space: of `Float` parameters without `step` only.
        x: [d] in the unit cube.

    Returns:
        A scalar for each name.

    Raises:
        NonDifferentiableHyperparameterError: the space has an `Int`, `Ordinal` or `Categorical`.

    Example:
        >>> import bojax, jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> values = hg.from_unit(bojax.Space(rate=bojax.Float(1e-4, 1.0, log=True)), jnp.array([0.5]))
        >>> round(float(values["rate"]), 4)
        0.01
    """
    discrete = [name for name, parameter in space.items() if parameter.num_values]
    if discrete:
        raise NonDifferentiableHyperparameterError(
            f"`space` must have only Float parameters without `step`, got discrete {discrete}. Make a space "
            "of those Floats, and search over the others without gradients."
        )
    if jnp.shape(x) != (space.num_dims,):
        raise ValueError(f"`x` must have shape ({space.num_dims},), got {jnp.shape(x)}.")
    return space.decode(x)


def positive(x: Any) -> Any:
    """log(1 + exp(x)), which maps any number to a positive one: about x above 3, about exp(x) below -3.

    For scales and strengths: an outer optimizer cannot drive them below zero, and moves large ones by even steps. The
    inverse is log(exp(y) - 1).

    Args:
        x: a tree of arrays.

    Returns:
        A tree like `x`, all entries above 0.

    Example:
        >>> from bojax import hypergrad as hg
        >>> round(float(hg.positive(0.0)), 4)
        0.6931
    """
    return jax.tree.map(jax.nn.softplus, x)


def simplex(logits: Array) -> Array:
    """exp(logits) / sum(exp(logits)) over the last axis: weights that are positive and sum to one.

    For weights of losses, tasks or data sources. Zero logits give equal weights, and adding a number to all logits
    changes nothing.

    Args:
        logits: [..., k].

    Returns:
        [..., k] weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> hg.simplex(jnp.zeros(4)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    return jax.nn.softmax(logits, axis=-1)


def l2(params: Any, log_weight_decay: Any) -> Array:
    """0.5 sum_i exp(log_weight_decay_i) params_i^2, the penalty whose gradient is weight decay.

    Args:
        params: inner parameters.
        log_weight_decay: natural logarithms, a tree prefix of params: a scalar for all, one entry per layer, and so on.
            An entry is a scalar or has (or broadcasts to) the shape of its leaves.

    Returns:
        The penalty, a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> float(hg.l2({"w": jnp.array([1.0, 2.0])}, jnp.log(2.0)))
        5.0
    """

    def part(log_weight, below):
        leaves = jax.tree.leaves(below)
        weights = [jnp.exp(jnp.broadcast_to(jnp.asarray(log_weight, w.dtype), w.shape)) for w in leaves]
        return sum((jnp.sum(a * w**2) for a, w in zip(weights, leaves, strict=True)), jnp.zeros(()))

    parts = jax.tree.map(part, log_weight_decay, params)
    return 0.5 * sum(jax.tree.leaves(parts), jnp.zeros(()))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule for optax whose values at evenly spaced knots are hyperparameters.

    Attributes:
        values: [k] values at the knots: the first at step 0, the last at step `num_steps` - 1.
        num_steps: length of the schedule, after which it stays constant.
        kind: "linear" interpolates; "piecewise" holds each value for num_steps / k steps, so k = num_steps gives every
            step its own value.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> schedule = hg.Schedule(jnp.array([0.0, 1.0]), num_steps=11)
        >>> round(float(schedule(5)), 2)
        0.5
    """

    values: Array
    num_steps: int = dataclasses.field(metadata={"static": True})
    kind: Literal["linear", "piecewise"] = dataclasses.field(default="linear", metadata={"static": True})

    def __call__(self, count: Any) -> Array:
        """The value at a step."""
        k = self.values.shape[0]
        if self.kind == "piecewise":
            return self.values[jnp.clip(count * k // self.num_steps, 0, k - 1)]
        if k == 1:
            return self.values[0]
        place = jnp.asarray(count, self.values.dtype) * ((k - 1) / max(1, self.num_steps - 1))
        left = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, k - 2)
        share = jnp.clip(place - left, 0, 1)
        return (1 - share) * self.values[left] + share * self.values[left + 1]

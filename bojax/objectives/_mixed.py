"""Functions of more than Floats: one of every kind of parameter, and a learning rate with its weight decay."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from bojax._types import Array
from bojax.objectives._objective import SyntheticObjective
from bojax.space import Categorical, Float, Int, Ordinal, Space


def mixed() -> SyntheticObjective:
    """Returns a function of a Float, an Int, a Categorical and an Ordinal, with its minimum 0 at a known point.

    With the choice's offset o and center c, and the ordinal's position p:
    f = o + (x - c)^2 + ((count - 7) / 10)^2 + 0.1 (p - 2)^2 + 0.5 (x - c)^2 |p - 2|.
    The wrong choices have their minima at other x, so neither column can be searched alone.

    Returns:
        A `SyntheticObjective` with one parameter of each type.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.mixed()
        >>> round(f.evaluate({"x": 0.5, "count": 5, "choice": "red", "level": 2}), 4), round(f.optimum, 4)
        (2.255, 0.0)
    """
    space = Space(
        x=Float(-1, 1), count=Int(1, 20), choice=Categorical(["red", "green", "blue"]), level=Ordinal([1, 2, 4, 8])
    )

    def fn(params: Mapping[str, Any]) -> Array:
        x = jnp.asarray(params["x"])
        offset = jnp.asarray([0.3, 0.0, 0.1], x.dtype)[params["choice"]]
        center = jnp.asarray([-0.6, 0.25, 0.8], x.dtype)[params["choice"]]
        miss = jnp.asarray(params["level"]).astype(x.dtype) - 2
        count = (jnp.asarray(params["count"]).astype(x.dtype) - 7) / 10
        return offset + (x - center) ** 2 * (1 + 0.5 * jnp.abs(miss)) + count**2 + 0.1 * miss**2

    best = {"x": 0.25, "count": 7, "choice": "green", "level": 4}
    return SyntheticObjective(name="mixed", space=space, fn=fn, optimum=0.0, optimizers=(best,))


def learning_rate_bowl() -> SyntheticObjective:
    """Returns a bowl on the log scale that looks like a loss over learning rate and weight decay.

    With t = log10(learning_rate / 3e-3) and s = log10(weight_decay / 1e-4):
    f = 0.1 + a t^2 + 0.03 (s + t / 2)^2, where a = 0.4 for t > 0 and 0.05 below: too large a rate is worse than one
    too small, and a larger rate wants less decay. The minimum is 0.1 at (3e-3, 1e-4).

    Returns:
        A `SyntheticObjective` with the Floats `learning_rate` and `weight_decay`.

    Example:
        >>> from bojax import objectives
        >>> f = objectives.learning_rate_bowl()
        >>> round(f.evaluate({"learning_rate": 0.01, "weight_decay": 0.001}), 4), round(f.optimum, 4)
        (0.2571, 0.1)
    """
    space = Space(learning_rate=Float(1e-5, 1.0, log=True), weight_decay=Float(1e-6, 1e-1, log=True))

    def fn(params: Mapping[str, Any]) -> Array:
        t = jnp.log10(jnp.asarray(params["learning_rate"]) / 3e-3)
        s = jnp.log10(jnp.asarray(params["weight_decay"]) / 1e-4)
        return 0.1 + jnp.where(t > 0, 0.4, 0.05) * t**2 + 0.03 * (s + t / 2) ** 2

    best = {"learning_rate": 3e-3, "weight_decay": 1e-4}
    return SyntheticObjective(name="learning_rate_bowl", space=space, fn=fn, optimum=0.1, optimizers=(best,))

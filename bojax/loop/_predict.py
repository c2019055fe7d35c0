"""Predictions of an algorithm's surrogate, in the units of the reported values."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float, Key
from bojax.data import Observations
from bojax.surrogates import Surrogate, unwrapped

Predict = Callable[[Key, Any, Float[Array, "k d"]], tuple[Float[Array, "k"], Float[Array, "k"]]]


def predictor(surrogate: Surrogate, failures: Callable[[Observations], Observations]) -> Predict:
    """The `predict` of an algorithm.

    Args:
        surrogate: the algorithm's surrogate.
        failures: map from the observations to what the surrogate sees of them.

    Returns:
        A function from (key, state, X [k, d]) to the mean [k] and standard deviation [k] of the noise-free objective.
        The fit starts from scratch, so the result depends only on the key and the observations.
    """
    model, sees = unwrapped(surrogate)

    @jax.jit
    def predict(key, state, X):
        told = state.observations
        seen = sees(failures(told))
        params, _ = model.fit(key, seen, model.init(X.shape[-1], told.X.dtype))
        mean, var = model.posterior(params, seen).mean_var(X)
        std = jnp.sqrt(jnp.maximum(var, 0.0))
        inverse = _inverse(told.y, seen.y, told.mask)
        return inverse(mean), 0.5 * (inverse(mean + std) - inverse(mean - std))

    return predict


def _inverse(y: Float[Array, "n"], seen: Float[Array, "n"], mask: Bool[Array, "n"]) -> Callable[[Array], Array]:
    """The inverse of the monotone map from the masked y to `seen`: linear between and beyond them."""
    count = jnp.maximum(jnp.sum(mask), 1)
    rows = jnp.minimum(jnp.arange(mask.shape[0]), count - 1)
    order = jnp.argsort(jnp.where(mask, seen, jnp.inf))[rows]  # padding repeats the best value
    seen, y = seen[order], y[order]
    below, above = _slope(seen, y, 0, count // 2), _slope(seen, y, count // 2, -1)

    def inverse(values):
        beyond = jnp.minimum(values - seen[0], 0.0) * below + jnp.maximum(values - seen[-1], 0.0) * above
        return jnp.interp(values, seen, y) + beyond

    return inverse


def _slope(x, y, low, high):
    """Rise over run; 1 where there is no run."""
    run = x[high] - x[low]
    return jnp.where(run > 0, (y[high] - y[low]) / jnp.where(run > 0, run, 1.0), 1.0)

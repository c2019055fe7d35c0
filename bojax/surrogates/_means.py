"""Mean functions: what a surrogate expects where it knows nothing, in standardised units of y."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from bojax._types import Array, Float


class Mean(NamedTuple):
    """A mean function.

    Attributes:
        init: `init(num_dims, dtype) -> params`.
        value: `value(params, X [n, d]) -> [n]`.
        log_prior: `log_prior(params) -> scalar`, up to a constant.
        bounds: `bounds(params) -> (lower, upper)`, pytrees like params.
    """

    init: Callable[..., Any]
    value: Callable[..., Float[Array, "n"]]
    log_prior: Callable[[Any], Float[Array, ""]]
    bounds: Callable[[Any], tuple[Any, Any]]


def constant_mean() -> Mean:
    """One learned number. Its flat prior is bounded to ten standard deviations of the data."""

    def init(num_dims, dtype):
        del num_dims
        return jnp.zeros((), dtype)

    def value(params, X):
        return jnp.broadcast_to(params, X.shape[:1])

    def log_prior(params):
        return jnp.zeros_like(params)

    def bounds(params):
        return jnp.full_like(params, -10.0), jnp.full_like(params, 10.0)

    return Mean(init=init, value=value, log_prior=log_prior, bounds=bounds)


def zero_mean() -> Mean:
    """The mean of the observed values, with nothing to learn."""

    def nothing(params):
        del params
        return jnp.zeros(())

    return Mean(
        init=lambda num_dims, dtype: (),
        value=lambda params, X: jnp.zeros(X.shape[0], X.dtype),
        log_prior=nothing,
        bounds=lambda params: ((), ()),
    )

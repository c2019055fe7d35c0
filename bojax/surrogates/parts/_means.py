"""Mean functions: the prior mean of a surrogate, in standardized units of y."""

from typing import NamedTuple

import jax.numpy as jnp

from bojax.surrogates.parts._contracts import AtPointsFn, BindFn, BoundsFn, InitFn, LogPriorFn, ToGpjaxFn


class Mean(NamedTuple):
    """A mean function.

    Attributes:
        init: `init(num_dims, dtype) -> params`.
        value: `value(params, X [n, d]) -> [n]`.
        log_prior: `log_prior(params) -> scalar`, up to a constant.
        bounds: `bounds(params) -> (lower, upper)`, pytrees like params.
        to_gpjax: `to_gpjax(params) -> GPJax mean function`, or None if there is no equivalent.
        bind: `bind(inputs) -> Mean`, the mean for given categorical columns (`Inputs`), or None if it does not depend
            on them.
    """

    init: InitFn
    value: AtPointsFn
    log_prior: LogPriorFn
    bounds: BoundsFn
    to_gpjax: ToGpjaxFn | None = None
    bind: BindFn["Mean"] | None = None


def constant_mean() -> Mean:
    """Make a constant mean function with one learned parameter.

    The prior of the constant is flat between -10 and 10, in standardized units of y.

    Returns:
        A `Mean` whose params are a scalar, 0 at the start of a fit.

    Example:
        >>> import jax.numpy as jnp
        >>> mean = constant_mean()
        >>> mean.value(jnp.array(0.5), jnp.zeros((2, 1))).tolist()
        [0.5, 0.5]
    """

    def init(num_dims, dtype):
        del num_dims
        return jnp.zeros((), dtype)

    def value(params, X):
        return jnp.broadcast_to(params, X.shape[:1])

    def log_prior(params):
        return jnp.zeros_like(params)

    def bounds(params):
        return jnp.full_like(params, -10.0), jnp.full_like(params, 10.0)

    def to_gpjax(params):
        from gpjax.mean_functions import Constant

        return Constant(params)

    return Mean(init, value, log_prior, bounds, to_gpjax)


def zero_mean() -> Mean:
    """Make a mean function that is zero in standardized units: the mean of the observed values.

    Returns:
        A `Mean` without parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> zero_mean().value((), jnp.zeros((2, 1))).tolist()
        [0.0, 0.0]
    """

    def to_gpjax(params):
        from gpjax.mean_functions import Zero

        del params
        return Zero()

    return Mean(
        init=lambda num_dims, dtype: (),
        value=lambda params, X: jnp.zeros(X.shape[0], X.dtype),
        log_prior=lambda params: jnp.zeros(()),
        bounds=lambda params: ((), ()),
        to_gpjax=to_gpjax,
    )

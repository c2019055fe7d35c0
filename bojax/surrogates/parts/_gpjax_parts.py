"""Kernels and mean functions of GPJax as parts of a bojax Gaussian process.

GPJax objects are split into arrays once and rebuilt inside the innermost function. Importing GPJax takes over a second
and starts the JAX backend, so the functions here import it when they are called.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax.surrogates.parts._equality import by_equality
from bojax.surrogates.parts._gpjax_kernels import hiding
from bojax.surrogates.parts._kernels import Kernel
from bojax.surrogates.parts._means import Mean

PRIOR_STD = 3.0
"""GPJax parameters have no prior. Each gets a normal one with this standard deviation around its given value, on its
unconstrained scale."""
REACH = 12.0
"""How far an unconstrained GPJax parameter may move from its given value: softplus(-12) is 6e-6."""


def adapt_kernel(kernel: Any) -> Kernel:
    """A GPJax kernel (sums, products and active dimensions included) as a `Kernel`.

    Its unconstrained parameters become hyperparameters that start at their given values, with a wide normal prior
    around them. Parameters wrapped in `paramax.non_trainable` stay fixed. GPJax has no categories: on a space with
    categories the kernel gets the numeric columns, times a factor that compares categories by equality (`by_equality`).

    Raises:
        TypeError: `kernel` is not a GPJax kernel.
    """
    from gpjax.kernels import AbstractKernel

    if not isinstance(kernel, AbstractKernel):
        raise TypeError(f"`kernel` must be a bojax Kernel or a GPJax kernel, got {type(kernel).__name__}.")
    parts = _Parts(kernel)

    def matrix(params, X, Z):
        return parts.build(params).cross_covariance(X, Z)

    def diagonal(params, X):
        built = parts.build(params)
        return jax.vmap(lambda x: built(x, x))(X)

    adapted = Kernel(
        init=lambda num_dims, dtype: parts.init(dtype),
        matrix=matrix,
        diagonal=diagonal,
        log_prior=parts.log_prior,
        bounds=parts.bounds,
        to_gpjax=parts.build,
    )
    return adapted._replace(bind=lambda inputs: by_equality(adapted, inputs.categorical_dims))


def adapt_mean(mean: Any) -> Mean:
    """A GPJax mean function as a `Mean`, for standardized y.

    Its unconstrained parameters become hyperparameters that start at their given values, with a wide normal prior
    around them. On a space with categories it is a function of the numeric columns; the others are set to 0.5.

    Raises:
        TypeError: `mean` is not a GPJax mean function.
    """
    from gpjax.mean_functions import AbstractMeanFunction

    if not isinstance(mean, AbstractMeanFunction):
        raise TypeError(f"`mean` must be a bojax Mean or a GPJax mean function, got {type(mean).__name__}.")
    parts = _Parts(mean)

    def value(params, X):
        return jnp.reshape(parts.build(params)(X), (X.shape[0],))

    def bind(inputs):
        dims = np.asarray(inputs.categorical_dims)

        def bound_value(params, X):
            return value(params, X.at[:, dims].set(0.5))

        def to_gpjax(params):
            return hiding(parts.build(params), dims.tolist(), AbstractMeanFunction)

        return adapted._replace(value=bound_value, to_gpjax=to_gpjax)

    adapted = Mean(
        init=lambda num_dims, dtype: parts.init(dtype),
        value=value,
        log_prior=parts.log_prior,
        bounds=parts.bounds,
        to_gpjax=parts.build,
        bind=bind,
    )
    return adapted


class _Parts:
    """A GPJax object split into its trainable arrays and everything else that is needed to rebuild it."""

    def __init__(self, tree: Any):
        from paramax import NonTrainable

        self._leaves, self._treedef = jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, NonTrainable))
        self._trainable = [
            i
            for i, leaf in enumerate(self._leaves)
            if isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
        ]

    def init(self, dtype) -> tuple:
        return tuple(jnp.asarray(np.asarray(self._leaves[i]), dtype) for i in self._trainable)

    def build(self, params: tuple) -> Any:
        leaves = list(self._leaves)
        for i, value in zip(self._trainable, params, strict=True):
            leaves[i] = value
        return jax.tree.unflatten(self._treedef, leaves)

    def log_prior(self, params: tuple):
        total = jnp.zeros(())
        for value, start in zip(params, self.init(None), strict=True):
            total = total - 0.5 * jnp.sum(((value - start.astype(value.dtype)) / PRIOR_STD) ** 2)
        return total

    def bounds(self, params: tuple) -> tuple[tuple, tuple]:
        starts = [start.astype(p.dtype) for start, p in zip(self.init(None), params, strict=True)]
        return tuple(s - REACH for s in starts), tuple(s + REACH for s in starts)

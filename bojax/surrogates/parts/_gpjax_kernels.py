"""The kernels of bojax as GPJax kernels. GPJax has none for categories; the one here compares them by equality.

Importing GPJax takes over a second and starts the JAX backend, so the functions here import it when they are called.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Float


def stationary_to_gpjax(name: str, categorical_dims: tuple[int, ...], params: Any) -> Any:
    """The GPJax kernel equal to a stationary kernel of `_kernels`."""
    import gpjax.kernels

    lengthscale, variance = jnp.exp(params.log_lengthscale), jnp.exp(params.log_outputscale)
    numeric = [i for i in range(lengthscale.shape[0]) if i not in categorical_dims]
    kernel = gpjax.kernels.Constant(constant=variance)
    if numeric:
        stationary = getattr(gpjax.kernels, name)
        kernel = stationary(active_dims=numeric, lengthscale=lengthscale[np.asarray(numeric)], variance=variance)
    if categorical_dims:
        kernel = kernel * _equality_kernel(list(categorical_dims), lengthscale[np.asarray(categorical_dims)])
    return kernel


def equality_to_gpjax(kernel: Any, categorical_dims: list[int], lengthscale: Float[Array, "c"]) -> Any:
    """The GPJax kernel equal to `by_equality` of one."""
    from gpjax.kernels import AbstractKernel

    return hiding(kernel, categorical_dims, AbstractKernel) * _equality_kernel(categorical_dims, lengthscale)


def hiding(function: Any, categorical_dims: list[int], base: type) -> Any:
    """A GPJax kernel or mean function that gets 0.5 in the categorical columns."""

    class Hiding(base):
        function: Any = None  # every field of the base class has a default

        def __init__(self, function):
            self.function = function
            super().__init__()

        def __call__(self, *points):
            return self.function(*(x.at[..., np.asarray(categorical_dims)].set(0.5) for x in points))

    return Hiding(function)


def _equality_kernel(active_dims: list[int], lengthscale: Float[Array, "c"]) -> Any:
    """GPJax has no kernel for categories; this one is the factor that `_kernels` uses."""
    from gpjax.kernels import AbstractKernel

    class Equality(AbstractKernel):
        lengthscale: Any = None  # every field of the base class has a default

        def __init__(self, active_dims, lengthscale):
            self.lengthscale = lengthscale
            super().__init__(active_dims=active_dims)

        def __call__(self, x, y):
            differ = jnp.abs(self.slice_input(x) - self.slice_input(y)) > 1e-6
            return jnp.exp(-jnp.sum(jnp.where(differ, 1.0 / self.lengthscale, 0.0)))

    return Equality(active_dims, lengthscale)

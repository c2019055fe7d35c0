"""The bridge to GPJax: its kernels, means and models in, fitted posteriors out. The only module that imports GPJax.

GPJax objects are taken apart into arrays when they come in and put together again inside the innermost function: a
GPJax `Dataset` cannot pass through vmap. Importing GPJax takes over a second and starts the JAX backend, so it
happens in the functions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Float
from bojax.data import Observations
from bojax.surrogates._base import Surrogate
from bojax.surrogates._equality import by_equality
from bojax.surrogates._gp import GPParams, condition, gp, gp_model
from bojax.surrogates._kernels import Kernel
from bojax.surrogates._means import Mean
from bojax.surrogates._noise import Noise, fixed_noise
from bojax.surrogates._posterior import GPPosterior

PRIOR_STD = 3.0
"""GPJax parameters have no prior: each is held this loosely, on its unconstrained scale, at the value it came with."""
REACH = 12.0
"""How far an unconstrained GPJax parameter may move from where it came: softplus(-12) is 6e-6."""


def adapt_kernel(kernel: Any) -> Kernel:
    """A GPJax kernel (sums, products and active dimensions included) as a `Kernel`.

    Its unconstrained parameters become hyperparameters, started at the values they have and held there by a loose
    normal prior; parameters wrapped in `paramax.non_trainable` stay fixed. GPJax knows no categories: on a space that
    has some, the kernel sees the numeric columns, times a factor that compares categories by equality (`by_equality`).

    Raises:
        TypeError: when `kernel` is no GPJax kernel.
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
    """A GPJax mean function as a `Mean`; it is applied to standardised y. Parameters as in `adapt_kernel`.

    On a space with categories it is a function of the numeric columns: the others stand still at 0.5.

    Raises:
        TypeError: when `mean` is no GPJax mean function.
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
            return _hiding(parts.build(params), dims.tolist(), AbstractMeanFunction)

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


def from_gpjax(model: Any, *, noise: Noise | None = None, **settings: Any) -> Surrogate | GPPosterior | Kernel:
    """A GPJax model as a surrogate, a GPJax posterior as a posterior, or a GPJax kernel as a kernel.

    Args:
        model: a `ConjugateModel` (prior times Gaussian likelihood), or the exact posterior it gives on data in the unit
            cube; or a kernel. A model's kernel and mean apply to standardised y; a posterior is taken over as it is.
            On spaces with categories kernels are completed by `by_equality`; a kernel that treats them well itself is
            given as `kernel._replace(bind=lambda inputs: kernel)`, with `kernel = from_gpjax(...)`.
        noise: the noise of the surrogate, learned by default; for models only.
        **settings: further arguments of `gp`; for models only.

    Returns:
        A `Surrogate` for a model, a `GPPosterior` for a posterior, a `Kernel` for a kernel.

    Raises:
        TypeError: when `model` is none of them, or arguments are given that only models take.
    """
    from gpjax.conditioning import ExactPosterior
    from gpjax.gps import ConjugateModel
    from gpjax.kernels import AbstractKernel

    if isinstance(model, ConjugateModel):
        return gp(model.prior.kernel, model.prior.mean_function, noise, **settings)
    if settings or noise is not None:
        raise TypeError(f"`noise` and settings of `gp` are for GPJax models, got them with a {type(model).__name__}.")
    if isinstance(model, ExactPosterior):
        return _posterior_from(model)
    if isinstance(model, AbstractKernel):
        return adapt_kernel(model)
    raise TypeError(f"`model` must be a GPJax ConjugateModel, ExactPosterior or kernel, got a {type(model).__name__}.")


def to_gpjax(posterior: GPPosterior) -> Any:
    """The GPJax posterior with the same hyperparameters and data, in the units of y.

    Args:
        posterior: a fitted Gaussian process, with its kernel and mean from bojax or from GPJax.

    Returns:
        A GPJax `ExactPosterior` without jitter.

    Raises:
        TypeError: when the kernel or the mean is a custom one that does not say how to convert.
    """
    import gpjax
    from gpjax.kernels import Constant
    from gpjax.mean_functions import Constant as ConstantMean

    kernel_of, mean_of = posterior.kernel.to_gpjax, posterior.mean_function.to_gpjax
    if kernel_of is None or mean_of is None:
        part = "kernel" if kernel_of is None else "mean function"
        raise TypeError(f"the posterior's {part} has no `to_gpjax`, so it cannot be converted to GPJax.")
    loc, scale = posterior.scale
    rows = np.flatnonzero(np.asarray(posterior.mask))
    X = posterior.X[rows]
    kernel = kernel_of(posterior.kernel_params) * Constant(constant=scale**2)
    mean = mean_of(posterior.mean_params) * ConstantMean(scale) + ConstantMean(loc)
    standardised = posterior.residual + posterior.mean_function.value(posterior.mean_params, posterior.X)
    y = (loc + scale * standardised[rows])[:, None]
    likelihood = gpjax.likelihoods.Gaussian(obs_stddev=scale * jnp.sqrt(posterior.noise_var))
    model = gpjax.gps.Prior(kernel=kernel, mean_function=mean, jitter=0.0) * likelihood
    return model.condition(gpjax.Dataset(X=X, y=y))


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

    return _hiding(kernel, categorical_dims, AbstractKernel) * _equality_kernel(categorical_dims, lengthscale)


def _hiding(function: Any, categorical_dims: list[int], base: type) -> Any:
    """A GPJax kernel or mean function for which the categorical columns stand still at 0.5."""

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


def _posterior_from(posterior: Any) -> GPPosterior:
    from gpjax.parameters import val

    X, y = posterior.train_data.X, posterior.train_data.y[:, 0]
    count = X.shape[0]
    observations = Observations(X=X, y=y, mask=jnp.ones(count, bool), count=jnp.int32(count))
    noise_var = val(posterior.likelihood.obs_stddev) ** 2 + posterior.prior.jitter
    noise = fixed_noise()._replace(variance=lambda params, scale: noise_var.astype(X.dtype))  # as it is, with no floor
    model = gp_model(posterior.prior.kernel, posterior.prior.mean_function, noise)
    params = GPParams(
        kernel=model.kernel.init(X.shape[1], X.dtype),
        mean=model.mean.init(X.shape[1], X.dtype),
        log_noise_var=(),
    )
    return condition(model, params, observations, standardise=False)


class _Parts:
    """A GPJax object taken apart: trainable arrays here, everything else kept to rebuild it."""

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

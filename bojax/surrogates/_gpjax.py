"""Conversion from GPJax (kernels, models, posteriors) and to GPJax (posteriors).

Importing GPJax takes over a second and starts the JAX backend, so the functions here import it when they are called.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from bojax.data import Observations
from bojax.surrogates._base import Surrogate
from bojax.surrogates._gp import GPParams, condition, gp, gp_model
from bojax.surrogates.parts._gpjax_parts import adapt_kernel
from bojax.surrogates.parts._kernels import Kernel
from bojax.surrogates.parts._noise import Noise, fixed_noise
from bojax.surrogates.posteriors._posterior import GPLaw, GPPosterior


def from_gpjax(model: Any, *, noise: Noise | None = None, **settings: Any) -> Surrogate | GPPosterior | Kernel:
    """Convert a GPJax model to a surrogate, a GPJax posterior to a posterior, or a GPJax kernel to a kernel.

    Args:
        model: a `ConjugateModel` (prior times Gaussian likelihood), its `ExactPosterior` given data in the unit cube,
            or a kernel. Kernel and mean of a model apply to standardized y; a posterior is taken unchanged. On spaces
            with categories kernels are multiplied by the factor of `by_equality`. If a kernel handles categories
            itself, write `kernel._replace(bind=lambda inputs: kernel)` with `kernel = from_gpjax(...)`.
        noise: a `Noise` for the surrogate, learned by default. Only for models.
        **settings: further arguments of `gp`: `num_restarts`, `max_evals`. Only for models.

    Returns:
        A `Surrogate` for a model, a `GPPosterior` for a posterior, a `Kernel` for a kernel.

    Raises:
        TypeError: `model` is none of them, or arguments are given that only models take.

    Example:
        >>> import gpjax, jax.numpy as jnp
        >>> kernel = from_gpjax(gpjax.kernels.Matern32())  # lengthscale 1, variance 1
        >>> K = kernel.matrix(kernel.init(1, jnp.float32), jnp.array([[0.0]]), jnp.array([[0.0], [1.0]]))
        >>> [round(value, 3) for value in K[0].tolist()]
        [1.0, 0.483]
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
    """Convert a posterior to a GPJax posterior with the same hyperparameters and data, in the units of y.

    Args:
        posterior: the `GPPosterior` of an exact Gaussian process of values, such as `gp` gives, with kernel and mean
            from bojax or from GPJax.

    Returns:
        A GPJax `ExactPosterior` without jitter.

    Raises:
        TypeError: the posterior is of another kind, or its kernel or mean has no `to_gpjax`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> surrogate = gp()
        >>> with jax.enable_x64(True):  # GPJax expects float64
        ...     seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        ...     exported = to_gpjax(surrogate.posterior(surrogate.init(1, jnp.float64), seen))
        >>> exported.train_data.y[:, 0].round(6).tolist()
        [0.0, 1.0]
    """
    import gpjax
    from gpjax.kernels import Constant
    from gpjax.mean_functions import Constant as ConstantMean

    law = posterior.law
    if not isinstance(law, GPLaw) or posterior.residual is None or posterior.lift is not None:
        raise TypeError("`posterior` must be that of an exact Gaussian process of values, such as gp() gives.")
    kernel_of, mean_of = law.kernel.to_gpjax, law.mean_function.to_gpjax
    if kernel_of is None or mean_of is None:
        part = "kernel" if kernel_of is None else "mean function"
        raise TypeError(f"the posterior's {part} has no `to_gpjax`, so it cannot be converted to GPJax.")
    loc, scale = posterior.scale
    rows = np.flatnonzero(np.asarray(posterior.mask))
    X = posterior.X[rows]
    kernel = kernel_of(law.kernel_params) * Constant(constant=scale**2)
    mean = mean_of(law.mean_params) * ConstantMean(scale) + ConstantMean(loc)
    standardized = posterior.residual + law.mean(posterior.X)
    y = (loc + scale * standardized[rows])[:, None]
    likelihood = gpjax.likelihoods.Gaussian(obs_stddev=scale * jnp.sqrt(law.noise_var))
    model = gpjax.gps.Prior(kernel=kernel, mean_function=mean, jitter=0.0) * likelihood
    return model.condition(gpjax.Dataset(X=X, y=y))


def _posterior_from(posterior: Any) -> GPPosterior:
    from gpjax.parameters import val

    X, y = posterior.train_data.X, posterior.train_data.y[:, 0]
    count = X.shape[0]
    observations = Observations(X=X, y=y, mask=jnp.ones(count, bool), count=jnp.int32(count))
    noise_var = val(posterior.likelihood.obs_stddev) ** 2 + posterior.prior.jitter
    noise = fixed_noise()._replace(variance=lambda params, scale: noise_var.astype(X.dtype))  # without a floor
    model = gp_model(posterior.prior.kernel, posterior.prior.mean_function, noise)
    params = GPParams(
        kernel=model.kernel.init(X.shape[1], X.dtype),
        mean=model.mean.init(X.shape[1], X.dtype),
        log_noise_var=(),
    )
    return condition(model, params, observations, rescale=False)

"""The bridge to GPJax: its kernels, means and models in, fitted posteriors out.

Importing GPJax takes over a second and starts the JAX backend, so it happens in the functions.
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
    standardised = posterior.residual + law.mean(posterior.X)
    y = (loc + scale * standardised[rows])[:, None]
    likelihood = gpjax.likelihoods.Gaussian(obs_stddev=scale * jnp.sqrt(law.noise_var))
    model = gpjax.gps.Prior(kernel=kernel, mean_function=mean, jitter=0.0) * likelihood
    return model.condition(gpjax.Dataset(X=X, y=y))


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

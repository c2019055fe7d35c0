"""The exact Gaussian process: hyperparameters by maximum a posteriori, in one compiled program.

The fit maximizes log p(y | params) + log p(params) over kernel, mean and noise hyperparameters jointly, from several
starts at once: the given hyperparameters (usually those of the last fit), the mode of the prior, and random points
around it. All starts share one batched quasi-Newton run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._bfgs import each_lane, minimize_lanes
from bojax._linalg import first_jitter, matmul, stable_factor
from bojax._types import Array, Float
from bojax.data import Observations
from bojax.surrogates._base import FitInfo, Surrogate
from bojax.surrogates._inputs import Inputs, PaddedInputs, accept_padding, bound, takes_padding
from bojax.surrogates._marginal_likelihood import log_marginal_likelihood, masked_covariance
from bojax.surrogates.outputs._standardize import Scale, standardize
from bojax.surrogates.parts._kernels import Kernel, matern52
from bojax.surrogates.parts._means import Mean, constant_mean
from bojax.surrogates.parts._noise import Noise, learned_noise, row_noise, told_noise
from bojax.surrogates.posteriors._posterior import GPLaw, GPPosterior

ENOUGH = 1e-4
"""A fit ends when it expects to gain fewer nats than this (benchmarks/results/surrogates.md)."""
ENOUGH_TRUSTED = 1e-2
"""The same of a fit that goes on from a trusted one."""
MAX_EVALS_TRUSTED = 12
"""Evaluations of a fit that goes on from a trusted one; 3 to 5 are usual."""
START_SPREAD = 2.0
"""Largest distance of the random starts from the mode of the prior, in logarithms."""


class GPParams(NamedTuple):
    """Hyperparameters of a Gaussian process, unconstrained.

    Attributes:
        kernel: pytree of the kernel (`KernelParams` for `matern52` and `rbf`).
        mean: pytree of the mean function (one number for a constant).
        log_noise_var: logarithm of the noise variance in standardized units, or () if it is not learned.
    """

    kernel: Any
    mean: Any
    log_noise_var: Any


class GPModel(NamedTuple):
    """The parts of a Gaussian process."""

    kernel: Kernel
    mean: Mean
    noise: Noise


def gp(
    kernel: Any = None,
    mean: Any = None,
    noise: Noise | None = None,
    *,
    num_restarts: int = 2,
    max_evals: int = 100,
) -> Surrogate:
    """Exact Gaussian process surrogate, the default of `bayesopt`.

    Args:
        kernel: a `Kernel` (by default Matern-5/2 with one lengthscale per dimension) or any GPJax kernel. Algorithms
            bind it to the categorical columns of their space.
        mean: a `Mean` (by default a learned constant) or any GPJax mean function.
        noise: `learned_noise()` (default), `known_noise(variance)` or `fixed_noise(variance)`.
        num_restarts: number of starts of a fit, >= 1: the last fit, the mode of the prior, then random ones. With the
            default, 2, the first fit starts from the mode alone. More starts were not measurably better.
        max_evals: largest number of evaluations in one fit, over all starts, >= 1, 100 by default.

    Returns:
        A `Surrogate` whose params are `GPParams`, whose posterior is a `GPPosterior`, and whose fit can go on from a
        trusted one (`Surrogate.resumes`).

    Raises:
        ValueError: `num_restarts` or `max_evals` is below 1.
        TypeError: `kernel`, `mean` or `noise` has the wrong type.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> surrogate = gp()
        >>> seen = data.append(data.empty(1, 4), jnp.array([[0.1], [0.5], [0.9]]), jnp.array([0.0, 1.0, 0.0]))
        >>> params, info = surrogate.fit(jax.random.key(0), seen, surrogate.init(1, seen.X.dtype))
        >>> surrogate.posterior(params, seen).mean(jnp.array([[0.5]])).shape
        (1,)
    """
    if num_restarts < 1 or max_evals < 1:
        raise ValueError(f"`num_restarts` and `max_evals` must be at least 1, got {num_restarts} and {max_evals}.")
    model = gp_model(kernel, mean, noise)

    def init(num_dims, dtype):
        return initial_params(model, num_dims, dtype)

    def fit(key, observations, params, trusted=False):
        sizes = {"num_restarts": num_restarts, "max_evals": max_evals}
        return fit_gp(model, key, observations, params, trusted=trusted, **sizes)

    def posterior(params, observations, num_spare=0):
        return condition(model, params, observations, num_spare)

    def bind(inputs):
        return gp(*bound_model(model, inputs), num_restarts=num_restarts, max_evals=max_evals)

    posterior = jax.jit(posterior, static_argnums=2)
    surrogate = Surrogate(init, jax.jit(fit), posterior, bind, resumes=True)
    any_columns = takes_padding(model.kernel) and model.mean.bind is None
    return accept_padding(surrogate) if any_columns else surrogate


def gp_model(kernel: Any = None, mean: Any = None, noise: Noise | None = None) -> GPModel:
    """The parts that the arguments of `gp` stand for, with GPJax objects adapted."""
    if kernel is None:
        kernel = matern52()
    if mean is None:
        mean = constant_mean()
    if not isinstance(kernel, Kernel):
        from bojax.surrogates.parts._gpjax_parts import adapt_kernel

        kernel = adapt_kernel(kernel)
    if not isinstance(mean, Mean):
        from bojax.surrogates.parts._gpjax_parts import adapt_mean

        mean = adapt_mean(mean)
    if noise is not None and not isinstance(noise, Noise):
        raise TypeError(f"`noise` must be a Noise, such as learned_noise(), got {noise!r}.")
    return GPModel(kernel, mean, learned_noise() if noise is None else noise)


def bound_model(model: GPModel, inputs: Inputs | PaddedInputs) -> GPModel:
    """The parts, bound to the categorical columns."""
    mean = model.mean if model.mean.bind is None else model.mean.bind(inputs)
    return model._replace(kernel=bound(model.kernel, inputs, "kernel"), mean=mean)


def initial_params(model: GPModel, num_dims: int, dtype) -> GPParams:
    """The hyperparameters at the mode of their prior."""
    return GPParams(
        kernel=model.kernel.init(num_dims, dtype),
        mean=model.mean.init(num_dims, dtype),
        log_noise_var=model.noise.init(dtype),
    )


def log_posterior(model: GPModel, params: GPParams, observations: Observations) -> Float[Array, ""]:
    """log p(y | params) + log p(params) of the standardized observations, up to the constants of the priors."""
    return _log_posterior(model, params, observations, *standardize(observations.y, observations.mask))


def _covariance(model, params, observations, y, scale):
    """The masked covariance of the observations, their residuals, and the noise variance; all standardized.

    Noise that was reported with an observation replaces that of the model.
    """
    X, mask = observations.X, observations.mask
    noise_var = model.noise.variance(params.log_noise_var, scale)
    noise = row_noise(told_noise(observations, scale), noise_var)
    K = masked_covariance(model.kernel.matrix(params.kernel, X, X), noise, mask)
    residual = jnp.where(mask, y - model.mean.value(params.mean, X), 0.0)
    return K, residual, noise_var


def _log_posterior(model, params, observations, y, scale):
    X, mask = observations.X, observations.mask
    K, residual, _ = _covariance(model, params, observations, y, scale)
    prior = (
        model.kernel.log_prior(params.kernel)
        + model.mean.log_prior(params.mean)
        + model.noise.log_prior(params.log_noise_var)
    )
    return log_marginal_likelihood(K, residual, mask) + prior.astype(X.dtype)


def condition(
    model: GPModel, params: GPParams, observations: Observations, num_spare: int = 0, *, rescale: bool = True
) -> GPPosterior:
    """The posterior given hyperparameters, with `num_spare` free rows for `append`. y is scaled if `rescale`."""
    X, mask = observations.X, observations.mask
    if rescale:
        y, scale = standardize(observations.y, mask)
    else:
        y, scale = observations.y, Scale(jnp.zeros((), X.dtype), jnp.ones((), X.dtype))
    covariance = _covariance(model, params, observations, y, scale)
    return factored(model, params, X, mask, scale, covariance, num_spare)


def factored(
    model: GPModel, params: GPParams, X, mask, scale: Scale, covariance, num_spare: int, *, lift: Any = None
) -> GPPosterior:
    """The posterior from the masked covariance of the rows X, their residuals, and the noise variance.

    `lift` maps points to rows, if rows are not points; see `GPPosterior`.
    """
    K, residual, noise_var = covariance
    _, L_inv, ok = stable_factor(K, first_jitter=first_jitter(X.dtype))
    alpha = matmul(L_inv.T, matmul(L_inv, residual))
    posterior = GPPosterior(
        law=law_of(model, params, noise_var),
        X=X,
        mask=mask,
        L_inv=L_inv,
        alpha=alpha,
        scale=scale,
        num_used=jnp.int32(X.shape[0]),
        ok=ok,
        residual=residual,
        lift=lift,
    )
    return posterior.with_spare(num_spare) if num_spare else posterior


def law_of(model: GPModel, params: GPParams, noise_var: Float[Array, ""]) -> GPLaw:
    """The prior with given hyperparameters."""
    return GPLaw(params.kernel, params.mean, noise_var, model.kernel, model.mean)


def bounds(model: GPModel, params: GPParams) -> tuple[GPParams, GPParams]:
    """Lower and upper bounds of the hyperparameters in a fit."""
    parts = (
        model.kernel.bounds(params.kernel),
        model.mean.bounds(params.mean),
        model.noise.bounds(params.log_noise_var),
    )
    return GPParams(*(low for low, _ in parts)), GPParams(*(high for _, high in parts))


def starts(model: GPModel, key, params: GPParams, num_dims: int, num_restarts: int) -> Float[Array, "r p"]:
    """Flat starts of a fit: the given hyperparameters, the mode of the prior, and random points around it."""
    flat, _ = ravel_pytree(params)
    mode, _ = ravel_pytree(initial_params(model, num_dims, flat.dtype))
    if num_restarts == 1:
        return flat[None]
    shape = (num_restarts - 1, flat.shape[0])
    moves = jax.random.uniform(key, shape, flat.dtype, -START_SPREAD, START_SPREAD)
    # The mode itself is the second start, unless it was given and there are more than two starts.
    moves = moves.at[0].multiply(jnp.all(flat == mode).astype(flat.dtype) * (num_restarts > 2))
    return jnp.concatenate([flat[None], mode[None, :] + moves])


def fit_gp(
    model: GPModel,
    key,
    observations: Observations,
    params: GPParams,
    *,
    num_restarts: int,
    max_evals: int,
    trusted: Any = False,
):
    """The hyperparameters of largest posterior density, and the `FitInfo`; see `gp` and `Surrogate.resumes`."""
    flat, unravel = ravel_pytree(params)
    if flat.size == 0:  # everything is fixed
        value = -log_posterior(model, params, observations)
        return params, FitInfo(value, value[None], jnp.int32(1), jnp.isfinite(value))
    lower, upper = (ravel_pytree(b)[0] for b in bounds(model, params))

    y, scale = standardize(observations.y, observations.mask)

    def loss(theta):
        return -_log_posterior(model, unravel(theta), observations, y, scale)

    x0 = starts(model, key, params, observations.X.shape[-1], num_restarts)
    if num_restarts == 2:
        # If the mode was given, one lane is enough: a start that is not finite ends immediately.
        x0 = x0.at[1].set(jnp.where(jnp.all(x0[0] == x0[1]), jnp.nan, x0[1]))
    trusted = jnp.asarray(trusted) & jnp.all(jnp.isfinite(flat))
    x0 = x0.at[1:].set(jnp.where(trusted, jnp.nan, x0[1:]))
    most = jnp.where(trusted, min(MAX_EVALS_TRUSTED, max_evals), max_evals)
    enough = jnp.where(trusted, ENOUGH_TRUSTED, ENOUGH).astype(flat.dtype)
    result, losses = minimize_starts(loss, x0, lower, upper, most, enough)
    best = jnp.argmin(losses)
    ok = jnp.isfinite(losses[best])
    return unravel(jnp.where(ok, result.x[best], flat)), FitInfo(losses[best], losses, result.num_evals, ok)


def minimize_starts(
    loss, x0: Float[Array, "r p"], lower, upper, max_evals: int | Array, enough: float | Array = 0.0
) -> tuple[Any, Float[Array, "r"]]:
    """The result of minimizing from all starts, and their losses; losses that are not finite become infinite.

    `enough` is the `expected_gain` of `minimize_lanes`.
    """
    float64 = jnp.finfo(x0.dtype).bits >= 64
    result = minimize_lanes(
        each_lane(jax.value_and_grad(loss)),
        x0,
        lower,
        upper,
        max_evals=max_evals,
        gtol=1e-4 if float64 else 1e-2,
        ftol=1e-8 if float64 else 1e-6,
        expected_gain=enough,
    )
    return result, jnp.where(jnp.isfinite(result.f), result.f, jnp.inf)

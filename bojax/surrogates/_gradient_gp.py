"""A Gaussian process of values and gradients.

Values and derivatives of a Gaussian process are jointly Gaussian, so a gradient is d more observations. Every row of
the data is a value or a directional derivative (`LinearRows`); the rest is the exact Gaussian process of `gp`.
Gradients have their own noise variance, learned with the other hyperparameters.

The likelihood alone does not detect wrong gradients: there are d times as many of them as values, and it may blame the
values. Therefore the GP is also fitted to the values alone, and gradients are used only if they improve the prediction
of each value from all other data (sum of the leave-one-out log densities). With 5 values or fewer the decision is
unreliable.

Gradients carry enough information to learn a warping of the inputs (`warped`), which is therefore the default. Figures:
`benchmarks/results/surrogates.md`.

A factorization of n (d + 1) rows costs (d + 1)^3 times that of n. Beyond `MAX_ROWS` each point keeps one derivative,
the one along its own gradient, which makes 2 n rows (Wu, Poloczek, Wilson and Frazier 2017, arXiv:1703.04389, also keep
one direction).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._types import Array, Bool, Float
from bojax.data import Observations
from bojax.surrogates._base import FitInfo, Surrogate
from bojax.surrogates._gp import (
    GPModel,
    GPParams,
    bound_model,
    bounds,
    condition,
    factored,
    fit_gp,
    gp_model,
    initial_params,
    minimize_starts,
    starts,
)
from bojax.surrogates._gradient_rows import MAX_ROWS, Rows, packed_kernel, packed_mean, rows_of, values_at
from bojax.surrogates._marginal_likelihood import log_marginal_likelihood, masked_covariance
from bojax.surrogates.outputs._output import OutputTransform
from bojax.surrogates.parts._kernels import Kernel
from bojax.surrogates.parts._noise import Noise, learned_noise, row_noise
from bojax.surrogates.parts._warping import warped
from bojax.surrogates.posteriors._leave_one_out import log_densities
from bojax.surrogates.posteriors._posterior import GPPosterior

LARGEST_NOISE = 1e4
"""Largest noise variance of a gradient, in squared standardized units of y per side of the cube: no information."""


class GradientGPParams(NamedTuple):
    """Hyperparameters, unconstrained, and whether the fit decided to use gradients.

    Attributes:
        gp: hyperparameters of the Gaussian process and of the noise of values.
        log_grad_noise_var: hyperparameters of the noise of gradients.
        believed: whether gradients are used.
    """

    gp: GPParams
    log_grad_noise_var: Any
    believed: Bool[Array, ""]


class _Settings(NamedTuple):
    """The arguments of `gradient_gp`, with the parts for points (`model`) and for packed rows (`packed`)."""

    model: GPModel
    packed: GPModel
    grad_noise: Noise
    fallback_transform: OutputTransform | None
    num_restarts: int
    max_evals: int
    max_rows: int


def gradient_gp(
    kernel: Kernel | None = None,
    mean: Any = None,
    noise: Noise | None = None,
    grad_noise: Noise | None = None,
    *,
    fallback_transform: OutputTransform | None = None,
    num_restarts: int = 2,
    max_evals: int = 100,
    max_rows: int = MAX_ROWS,
) -> Surrogate:
    """Gaussian process of values and gradients.

    Gradients are used if they improve the prediction of each value from all other data, otherwise they are ignored.

    Args:
        kernel: a `Kernel` with `derivatives`: `matern52`, `rbf`, or one of them inside `warped`; by default
            `warped(matern52())`.
        mean: a `Mean` whose derivative is zero, such as the default, a learned constant.
        noise: noise of values: `learned_noise()` (default), `known_noise(variance)` or `fixed_noise(variance)`.
        grad_noise: noise of every component of a gradient, in squared standardized units of y per side of the cube;
            learned by default, up to 10,000.
        fallback_transform: an `OutputTransform` of the values if there are no gradients or they are not used. It is
            for transforms that gradients cannot pass through, such as `half_rank`. By default there is none.
        num_restarts: number of starts of a fit, >= 1, 2 by default.
        max_evals: largest number of evaluations in one fit, over all starts, >= 1, 100 by default. The fit to values
            alone has the same limit.
        max_rows: beyond this number of rows, capacity times (d + 1), each point keeps one directional derivative; 600
            by default. The cost grows with the cube of the number of rows.

    Returns:
        A `Surrogate`. If observations have no gradients, its posterior is that of `gp` with the same parts.

    Raises:
        TypeError: the kernel has no `derivatives`, or a part has the wrong type.
        ValueError: a number is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gradient_gp
        >>> surrogate, empty = gradient_gp(), data.empty(1, 2, columns=["grad"])
        >>> X, grad = jnp.array([[0.2], [0.8]]), jnp.array([[5.0], [0.0]])
        >>> seen = data.append(empty, X, jnp.array([0.0, 1.0]), grad=grad)
        >>> params = surrogate.init(1, jnp.float32)
        >>> mean = jax.jit(lambda X: surrogate.posterior(params, seen).mean(X))
        >>> [round(value, 2) for value in mean(jnp.array([[0.2], [0.3]])).tolist()]
        [0.0, 0.45]

    Source: Wu, Poloczek, Wilson and Frazier (2017), arXiv:1703.04389.
    """
    if num_restarts < 1 or max_evals < 1 or max_rows < 1:
        raise ValueError(
            "`num_restarts`, `max_evals` and `max_rows` must be at least 1, "
            f"got {num_restarts}, {max_evals} and {max_rows}."
        )
    model = gp_model(warped() if kernel is None else kernel, mean, noise)
    packed = model._replace(kernel=packed_kernel(model.kernel), mean=packed_mean(model.mean))
    grad_noise = learned_noise(std=3.0, upper=LARGEST_NOISE) if grad_noise is None else grad_noise
    settings = _Settings(model, packed, grad_noise, fallback_transform, num_restarts, max_evals, max_rows)

    def init(num_dims, dtype):
        return GradientGPParams(initial_params(model, num_dims, dtype), grad_noise.init(dtype), jnp.asarray(True))

    def fit(key, observations, params):
        return _fit(settings, key, observations, params)

    def posterior(params, observations, num_spare=0):
        return _condition(settings, params, _chosen_rows(settings, params.believed, observations), num_spare)

    def bind(inputs):
        sizes: Any = {"num_restarts": num_restarts, "max_evals": max_evals, "max_rows": max_rows}
        bound_parts = bound_model(model, inputs)
        return gradient_gp(*bound_parts, grad_noise, fallback_transform=fallback_transform, **sizes)

    posterior = jax.jit(posterior, static_argnums=2)
    return Surrogate(init, jax.jit(fit), posterior, bind, columns=("noise_var", "grad"))


def _fit(settings: _Settings, key, observations: Observations, params: GradientGPParams):
    """The fit with gradients if it predicts better, otherwise the fit to (transformed) values alone."""
    model, sizes = settings.model, {"num_restarts": settings.num_restarts, "max_evals": settings.max_evals}
    fallback, fallback_info = fit_gp(model, key, _fallback(settings, observations), params.gp, **sizes)
    if "grad" not in observations.columns:
        return GradientGPParams(fallback, params.log_grad_noise_var, jnp.asarray(False)), fallback_info
    rows = rows_of(observations, settings.max_rows)
    with_gradients, info = _fit_rows(settings, key, rows, params)
    values = observations.with_columns(grad=None)
    values_only = fallback
    if settings.fallback_transform is not None:
        values_only, _ = fit_gp(model, key, values, params.gp, **sizes)
    num_values = observations.capacity
    density_with = _density(_condition(settings, with_gradients, rows), num_values)
    density_without = _density(condition(model, values_only, values), num_values)
    believed = info.ok & jnp.any(rows.mask & rows.is_grad) & (density_with > density_without)

    def choose(a, b):
        return jax.tree.map(lambda a, b: jnp.where(believed, a, b), a, b)

    return GradientGPParams(choose(with_gradients.gp, fallback), with_gradients.log_grad_noise_var, believed), choose(
        info, fallback_info
    )


def _fit_rows(settings: _Settings, key, rows: Rows, params: GradientGPParams):
    model, grad_noise = settings.packed, settings.grad_noise
    flat, unravel = ravel_pytree((params.gp, params.log_grad_noise_var))
    num_dims = rows.P.shape[-1] // 2
    (gp_low, gp_high), (low, high) = bounds(model, params.gp), grad_noise.bounds(params.log_grad_noise_var)
    lower, upper = (ravel_pytree(pair)[0] for pair in ((gp_low, low), (gp_high, high)))
    first = starts(model, key, params.gp, num_dims, settings.num_restarts)
    mode = ravel_pytree(grad_noise.init(flat.dtype))[0]
    noises = jnp.broadcast_to(mode, (settings.num_restarts, *mode.shape))
    noises = noises.at[0].set(ravel_pytree(params.log_grad_noise_var)[0])
    x0 = jnp.clip(jnp.concatenate([first, noises], axis=-1), lower[None], upper[None])

    def at(theta):
        return GradientGPParams(*unravel(theta), believed=jnp.asarray(True))

    def loss(theta):
        return _loss(settings, at(theta), rows)

    result, losses = minimize_starts(loss, x0, lower, upper, settings.max_evals)
    best = jnp.argmin(losses)
    ok = jnp.isfinite(losses[best])
    return at(jnp.where(ok, result.x[best], flat)), FitInfo(losses[best], losses, result.num_evals, ok)


def _fallback(settings: _Settings, observations: Observations) -> Observations:
    """The observations without gradients, with the fallback transform applied."""
    y = observations.y
    if settings.fallback_transform is not None:
        y = settings.fallback_transform(y, observations.mask)
    return observations._replace(y=y).with_columns(grad=None)


def _chosen_rows(settings: _Settings, believed: Bool[Array, ""], observations: Observations) -> Rows:
    """The rows with gradients if they are used, otherwise the transformed values in arrays of the same shape."""
    plain = _fallback(settings, observations)
    if "grad" not in observations.columns:
        return rows_of(plain, settings.max_rows)
    plain = plain.with_columns(grad=jnp.full_like(observations.columns["grad"], jnp.nan))
    pair = (rows_of(seen, settings.max_rows) for seen in (observations, plain))
    return jax.tree.map(lambda a, b: jnp.where(believed, a, b), *pair)


def _density(posterior: GPPosterior, num_values: int) -> Float[Array, ""]:
    """Sum of the log densities of the values, each given all other rows; minus infinity if it is not finite."""
    seen = posterior.mask[:num_values]
    total = jnp.sum(jnp.where(seen, log_densities(posterior)[:num_values], 0.0))
    return jnp.where(posterior.ok & jnp.isfinite(total), total, -jnp.inf)


def _covariance(settings: _Settings, params: GradientGPParams, rows: Rows):
    """The masked covariance of the rows, their residuals, and the noise variance of values."""
    model = settings.packed
    noise_var = model.noise.variance(params.gp.log_noise_var, rows.scale)
    grad_noise_var = settings.grad_noise.variance(params.log_grad_noise_var, rows.scale)
    K = model.kernel.matrix(params.gp.kernel, rows.P, rows.P)
    own = jnp.where(rows.is_grad, grad_noise_var, noise_var)
    K = masked_covariance(K, row_noise(rows.told, own), rows.mask)
    residual = jnp.where(rows.mask, rows.y - model.mean.value(params.gp.mean, rows.P), 0.0)
    return K, residual, noise_var


def _loss(settings: _Settings, params: GradientGPParams, rows: Rows) -> Float[Array, ""]:
    K, residual, _ = _covariance(settings, params, rows)
    model = settings.packed
    prior = (
        model.kernel.log_prior(params.gp.kernel)
        + model.mean.log_prior(params.gp.mean)
        + model.noise.log_prior(params.gp.log_noise_var)
        + settings.grad_noise.log_prior(params.log_grad_noise_var)
    )
    return -log_marginal_likelihood(K, residual, rows.mask) - prior.astype(K.dtype)


def _condition(settings: _Settings, params: GradientGPParams, rows: Rows, num_spare: int = 0) -> GPPosterior:
    covariance, packed = _covariance(settings, params, rows), settings.packed
    return factored(packed, params.gp, rows.P, rows.mask, rows.scale, covariance, num_spare, lift=values_at)

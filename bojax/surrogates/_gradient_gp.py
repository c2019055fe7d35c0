"""A Gaussian process that is told gradients, too.

Values and derivatives of a Gaussian process are jointly Gaussian, so a gradient is d more observations. Every row of
the data is a value or a directional derivative (`Jets`); the rest is the exact Gaussian process of `gp`. Gradients have
a noise variance of their own, learned with the other hyperparameters. The likelihood alone does not find out wrong
gradients: they are d times as many as values, and it may blame the values. So hyperparameters without gradients are
fitted, too, and those are taken under which each value is predicted better by everything else (leave-one-out density).

A factorisation of n (d + 1) rows costs (d + 1)^3 times that of n. Beyond `MAX_ROWS` each point keeps one derivative,
the one along its own gradient, which makes 2 n rows (Wu, Poloczek, Wilson and Frazier 2017, arXiv:1703.04389, keep
one direction, too).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._linalg import matmul, stable_factor
from bojax._types import Array, Bool, Float, Key
from bojax.data import Observations
from bojax.surrogates._base import FitInfo, Surrogate
from bojax.surrogates._gp import (
    GPModel,
    GPParams,
    bounds,
    factored,
    gp_model,
    initial_params,
    minimize_starts,
    starts,
    told_noise,
)
from bojax.surrogates._kernels import Jets, Kernel
from bojax.surrogates._marginal_likelihood import log_marginal_likelihood, masked_covariance
from bojax.surrogates._means import Mean
from bojax.surrogates._noise import Noise, learned_noise
from bojax.surrogates._posterior import GPPosterior, first_jitter
from bojax.surrogates._standardize import Scale, standardize

MAX_ROWS = 600
"""Most rows with full gradients: one evaluation of the likelihood takes about 0.1 s at 600 and 0.6 s at 1,050."""
SWITCHED_OFF = 1e4
"""Largest noise variance of a gradient, in squared standardised units of y per side of the cube: it says nothing."""

MARGIN = 1.0
"""By so many nats gradients must improve the prediction of values to be believed. On the breast-cancer problem of
`benchmarks.gradient_bo`, adverse gradients were switched off in every fit, right ones in one of seven."""


class GradientGPParams(NamedTuple):
    """Hyperparameters, unconstrained.

    Attributes:
        gp: those of the process and of the noise of values.
        log_grad_noise_var: hyperparameters of the noise of gradients.
    """

    gp: GPParams
    log_grad_noise_var: Any


class Rows(NamedTuple):
    """Observations as rows of one Gaussian vector.

    Attributes:
        P: [N, 2 d + 1] packed `Jets`.
        y: [N] standardised values and derivatives; 0 outside the mask.
        mask: [N] which rows were observed.
        is_grad: [N] which rows are derivatives.
        told: [N] noise variances that were told.
        scale: location and scale of y.
    """

    P: Float[Array, "r p"]
    y: Float[Array, "r"]
    mask: Bool[Array, "r"]
    is_grad: Bool[Array, "r"]
    told: Float[Array, "r"]
    scale: Scale


def gradient_gp(
    kernel: Kernel | None = None,
    mean: Any = None,
    noise: Noise | None = None,
    grad_noise: Noise | None = None,
    *,
    num_restarts: int = 3,
    max_evals: int = 100,
    max_rows: int = MAX_ROWS,
) -> Surrogate:
    """A Gaussian process of values and gradients.

    Args:
        kernel: a `Kernel` that knows its derivatives: `matern52` (default) or `rbf`.
        mean: see `gp`; its derivative must be zero, as a constant's is.
        noise: see `gp`.
        grad_noise: noise variance of every component of a gradient, in squared standardised units of y per side of the
            cube; learned by default, up to `SWITCHED_OFF`.
        num_restarts: starts of the fit, >= 3: the last fit, the prior's mode, random ones, and one that goes without
            gradients.
        max_evals: most evaluations of all starts together in one fit.
        max_rows: beyond so many rows (capacity times d + 1) points keep one directional derivative each.

    Returns:
        A `Surrogate`; observations without gradients make it that of `gp`.

    Raises:
        TypeError: for a kernel whose derivatives are not known.
        ValueError: for a number out of range.
    """
    if num_restarts < 3 or max_evals < 1 or max_rows < 1:
        raise ValueError(
            "`num_restarts` must be at least 3, `max_evals` and `max_rows` at least 1, "
            f"got {num_restarts}, {max_evals} and {max_rows}."
        )
    model = gp_model(kernel, mean, noise)
    grad_noise = learned_noise(std=3.0, upper=SWITCHED_OFF) if grad_noise is None else grad_noise
    packed = model._replace(kernel=packed_kernel(model.kernel), mean=packed_mean(model.mean))

    def init(num_dims, dtype):
        return GradientGPParams(initial_params(model, num_dims, dtype), grad_noise.init(dtype))

    def fit(key, observations, params):
        return _fit(packed, grad_noise, key, rows_of(observations, max_rows), params, num_restarts, max_evals)

    def posterior(params, observations, num_spare=0):
        return _condition(packed, grad_noise, params, rows_of(observations, max_rows), num_spare)

    return Surrogate(init=init, fit=jax.jit(fit), posterior=jax.jit(posterior, static_argnums=2))


def rows_of(observations: Observations, max_rows: int = MAX_ROWS) -> Rows:
    """Observations as rows: all values, then all derivatives. Components of gradients that are NaN were not told."""
    X, mask = observations.X, observations.mask
    n, d = X.shape
    y, scale = standardize(observations.y, mask)
    values = values_at(X), y, mask, told_noise(observations, scale)
    if observations.grad is None:
        return Rows(*values[:3], jnp.zeros(n, bool), values[3], scale)
    known = mask[:, None] & jnp.isfinite(observations.grad)
    grad = jnp.where(known, observations.grad, 0.0) / scale.scale
    if n * (d + 1) <= max_rows:
        direction = jnp.tile(jnp.eye(d, dtype=X.dtype), (n, 1))
        points, slopes, seen = jnp.repeat(X, d, axis=0), grad.reshape(-1), known.reshape(-1)
    else:
        norm = jnp.sqrt(jnp.sum(grad**2, axis=-1))
        seen = norm > 0
        direction = grad / jnp.where(seen, norm, 1.0)[:, None]
        points, slopes = X, norm
    derivatives = pack(Jets(points, jnp.zeros(len(points), X.dtype), direction)), slopes, seen, jnp.zeros_like(slopes)
    P, y, mask, told = (jnp.concatenate(pair) for pair in zip(values, derivatives, strict=True))
    return Rows(P, y, mask, jnp.arange(len(y)) >= n, told, scale)


def pack(jets: Jets) -> Float[Array, "r p"]:
    """Jets as the rows of one array."""
    return jnp.concatenate([jets.X, jets.value[:, None], jets.direction], axis=-1)


def unpack(P: Float[Array, "r p"]) -> Jets:
    """The jets that rows stand for."""
    d = P.shape[-1] // 2
    return Jets(P[:, :d], P[:, d], P[:, d + 1 :])


def values_at(X: Float[Array, "k d"]) -> Float[Array, "k p"]:
    """The rows that stand for the values at X."""
    return pack(Jets(X, jnp.ones(X.shape[0], X.dtype), jnp.zeros_like(X)))


def packed_kernel(kernel: Kernel) -> Kernel:
    """The kernel between packed rows. Its diagonal is for rows that are values."""

    derivatives = kernel.derivatives
    if derivatives is None:
        raise TypeError("`kernel` must know its derivatives: use bojax.surrogates.matern52 or rbf.")

    def matrix(params, P, Q):
        return derivatives(params, unpack(P), unpack(Q))

    def diagonal(params, P):
        return kernel.diagonal(params, unpack(P).X)

    return Kernel(kernel.init, matrix, diagonal, kernel.log_prior, kernel.bounds)


def packed_mean(mean: Mean) -> Mean:
    """The mean of packed rows: that of the value, and 0 for derivatives."""

    def value(params, P):
        jets = unpack(P)
        return jets.value * mean.value(params, jets.X)

    return mean._replace(value=value, to_gpjax=None)


def _covariance(model: GPModel, grad_noise: Noise, params: GradientGPParams, rows: Rows):
    """The masked covariance of the rows, their residuals, and the noise variance of values."""
    noise_var = model.noise.variance(params.gp.log_noise_var, rows.scale)
    grad_noise_var = grad_noise.variance(params.log_grad_noise_var, rows.scale)
    K = model.kernel.matrix(params.gp.kernel, rows.P, rows.P)
    K = masked_covariance(K, jnp.where(rows.is_grad, grad_noise_var, noise_var) + rows.told, rows.mask)
    residual = jnp.where(rows.mask, rows.y - model.mean.value(params.gp.mean, rows.P), 0.0)
    return K, residual, noise_var


def _loss(model, grad_noise, params, rows):
    K, residual, _ = _covariance(model, grad_noise, params, rows)
    prior = (
        model.kernel.log_prior(params.gp.kernel)
        + model.mean.log_prior(params.gp.mean)
        + model.noise.log_prior(params.gp.log_noise_var)
        + grad_noise.log_prior(params.log_grad_noise_var)
    )
    return -log_marginal_likelihood(K, residual, rows.mask) - prior.astype(K.dtype)


def _fit(model, grad_noise, key, rows, params, num_restarts, max_evals):
    flat, unravel = ravel_pytree(params)
    num_dims = rows.P.shape[-1] // 2
    (gp_low, gp_high), (low, high) = bounds(model, params.gp), grad_noise.bounds(params.log_grad_noise_var)
    lower, upper = (ravel_pytree(GradientGPParams(*pair))[0] for pair in ((gp_low, low), (gp_high, high)))
    first = starts(model, key, params.gp, num_dims, num_restarts)
    mode = ravel_pytree(grad_noise.init(flat.dtype))[0]
    noises = jnp.broadcast_to(mode, (num_restarts, *mode.shape))
    noises = noises.at[0].set(ravel_pytree(params.log_grad_noise_var)[0])
    x0 = jnp.concatenate([first, noises], axis=-1)
    lower, upper = (jnp.broadcast_to(b, x0.shape) for b in (lower, upper))
    if mode.size:  # the last lane keeps gradients switched off
        off = math.log(SWITCHED_OFF)
        x0, lower, upper = (array.at[-1, -1].set(off) for array in (x0, lower, upper))
    x0 = jnp.clip(x0, lower, upper)

    def loss(theta):
        return _loss(model, grad_noise, unravel(theta), rows)

    result, losses = minimize_starts(loss, x0, lower, upper, max_evals)
    best = jnp.argmin(losses)
    if mode.size:
        best = jnp.argmin(losses[:-1])
        densities = [leave_one_out(model, grad_noise, unravel(result.x[i]), rows) for i in (best, num_restarts - 1)]
        best = jnp.where(densities[0] > densities[1] + MARGIN, best, num_restarts - 1)
    ok = jnp.isfinite(losses[best])
    return unravel(jnp.where(ok, result.x[best], flat)), FitInfo(losses[best], losses, result.num_evals, ok)


def leave_one_out(model: GPModel, grad_noise: Noise, params: GradientGPParams, rows: Rows) -> Float[Array, ""]:
    """Sum of the log densities of the values, each given everything else; minus infinity where that is not finite.

    With a = K^-1 r and C = K^-1, value i is predicted to be off by a_i / C_ii with the variance 1 / C_ii (Rasmussen and
    Williams 2006, section 5.4.2).
    """
    K, residual, _ = _covariance(model, grad_noise, params, rows)
    _, L_inv, ok = stable_factor(K, first_jitter=first_jitter(K.dtype))
    alpha, precision = matmul(L_inv.T, matmul(L_inv, residual)), jnp.sum(L_inv * L_inv, axis=0)
    density = 0.5 * (jnp.log(precision) - alpha * alpha / precision)
    total = jnp.sum(jnp.where(rows.mask & ~rows.is_grad, density, 0.0))
    return jnp.where(ok & jnp.isfinite(total), total, -jnp.inf)


def _condition(model, grad_noise, params, rows, num_spare) -> "GradientPosterior":
    covariance = _covariance(model, grad_noise, params, rows)
    return GradientPosterior(factored(model, params.gp, rows.P, rows.mask, rows.scale, covariance, num_spare))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientPosterior:
    """The belief about values of a process whose observations are values and derivatives; see `Posterior`.

    Attributes:
        inner: the posterior over packed rows.
    """

    inner: GPPosterior

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance at each of k points."""
        return self.inner.mean_var(values_at(X))

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        return self.inner.mean(values_at(X))

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return self.inner.var(values_at(X))

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points together."""
        return self.inner.joint(values_at(X))

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance between two sets of points."""
        return self.inner.cov(values_at(X), values_at(Z))

    def sample(self, key: Key, X: Float[Array, "q d"], num_samples: int) -> Float[Array, "s q"]:
        """Joint samples at q points."""
        return self.inner.sample(key, values_at(X), num_samples)

    def observation_noise(self) -> Float[Array, ""]:
        """Variance of the noise of one more value."""
        return self.inner.observation_noise()

    def append(self, x: Float[Array, "d"], y: Float[Array, ""]) -> "GradientPosterior":
        """The belief after one more value y at x; see `GPPosterior.append`."""
        return GradientPosterior(self.inner.append(values_at(x[None])[0], y))

    def standardized(self) -> "GradientPosterior":
        """The same belief in units in which the observed y have mean 0 and standard deviation 1."""
        return GradientPosterior(self.inner.standardized())

    def paths(self, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0):
        """Samples of the objective, fixed at m points; see `Posterior.paths`."""
        return GradientPaths(self.inner.paths(values_at(X), mask, base, num_spare))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientPaths:
    """Samples of the objective, fixed at a few points; see `Paths`.

    Attributes:
        inner: the samples over packed rows.
    """

    inner: Any

    @property
    def values(self) -> Float[Array, "s m"]:
        """Every sample at the fixed points."""
        return self.inner.values

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "1 k"]]:
        """Mean and variance of every sample at X."""
        return self.inner.mean_var(values_at(X))

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "1 q q"]]:
        """Mean and covariance of every sample at q points together."""
        return self.inner.joint(values_at(X))

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "GradientPaths":
        """The samples fixed at one more point."""
        return GradientPaths(self.inner.append(values_at(x[None])[0], base))

"""A sparse variational Gaussian process, for thousands of observations.

The process is known through its values at m inducing points Z, chosen among the observed ones. With
A = L^-1 K_zn S^-1/2 (L L^T = K_zz, S the diagonal noise), B = I + A A^T and r the residuals, the best variational law
is known in closed form, and the bound of the log marginal likelihood that it attains is (Titsias 2009)

    log N(r | 0, A^T A + S) - 1/2 tr(S^-1 (K_nn - Q_nn)),    Q_nn = K_nz K_zz^-1 K_zn,

in O(n m^2). It is maximised over the hyperparameters; Z is chosen greedily where the variance that is left given the
points before is largest (a partial pivoted Cholesky factorisation; Burt, Rasmussen, van der Wilk 2020,
arXiv:2008.00323), which makes the trace small. GPJax has the same bound for data of fixed size; this one is masked.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._bfgs import each_lane, minimize_lanes
from bojax._linalg import matmul, stable_factor
from bojax._types import Array, Float
from bojax.data import Observations
from bojax.surrogates._base import FitInfo, Surrogate
from bojax.surrogates._conditioned import conditioned
from bojax.surrogates._gp import GPModel, GPParams, bounds, gp_model, initial_params, starts, told_noise
from bojax.surrogates._noise import Noise
from bojax.surrogates._posterior import variance_floor
from bojax.surrogates._standardize import Scale, standardize

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def inducing_jitter(dtype) -> float:
    """Added to the diagonal of K_zz, relative to the outputscale: points may nearly coincide."""
    return 1e-8 if jnp.finfo(dtype).bits >= 64 else 1e-5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseProcess:
    """The optimal variational law at fixed hyperparameters; mean and covariance in the units of y.

    Attributes:
        Z: [m, d] inducing points.
        L_inv: [m, m] inverse Cholesky factor of K_zz.
        B_inv: [m, m] inverse Cholesky factor of B, times L_inv.
        weights: [m] that the second projection is multiplied by to give the mean.
        params: hyperparameters.
        noise_var: noise variance, standardised.
        scale: location and scale of y.
        model: kernel, mean and noise (static).
    """

    Z: Float[Array, "m d"]
    L_inv: Float[Array, "m m"]
    B_inv: Float[Array, "m m"]
    weights: Float[Array, "m"]
    params: GPParams
    noise_var: Float[Array, ""]
    scale: Scale
    model: GPModel = dataclasses.field(metadata={"static": True})

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance at each of k points."""
        first, second = self._project(X)
        var = self.model.kernel.diagonal(self.params.kernel, X)
        var = var - jnp.sum(first * first, axis=-1) + jnp.sum(second * second, axis=-1)
        mean = self.model.mean.value(self.params.mean, X) + matmul(second, self.weights)
        var = jnp.maximum(var, variance_floor(var.dtype))
        return self.scale.loc + self.scale.scale * mean, var * self.scale.scale**2

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance between two sets of points."""
        (first, second), (other_first, other_second) = self._project(X), self._project(Z)
        cov = self.model.kernel.matrix(self.params.kernel, X, Z)
        return (cov - matmul(first, other_first.T) + matmul(second, other_second.T)) * self.scale.scale**2

    def observation_noise(self) -> Float[Array, ""]:
        """Variance of the noise of one more observation."""
        return self.noise_var * self.scale.scale**2

    def standardized(self) -> "SparseProcess":
        """The same belief in standardised units."""
        one = Scale(jnp.zeros_like(self.scale.loc), jnp.ones_like(self.scale.scale))
        return dataclasses.replace(self, scale=one)

    def _project(self, X):
        k = self.model.kernel.matrix(self.params.kernel, X, self.Z)
        return matmul(k, self.L_inv.T), matmul(k, self.B_inv.T)


def sparse_gp(
    num_inducing: int = 256,
    *,
    kernel: Any = None,
    mean: Any = None,
    noise: Noise | None = None,
    num_restarts: int = 1,
    max_evals: int = 60,
) -> Surrogate:
    """A sparse variational Gaussian process.

    Below one or two thousand observations the exact `gp()` is affordable and more accurate. With 2,000 observations in
    6 dimensions and 256 inducing points a fit of 20 evaluations took 2.4 s on one core and 512 predictions 2.5 ms,
    against 38.7 s and 179 ms of the exact one; the error was 0.161 against 0.076 of a spread of 1.7. Its deviations of
    the noise-free function are too small, by about a half.

    Args:
        num_inducing: inducing points, >= 1; all observations serve where there are fewer.
        kernel: as in `gp`.
        mean: as in `gp`.
        noise: as in `gp`.
        num_restarts: starts of the fit, >= 1.
        max_evals: most evaluations of the bound in one fit, >= 1.

    Returns:
        A `Surrogate`.

    Raises:
        ValueError: when a number is below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> surrogate = sparse_gp(8)
        >>> seen = data.append(data.empty(1, 4), jnp.array([[0.1], [0.5], [0.9]]), jnp.array([0.0, 1.0, 0.0]))
        >>> surrogate.posterior(surrogate.init(1, seen.X.dtype), seen).mean(jnp.array([[0.5]])).shape
        (1,)
    """
    for name, value in (("num_inducing", num_inducing), ("num_restarts", num_restarts), ("max_evals", max_evals)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    model = gp_model(kernel, mean, noise)

    def init(num_dims, dtype):
        return initial_params(model, num_dims, dtype)

    def fit(key, observations, params):
        return _fit(model, key, observations, params, num_inducing, num_restarts=num_restarts, max_evals=max_evals)

    def posterior(params, observations, num_spare=0):
        y, scale = standardize(observations.y, observations.mask)
        Z = choose_inducing(model, params, observations, num_inducing)
        process = _bound(model, params, observations, y, scale, Z)[1]
        return conditioned(process, observations.X.shape[1], num_spare, observations.X.dtype)

    return Surrogate(init=init, fit=jax.jit(fit), posterior=jax.jit(posterior, static_argnums=2))


def evidence_bound(
    model: GPModel, params: GPParams, observations: Observations, Z: Float[Array, "m d"]
) -> Float[Array, ""]:
    """The collapsed lower bound of the log marginal likelihood of the standardised observations."""
    return _bound(model, params, observations, *standardize(observations.y, observations.mask), Z)[0]


def choose_inducing(
    model: GPModel, params: GPParams, observations: Observations, num_inducing: int
) -> Float[Array, "m d"]:
    """Observed points, one after another where most of the prior variance is left unexplained; [m, d].

    m is `num_inducing` or the capacity, if that is less. Where there are fewer real observations, points repeat.
    """
    X, mask = observations.X, observations.mask
    m = min(num_inducing, X.shape[0])
    left = jnp.where(mask, model.kernel.diagonal(params.kernel, X), 0.0)

    def choose(i, carry):
        left, rows, chosen = carry
        best = jnp.argmax(left)
        pivot = jnp.maximum(left[best], jnp.finfo(X.dtype).eps)
        k = model.kernel.matrix(params.kernel, X[best][None], X)[0]
        row = (k - matmul(rows[:, best], rows)) / jnp.sqrt(pivot)
        row = jnp.where(left[best] > 0, row, 0.0)
        left = jnp.maximum(jnp.where(mask, left - row * row, 0.0), 0.0).at[best].set(0.0)
        return left, rows.at[i].set(row), chosen.at[i].set(best.astype(jnp.int32))

    rows = jnp.zeros((m, X.shape[0]), X.dtype)
    chosen = jax.lax.fori_loop(0, m, choose, (left, rows, jnp.zeros(m, jnp.int32)))[2]
    return X[chosen]


def _bound(model, params, observations, y, scale, Z):
    """The bound, and the process that attains it."""
    X, mask = observations.X, observations.mask
    m, dtype = Z.shape[0], X.dtype
    noise_var = model.noise.variance(params.log_noise_var, scale)
    noise = jnp.where(mask, noise_var + told_noise(observations, scale), 1.0)
    root = jnp.where(mask, 1.0 / jnp.sqrt(noise), 0.0)
    residual = jnp.where(mask, y - model.mean.value(params.mean, X), 0.0) * root

    diagonal = model.kernel.diagonal(params.kernel, Z)
    K = model.kernel.matrix(params.kernel, Z, Z) + inducing_jitter(dtype) * jnp.diag(diagonal)
    L, L_inv, _ = stable_factor(K, first_jitter=inducing_jitter(dtype))
    A = matmul(L_inv, model.kernel.matrix(params.kernel, Z, X)) * root[None, :]
    B, B_inv, _ = stable_factor(jnp.eye(m, dtype=dtype) + matmul(A, A.T), first_jitter=inducing_jitter(dtype))
    c = matmul(B_inv, matmul(A, residual))
    count = jnp.sum(mask).astype(dtype)
    explained = jnp.sum(A * A)
    trace = jnp.sum(model.kernel.diagonal(params.kernel, X) * root**2) - explained
    value = (
        -HALF_LOG_2PI * count
        - jnp.sum(jnp.log(jnp.diagonal(B)))
        - 0.5 * jnp.sum(jnp.where(mask, jnp.log(noise), 0.0))
        - 0.5 * (jnp.sum(residual**2) - jnp.sum(c * c))
        - 0.5 * trace
    )
    process = SparseProcess(
        Z=Z,
        L_inv=L_inv,
        B_inv=matmul(B_inv, L_inv),
        weights=c,
        params=params,
        noise_var=noise_var,
        scale=scale,
        model=model,
    )
    return value, process


def _fit(model, key, observations, params, num_inducing, *, num_restarts, max_evals):
    flat, unravel = ravel_pytree(params)
    lower, upper = (ravel_pytree(b)[0] for b in bounds(model, params))
    y, scale = standardize(observations.y, observations.mask)
    Z = choose_inducing(model, params, observations, num_inducing)

    def loss(theta):
        p = unravel(theta)
        prior = model.kernel.log_prior(p.kernel) + model.mean.log_prior(p.mean) + model.noise.log_prior(p.log_noise_var)
        return -_bound(model, p, observations, y, scale, Z)[0] - prior.astype(flat.dtype)

    float64 = jnp.finfo(flat.dtype).bits >= 64
    result = minimize_lanes(
        each_lane(jax.value_and_grad(loss)),
        starts(model, key, params, observations.X.shape[-1], num_restarts),
        lower,
        upper,
        max_evals=max_evals,
        gtol=1e-3 if float64 else 1e-1,
        ftol=1e-7 if float64 else 1e-5,
    )
    losses = jnp.where(jnp.isfinite(result.f), result.f, jnp.inf)
    best = jnp.argmin(losses)
    ok = jnp.isfinite(losses[best])
    return unravel(jnp.where(ok, result.x[best], flat)), FitInfo(losses[best], losses, result.num_evals, ok)

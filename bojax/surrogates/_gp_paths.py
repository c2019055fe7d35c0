"""Samples of a Gaussian process fixed at a few points, as further rows of its cached factor.

The generic `GaussianPaths` asks for covariances with the fixed points at every query. Here the fixed points P join the
observations as noise-free rows of L^-1, so that one matrix V(x) = k(x, [X_n, P]) L^-T serves all samples:

    mean_s(x) = m(x) + V(x) w_s,   var(x) = k(x, x) - V(x) V(x)^T,   w_s = (L_n^-1 r, z_s)
"""

import dataclasses

import jax
import jax.numpy as jnp

from bojax._linalg import matmul
from bojax._types import Array, Bool, Float, Int
from bojax.surrogates._paths import factor_masked
from bojax.surrogates._posterior import GPPosterior, variance_floor


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GPPaths:
    """Samples of a Gaussian process; see `Paths`. Fields may have leading axes b, for `vmap`.

    Attributes:
        posterior: the process with the fixed points as noise-free rows after its own.
        weights: [n + m, s] the whitened residuals of every sample.
        values: [s, m] the samples at the fixed points; minus infinity where masked.
        num_used: fixed points in use.
    """

    posterior: GPPosterior
    weights: Float[Array, "*b n s"]
    values: Float[Array, "*b s m"]
    num_used: Int[Array, "*b"]

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "1 k"]]:
        """Mean and variance of every sample at X."""
        V = self.posterior.whiten(X)
        var = self.posterior.kernel.diagonal(self.posterior.kernel_params, X) - jnp.sum(V * V, axis=-1)
        return self._rescale(X, V), self._floor(var)[None, :]

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "1 q q"]]:
        """Mean and covariance of every sample at q points together."""
        V = self.posterior.whiten(X)
        cov = self.posterior.kernel.matrix(self.posterior.kernel_params, X, X) - matmul(V, V.T)
        return self._rescale(X, V), (cov * self.posterior.scale.scale**2)[None]

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "GPPaths":
        """The samples fixed at one more point."""
        posterior = self.posterior
        left = posterior.whiten(x[None])
        own = posterior.kernel.diagonal(posterior.kernel_params, x[None]) - jnp.sum(left * left, axis=-1)
        pivot = jnp.sqrt(jnp.maximum(own, variance_floor(x.dtype)))[0]
        value = self._rescale(x[None], left)[:, 0] + pivot * posterior.scale.scale * base
        slot = posterior.X.shape[0] - self.values.shape[1] + self.num_used
        row = (-matmul(left[0], posterior.L_inv) / pivot).at[slot].set(1.0 / pivot, mode="drop")
        return GPPaths(
            posterior=dataclasses.replace(
                posterior,
                X=posterior.X.at[slot].set(x, mode="drop"),
                mask=posterior.mask.at[slot].set(True, mode="drop"),
                L_inv=posterior.L_inv.at[slot].set(row, mode="drop"),
            ),
            weights=self.weights.at[slot].set(base, mode="drop"),
            values=self.values.at[:, self.num_used].set(value, mode="drop"),
            num_used=self.num_used + jnp.int32(1),
        )

    def _rescale(self, X, V):
        scale = self.posterior.scale
        mean = self.posterior.standardized_mean(X)[None, :] + matmul(self.weights.T, V.T)
        return scale.loc + scale.scale * mean

    def _floor(self, var):
        return jnp.maximum(var, variance_floor(var.dtype)) * self.posterior.scale.scale**2


def gp_paths(
    posterior: GPPosterior, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int
) -> GPPaths:
    """Samples of a Gaussian process fixed at m points; arguments as in `Posterior.paths`."""
    n, m, dtype = posterior.X.shape[0], X.shape[0], X.dtype
    rows = n + m + num_spare
    base = jnp.where(mask[None, :], base, 0.0)
    own = matmul(posterior.L_inv, posterior.residual)
    weights = jnp.zeros((rows, base.shape[0]), dtype).at[:n].set(own[:, None]).at[n : n + m].set(base.T)
    L_inv = jnp.eye(rows, dtype=dtype).at[:n, :n].set(posterior.L_inv)
    values = jnp.full((base.shape[0], m + num_spare), -jnp.inf, dtype)
    if m:
        V = jnp.where(mask[:, None], posterior.whiten(X), 0.0)
        L, fixed_inv = factor_masked(posterior.kernel.matrix(posterior.kernel_params, X, X) - matmul(V, V.T), mask)
        below = -matmul(fixed_inv, matmul(V, posterior.L_inv))
        L_inv = L_inv.at[n : n + m, :n].set(below).at[n : n + m, n : n + m].set(fixed_inv)
        sampled = posterior.standardized_mean(X)[None, :] + matmul(V, own)[None, :] + matmul(base, L.T)
        sampled = posterior.scale.loc + posterior.scale.scale * sampled
        values = values.at[:, :m].set(jnp.where(mask[None, :], sampled, -jnp.inf))
    fixed = jnp.pad(X, ((0, num_spare), (0, 0)), constant_values=0.5)
    extended = dataclasses.replace(
        posterior,
        X=jnp.concatenate([posterior.X, fixed]),
        mask=jnp.concatenate([posterior.mask, jnp.pad(mask, (0, num_spare))]),
        residual=jnp.pad(posterior.residual, (0, m + num_spare)),
        L_inv=L_inv,
        alpha=jnp.pad(posterior.alpha, (0, m + num_spare)),
    )
    return GPPaths(posterior=extended, weights=weights, values=values, num_used=jnp.int32(m))

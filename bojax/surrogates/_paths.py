"""Sampled objectives, fixed at a few points: the ground of every joint batch.

A posterior with mean mu and covariance c, sampled at fixed points P with standard normal numbers z, is the process with

    mean(x) + V(x) z,   var(x) - V(x) V(x)^T,   V(x) = c(x, P) L^-T,   L L^T = c(P, P)

One product with all z at once gives the means of all samples, and a further point is a further row of L^-1, as in
`GPPosterior.append` but without noise: what is fixed is the objective, not an observation of it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bojax._linalg import factor_scaled, matmul
from bojax._types import Array, Bool, Float, Int
from bojax.surrogates._standardize import variance_floor


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianPaths:
    """Samples of any posterior that has `mean`, `var`, `mean_var`, `cov` and `joint`; see `Paths`.

    Attributes:
        posterior: what is sampled.
        X: [m, d] fixed points.
        mask: [m] which of them count.
        L_inv: [m, m] inverse Cholesky factor of their covariance; the identity where masked.
        base: [s, m] standard normal numbers; 0 where masked.
        values: [s, m] the samples there; minus infinity where masked.
        num_used: rows in use.
    """

    posterior: Any
    X: Float[Array, "m d"]
    mask: Bool[Array, "m"]
    L_inv: Float[Array, "m m"]
    base: Float[Array, "s m"]
    values: Float[Array, "s m"]
    num_used: Int[Array, ""]

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "1 k"]]:
        """Mean and variance of every sample at X."""
        mean, var = self.posterior.mean_var(X)
        V = self._whiten(X)
        return mean[None, :] + matmul(self.base, V.T), self._floor(var - jnp.sum(V * V, axis=-1), var)[None, :]

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "1 q q"]]:
        """Mean and covariance of every sample at q points together."""
        mean, cov = self.posterior.joint(X)
        V = self._whiten(X)
        return mean[None, :] + matmul(self.base, V.T), (cov - matmul(V, V.T))[None]

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "GaussianPaths":
        """The samples fixed at one more point."""
        mean, var = self.mean_var(x[None])
        pivot = jnp.sqrt(var[0, 0])
        left = self._whiten(x[None])[0]
        slot = self.num_used
        row = (-matmul(left, self.L_inv) / pivot).at[slot].set(1.0 / pivot, mode="drop")
        return dataclasses.replace(
            self,
            X=self.X.at[slot].set(x, mode="drop"),
            mask=self.mask.at[slot].set(True, mode="drop"),
            L_inv=self.L_inv.at[slot].set(row, mode="drop"),
            base=self.base.at[:, slot].set(base, mode="drop"),
            values=self.values.at[:, slot].set(mean[:, 0] + pivot * base, mode="drop"),
            num_used=self.num_used + jnp.int32(1),
        )

    def _whiten(self, X):
        return matmul(jnp.where(self.mask[None, :], self.posterior.cov(X, self.X), 0.0), self.L_inv.T)

    def _floor(self, var, prior_var):
        return jnp.maximum(var, variance_floor(var.dtype) * jnp.maximum(prior_var, jnp.finfo(var.dtype).tiny))


def gaussian_paths(
    posterior: Any, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0
) -> GaussianPaths:
    """Samples of a posterior fixed at m points; arguments as in `Posterior.paths`."""
    m, dtype = X.shape[0], X.dtype
    rows = m + num_spare
    L_inv = jnp.eye(rows, dtype=dtype)
    values = jnp.full((base.shape[0], rows), -jnp.inf, dtype)
    if m:
        mean, cov = posterior.joint(X)
        L, fixed_inv = factor_scaled(cov, mask)
        base = jnp.where(mask[None, :], base, 0.0)
        L_inv = L_inv.at[:m, :m].set(fixed_inv)
        values = values.at[:, :m].set(jnp.where(mask[None, :], mean[None, :] + matmul(base, L.T), -jnp.inf))
    spare = (0, num_spare)
    return GaussianPaths(
        posterior=posterior,
        X=jnp.pad(X, (spare, (0, 0)), constant_values=0.5),
        mask=jnp.pad(mask, spare),
        L_inv=L_inv,
        base=jnp.pad(base, ((0, 0), spare)),
        values=values,
        num_used=jnp.int32(m),
    )

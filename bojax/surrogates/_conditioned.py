"""Any Gaussian belief, conditioned on a few more observations.

Surrogates that are not exact Gaussian processes (sparse, ensembles of networks) give a mean and a covariance function
after their data. What `append` adds is exact from there on: with P the appended points, nu the variance of the noise,
L L^T = cov(P, P) / nu + I and r what the values at P miss,

    mean(x) + V(x) L^-1 r / sqrt(nu),    cov(x, z) - V(x) V(z)^T,    V(x) = cov(x, P) L^-T / sqrt(nu).

Everything kept is relative to the noise, so it holds in any units of y.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bojax._linalg import factor_scaled, matmul
from bojax._types import Array, Bool, Float, Int, Key
from bojax.surrogates._paths import gaussian_paths
from bojax.surrogates._standardize import variance_floor


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ConditionedPosterior:
    """A belief and a few observations on top; see `Posterior`.

    Attributes:
        base: the belief before: a pytree with `mean_var(X)`, `cov(X, Z)`, `observation_noise()` and `standardized()`.
        X: [p, d] appended points.
        mask: [p] which rows are in use.
        L_inv: [p, p] L^-1; the identity in free rows.
        whitened: [p] L^-1 r / sqrt(nu); 0 in free rows.
        num_used: rows in use.
    """

    base: Any
    X: Float[Array, "p d"]
    mask: Bool[Array, "p"]
    L_inv: Float[Array, "p p"]
    whitened: Float[Array, "p"]
    num_used: Int[Array, ""]

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance at each of k points."""
        mean, var = self.base.mean_var(X)
        V = self._whiten(X)
        floor = variance_floor(var.dtype) * var
        return mean + matmul(V, self.whitened), jnp.maximum(var - jnp.sum(V * V, axis=-1), floor)

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        return self.mean_var(X)[0]

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return self.mean_var(X)[1]

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance between two sets of points."""
        return self.base.cov(X, Z) - matmul(self._whiten(X), self._whiten(Z).T)

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points together."""
        cov = self.cov(X, X)
        return self.mean(X), 0.5 * (cov + cov.T)

    def sample(self, key: Key, X: Float[Array, "q d"], num_samples: int) -> Float[Array, "s q"]:
        """Joint samples at q points."""
        mean, cov = self.joint(X)
        L, _ = factor_scaled(cov)
        noise = jax.random.normal(key, (num_samples, X.shape[0]), X.dtype)
        return mean[None, :] + matmul(noise, L.T)

    def observation_noise(self) -> Float[Array, ""]:
        """Variance of the noise of one more observation."""
        return self.base.observation_noise()

    def append(self, x: Float[Array, "d"], y: Float[Array, ""]) -> "ConditionedPosterior":
        """The belief after one more observation y at x, written into the next free row.

        The row must have been reserved (`num_spare` of `Surrogate.posterior`); without one, nothing changes.
        """
        mean, var = self.mean_var(x[None])
        unit = self._noise_std()
        left = self._whiten(x[None])[0] / unit
        pivot = jnp.sqrt(1.0 + var[0] / unit**2)
        slot = self.num_used
        row = (-matmul(left, self.L_inv) / pivot).at[slot].set(1.0 / pivot, mode="drop")
        return dataclasses.replace(
            self,
            X=self.X.at[slot].set(x, mode="drop"),
            mask=self.mask.at[slot].set(True, mode="drop"),
            L_inv=self.L_inv.at[slot].set(row, mode="drop"),
            whitened=self.whitened.at[slot].set((y - mean[0]) / unit / pivot, mode="drop"),
            num_used=self.num_used + jnp.int32(1),
        )

    def standardized(self) -> "ConditionedPosterior":
        """The same belief in units in which the observed y have mean 0 and standard deviation 1."""
        return dataclasses.replace(self, base=self.base.standardized())

    def paths(self, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0):
        """Samples of the objective, fixed at m points; see `Posterior.paths`."""
        return gaussian_paths(self, X, mask, base, num_spare)

    def _whiten(self, X):
        cross = jnp.where(self.mask[None, :], self.base.cov(X, self.X), 0.0)
        return matmul(cross / self._noise_std(), self.L_inv.T)

    def _noise_std(self):
        noise_var = self.base.observation_noise()
        return jnp.sqrt(jnp.maximum(noise_var, jnp.finfo(noise_var.dtype).tiny))


def conditioned(base: Any, num_dims: int, num_spare: int, dtype) -> ConditionedPosterior:
    """A belief with room for `num_spare` more observations."""
    return ConditionedPosterior(
        base=base,
        X=jnp.full((num_spare, num_dims), 0.5, dtype),
        mask=jnp.zeros(num_spare, bool),
        L_inv=jnp.eye(num_spare, dtype=dtype),
        whitened=jnp.zeros(num_spare, dtype),
        num_used=jnp.int32(0),
    )

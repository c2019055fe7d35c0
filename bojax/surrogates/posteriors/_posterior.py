"""The one posterior: a Gaussian process, factored once and queried with matrix products.

A surrogate's author writes a `Law`: the mean m(x), covariance k(x, z) and variance k(x, x) before the rows of the
posterior, and the noise variance, all for standardized y. The posterior has r rows X_r (observations, inducing
points, appended points) and is

    mean(x)   = m(x) + k(x, X_r) alpha
    cov(x, z) = k(x, z) - V(x) V(z)^T + W(x) W(z)^T,    V(x) = k(x, X_r) L^-T,    W(x) = k(x, X_r) G^T

For observations with covariance K = L L^T (noise included) and residuals r, alpha = K^-1 r and there is no G. A sparse
GP has inducing points as rows and a G. A law that already includes its data has no rows.

The inverse factor L^-1 is kept, so a query is a product and not a triangular solve (2 to 10 times faster in batches),
and a further point x is added in O(r^2): with s^2 = cov(x, x) + noise, its row of L^-1 is

    (-V(x) L^-1 + W(x) G, 1) / s,

and alpha grows by that row times (y - mean(x)) / s. Samples fixed at points (`GPFantasies`) are noise-free rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from bojax._linalg import factor_scaled, matmul
from bojax._types import Array, Bool, Float, Int, Key
from bojax.surrogates.outputs._standardize import Scale, variance_floor
from bojax.surrogates.parts._kernels import Kernel
from bojax.surrogates.parts._means import Mean


@runtime_checkable
class Law(Protocol):
    """A Gaussian distribution over objectives in standardized units: the part that the author of a surrogate writes.

    A law is a pytree, registered for example by `jax.tree_util.register_dataclass`. `from_law` turns it into a
    posterior.
    """

    @property
    def noise_var(self) -> Float[Array, ""]:
        """Variance of the noise of one observation."""
        ...

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        ...

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        ...

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance between two sets of points."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GPLaw:
    """The prior of a Gaussian process with given hyperparameters. It implements `Law`.

    Attributes:
        kernel_params: hyperparameters of the kernel.
        mean_params: hyperparameters of the mean function.
        noise_var: noise variance, standardized.
        kernel: the covariance function (static).
        mean_function: the mean function (static).

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import matern52, zero_mean
        >>> kernel, mean = matern52(), zero_mean()
        >>> law = GPLaw(kernel.init(1, jnp.float32), (), jnp.array(1e-4), kernel, mean)
        >>> law.var(jnp.array([[0.5]])).tolist()
        [1.0]
    """

    kernel_params: Any
    mean_params: Any
    noise_var: Float[Array, "*m"]
    kernel: Kernel = dataclasses.field(metadata={"static": True})
    mean_function: Mean = dataclasses.field(metadata={"static": True})

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean function at each of k points."""
        return self.mean_function.value(self.mean_params, X)

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Prior variance at each of k points."""
        return self.kernel.diagonal(self.kernel_params, X)

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Prior covariance between two sets of points."""
        return self.kernel.matrix(self.kernel_params, X, Z)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GPPosterior:
    """A Gaussian process given r rows. Means and variances are those of the noise-free objective, in the units of y.

    Surrogates make it; its methods are those of `Posterior`. Fields may have leading axes m for many posteriors, for
    use with `vmap`.

    Attributes:
        law: the distribution before the rows (`Law`).
        X: [r, d] rows, padding included.
        mask: [r] which rows are real.
        L_inv: [r, r] inverse Cholesky factor; the identity on padding.
        alpha: [r] weights of k(x, X_r) in the mean.
        scale: location and scale of y.
        num_used: rows in use; `append` writes the next one.
        ok: whether the factorization is finite.
        residual: [r] standardized y minus the mean of the law, 0 on padding; None if rows are not observations.
        gain: [m, r] the matrix G of a sparse GP; None otherwise.
        lift: function from points [k, d] to rows of the law, if rows are not points (static); None otherwise.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> surrogate = gp()
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> posterior = surrogate.posterior(surrogate.init(1, jnp.float32), seen)
        >>> mean, var = jax.jit(posterior.mean_var)(jnp.array([[0.5], [0.8]]))
        >>> [round(value, 2) for value in mean.tolist()], [round(value, 2) for value in var.tolist()]
        ([0.5, 1.0], [0.41, 0.0])
    """

    law: Any
    X: Float[Array, "*m r d"]
    mask: Bool[Array, "*m r"]
    L_inv: Float[Array, "*m r r"]
    alpha: Float[Array, "*m r"]
    scale: Scale
    num_used: Int[Array, "*m"]
    ok: Bool[Array, "*m"]
    residual: Float[Array, "*m r"] | None = None
    gain: Float[Array, "*m g r"] | None = None
    lift: Callable[[Array], Array] | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def noise_var(self) -> Float[Array, "*m"]:
        """Noise variance, standardized."""
        return self.law.noise_var

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance at each of k points of the unit cube."""
        query = self._query(X)
        return self._unscaled(self._mean(query)), self._unscaled_var(self._var(query))

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        rows = self._rows(X)
        return self._unscaled(self.law.mean(rows) + matmul(self._cross(rows), self.alpha))

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return self._unscaled_var(self._var(self._query(X)))

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points together."""
        query = self._query(X)
        return self._unscaled(self._mean(query)), self._cov(query, query) * self.scale.scale**2

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance of the noise-free objective between two sets of points."""
        return self._cov(self._query(X), self._query(Z)) * self.scale.scale**2

    def observation_noise(self) -> Float[Array, ""]:
        """Variance of the noise of one more observation."""
        return self.law.noise_var * self.scale.scale**2

    def sample(self, key: Key, X: Float[Array, "q d"], num_samples: int) -> Float[Array, "s q"]:
        """Joint samples of the noise-free objective at q points; [num_samples, q]."""
        query = self._query(X)
        L, _ = factor_scaled(self._cov(query, query))
        noise = jax.random.normal(key, (num_samples, X.shape[0]), X.dtype)
        return self._unscaled(self._mean(query)[None, :] + matmul(noise, L.T))

    def standardized(self) -> "GPPosterior":
        """The same posterior in units in which the observed y have mean 0 and standard deviation 1."""
        one = Scale(loc=jnp.zeros_like(self.scale.loc), scale=jnp.ones_like(self.scale.scale))
        return dataclasses.replace(self, scale=one)

    def append(self, x: Float[Array, "d"], y: Float[Array, ""]) -> "GPPosterior":
        """The posterior after one more observation y (units of y) at x, written into the next spare row.

        The row must have been reserved (`num_spare` of `Surrogate.posterior`); without one, nothing changes.
        """
        query = self._query(x[None])
        longer, row, pivot = self._with_row(query, self.law.noise_var)
        y, slot = (y - self.scale.loc) / self.scale.scale, self.num_used
        gained = jnp.where(slot < self.alpha.shape[0], (y - self._mean(query)[0]) / pivot, 0.0)
        residual = self.residual
        if residual is not None:
            residual = residual.at[slot].set(y - self.law.mean(query.rows)[0], mode="drop")
        return dataclasses.replace(longer, alpha=self.alpha + gained * row, residual=residual)

    def fantasies(
        self, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0
    ) -> "GPFantasies":
        """Samples of the objective with fixed values at m points; see `Posterior.fantasies`."""
        n, m = self.X.shape[0], X.shape[0]
        base = jnp.where(mask[None, :], base, 0.0)
        values = jnp.full((base.shape[0], m + num_spare), -jnp.inf, X.dtype)
        fixed = self.with_spare(m + num_spare)
        if m:
            query = self._query(X)
            sampled = self._mean(query)[None, :]
            query = query.masked(mask)
            L, own = factor_scaled(self._cov(query, query), mask)
            L_inv = fixed.L_inv.at[n : n + m, :n].set(matmul(own, self._coefficients(query)))
            sampled = self._unscaled(sampled + matmul(base, L.T))
            values = values.at[:, :m].set(jnp.where(mask[None, :], sampled, -jnp.inf))
            fixed = dataclasses.replace(
                fixed,
                X=fixed.X.at[n : n + m].set(query.rows),
                mask=fixed.mask.at[n : n + m].set(mask),
                L_inv=L_inv.at[n : n + m, n : n + m].set(own),
            )
        fixed = dataclasses.replace(fixed, num_used=jnp.full_like(fixed.num_used, n + m))
        return GPFantasies(fixed, jnp.pad(base, ((0, 0), (0, num_spare))), values)

    def with_spare(self, num_spare: int) -> "GPPosterior":
        """The same posterior with `num_spare` more rows for `append` to write."""
        n = self.X.shape[0]
        padding = (0, num_spare)
        return dataclasses.replace(
            self,
            X=jnp.pad(self.X, (padding, (0, 0)), constant_values=0.5),
            mask=jnp.pad(self.mask, padding),
            L_inv=jnp.eye(n + num_spare, dtype=self.X.dtype).at[:n, :n].set(self.L_inv),
            alpha=jnp.pad(self.alpha, padding),
            residual=None if self.residual is None else jnp.pad(self.residual, padding),
            gain=None if self.gain is None else jnp.pad(self.gain, ((0, 0), padding)),
        )

    def _rows(self, X):
        return X if self.lift is None else self.lift(X)

    def _cross(self, rows):
        return jnp.where(self.mask[None, :], self.law.cov(rows, self.X), 0.0)

    def _query(self, X) -> "_Query":
        rows = self._rows(X)
        k = self._cross(rows)
        return _Query(rows, k, matmul(k, self.L_inv.T), None if self.gain is None else matmul(k, self.gain.T))

    def _mean(self, query):
        return self.law.mean(query.rows) + matmul(query.k, self.alpha)

    def _var(self, query):
        var = self.law.var(query.rows) - jnp.sum(query.V * query.V, axis=-1)
        return var if query.W is None else var + jnp.sum(query.W * query.W, axis=-1)

    def _cov(self, query, other):
        cov = self.law.cov(query.rows, other.rows) - matmul(query.V, other.V.T)
        return cov if query.W is None else cov + matmul(query.W, other.W.T)

    def _coefficients(self, query):
        """[k, r] the part of further rows of L^-1 that stands below the present rows, before division by the pivot."""
        below = -matmul(query.V, self.L_inv)
        return below if self.gain is None else below + matmul(query.W, self.gain)

    def _with_row(self, query: "_Query", noise_var) -> tuple["GPPosterior", Float[Array, "r"], Float[Array, ""]]:
        """The posterior with one more row of the factor, that row, and its pivot s."""
        slot = self.num_used
        pivot = jnp.sqrt(jnp.maximum(self._var(query)[0] + noise_var, variance_floor(query.k.dtype)))
        row = (self._coefficients(query)[0] / pivot).at[slot].set(1.0 / pivot, mode="drop")
        longer = dataclasses.replace(
            self,
            X=self.X.at[slot].set(query.rows[0], mode="drop"),
            mask=self.mask.at[slot].set(True, mode="drop"),
            L_inv=self.L_inv.at[slot].set(row, mode="drop"),
            num_used=slot + jnp.int32(1),
        )
        return longer, row, pivot

    def _unscaled(self, mean):
        return self.scale.loc + self.scale.scale * mean

    def _unscaled_var(self, var):
        return jnp.maximum(var, variance_floor(var.dtype)) * self.scale.scale**2


@dataclasses.dataclass(frozen=True)
class _Query:
    """k points: their rows [k, d] for the law, k(x, X_r) [k, r], V [k, r], and W [k, m] or None."""

    rows: Array
    k: Array
    V: Array
    W: Any

    def masked(self, mask: Bool[Array, "k"]) -> "_Query":
        """The same, with V and W zero outside the mask."""
        W = None if self.W is None else jnp.where(mask[:, None], self.W, 0.0)
        return dataclasses.replace(self, V=jnp.where(mask[:, None], self.V, 0.0), W=W)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GPFantasies:
    """Samples of a Gaussian process with fixed values at m points. It implements `Fantasies`.

    `GPPosterior.fantasies` makes it. Fields may have leading axes b, for use with `vmap`. With the fixed points as the
    last m rows of the posterior and V_m(x) the last m columns of V(x), sample i has

        mean_i(x) = mean(x) + V_m(x) z_i,    var(x) = k(x, x) - V(x) V(x)^T + W(x) W(x)^T.

    Attributes:
        posterior: the process with the fixed points as noise-free rows after its own.
        base: [s, m] standard normal numbers z; 0 where masked or not used yet.
        values: [s, m] the samples at the fixed points; minus infinity where masked or not used yet.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> surrogate = gp()
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> posterior = surrogate.posterior(surrogate.init(1, jnp.float32), seen)
        >>> draw = jax.jit(lambda z: posterior.fantasies(jnp.array([[0.5]]), jnp.array([True]), z))
        >>> fantasies = draw(jnp.array([[-1.0], [1.0]]))  # one standard deviation below and above the mean
        >>> [round(value, 2) for value in fantasies.values[:, 0].tolist()]
        [-0.14, 1.14]
    """

    posterior: GPPosterior
    base: Float[Array, "*b s m"]
    values: Float[Array, "*b s m"]

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "1 k"]]:
        """Mean and variance of every sample at X."""
        query = self.posterior._query(X)
        return self._means(query), self.posterior._unscaled_var(self.posterior._var(query))[None, :]

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "1 q q"]]:
        """Mean and covariance of every sample at q points together."""
        query = self.posterior._query(X)
        return self._means(query), (self.posterior._cov(query, query) * self.posterior.scale.scale**2)[None]

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "GPFantasies":
        """The samples with fixed values at one more point."""
        query = self.posterior._query(x[None])
        longer, _, pivot = self.posterior._with_row(query, 0.0)
        value = self._means(query)[:, 0] + pivot * self.posterior.scale.scale * base
        slot = self.posterior.num_used - (self.posterior.X.shape[0] - self.values.shape[1])
        return GPFantasies(
            posterior=longer,
            base=self.base.at[:, slot].set(base, mode="drop"),
            values=self.values.at[:, slot].set(value, mode="drop"),
        )

    def _means(self, query):
        fixed = query.V[:, query.V.shape[1] - self.base.shape[1] :]
        mean = self.posterior._mean(query)[None, :] + matmul(self.base, fixed.T)
        return self.posterior._unscaled(mean)


def from_law(law: Law, scale: Scale, num_dims: int, num_spare: int = 0) -> GPPosterior:
    """The posterior of a law that includes its data, with room for further observations.

    Args:
        law: the distribution of the objective, for standardized y.
        scale: location and scale of y, as `standardize` gives them.
        num_dims: columns of the cube.
        num_spare: how many observations `append` may add.

    Returns:
        A `GPPosterior` without rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import Scale
        >>> from bojax.testing import MockPosterior
        >>> law = MockPosterior(lambda X: X[:, 0])
        >>> posterior = from_law(law, Scale(jnp.float32(1.0), jnp.float32(2.0)), num_dims=2)
        >>> posterior.mean(jnp.array([[0.5, 0.0]])).tolist()
        [2.0]
    """
    dtype = jnp.asarray(scale.loc).dtype
    return GPPosterior(
        law=law,
        X=jnp.full((num_spare, num_dims), 0.5, dtype),
        mask=jnp.zeros(num_spare, bool),
        L_inv=jnp.eye(num_spare, dtype=dtype),
        alpha=jnp.zeros(num_spare, dtype),
        scale=scale,
        num_used=jnp.int32(0),
        ok=jnp.asarray(True),
        residual=jnp.zeros(num_spare, dtype),
    )

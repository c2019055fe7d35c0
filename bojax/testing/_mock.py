"""A posterior with given mean and variance, for testing code that uses posteriors."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bojax._types import Array, Float, Key
from bojax.surrogates import Scale, from_law


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MockPosterior:
    """A posterior with given mean and variance at every point and no correlation between different points.

    It implements the protocols `Posterior` and `Law`. It does not learn: `append` and `standardized` return it
    unchanged.

    Args:
        mean_fn: maps [k, d] points to [k] means.
        var_fn: maps [k, d] points to [k] variances, > 0; 1 everywhere by default.

    Example:
        >>> import jax.numpy as jnp
        >>> posterior = MockPosterior(lambda X: X[:, 0])
        >>> posterior.mean(jnp.array([[0.25], [0.5]])).tolist()
        [0.25, 0.5]
    """

    mean_fn: Callable[[Array], Array] = dataclasses.field(metadata={"static": True})
    var_fn: Callable[[Array], Array] = dataclasses.field(
        default=lambda X: jnp.ones_like(X[:, 0]), metadata={"static": True}
    )

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance at each of k points."""
        return self.mean(X), self.var(X)

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        return self.mean_fn(X)

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return self.var_fn(X)

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points; equal points are fully correlated, different ones not at all."""
        mean, var = self.mean_var(X)
        same = jnp.all(X[:, None, :] == X[None, :, :], axis=-1)
        std = jnp.sqrt(var)
        return mean, jnp.where(same, std[:, None] * std[None, :], 0.0)

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance between two sets of points: that of equal points, 0 between different ones."""
        same = jnp.all(X[:, None, :] == Z[None, :, :], axis=-1)
        return jnp.where(same, jnp.sqrt(self.var(X))[:, None] * jnp.sqrt(self.var(Z))[None, :], 0.0)

    def observation_noise(self) -> Float[Array, ""]:
        """No noise."""
        return jnp.zeros(())

    @property
    def noise_var(self) -> Float[Array, ""]:
        """No noise."""
        return jnp.zeros(())

    def fantasies(self, X: Float[Array, "m d"], mask: Array, base: Float[Array, "s m"], num_spare: int = 0):
        """Samples with fixed values at m points."""
        scale = Scale(jnp.zeros((), X.dtype), jnp.ones((), X.dtype))
        return from_law(self, scale, X.shape[1]).fantasies(X, mask, base, num_spare)

    def sample(self, key: Key, X: Float[Array, "q d"], num_samples: int) -> Float[Array, "s q"]:
        """Joint samples at q points, [num_samples, q]."""
        mean, var = self.mean_var(X)
        same = jnp.all(X[:, None, :] == X[None, :, :], axis=-1)
        noise = jax.random.normal(key, (num_samples, X.shape[0]), X.dtype)
        return mean[None, :] + jnp.sqrt(var)[None, :] * noise[:, jnp.argmax(same, axis=1)]

    def append(self, x: Float[Array, "d"], y: Float[Array, ""]) -> "MockPosterior":
        """The same posterior."""
        del x, y
        return self

    def standardized(self) -> "MockPosterior":
        """The same posterior."""
        return self

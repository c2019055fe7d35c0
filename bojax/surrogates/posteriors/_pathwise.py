"""Sample paths of a Gaussian process, by pathwise conditioning.

A draw from the prior plus a correction by its error at the observations is a draw from the posterior (Matheron's rule):

    f(x) = m(x) + phi(x) . w + k(x, X_n) v,    v = K^-1 (r - phi(X_n) w - e),    w ~ N(0, I), e ~ N(0, noise)

with random features phi for the prior only, so that the error of finitely many features does not grow with the data.
A draw costs O(n^2) once with the cached factor and O(n + f) at each point, and it is differentiable: thousands of draws
can each be maximized. (Wilson, Borovitskiy, Terenin, Mostowsky, Deisenroth 2020, arXiv:2002.09309.)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bojax._linalg import matmul
from bojax._types import Array, Float, Key
from bojax.surrogates._base import Posterior
from bojax.surrogates.posteriors._posterior import GPLaw, GPPosterior

NUM_FEATURES = 1024


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SamplePaths:
    """Functions drawn from a Gaussian process posterior, in the units of y. `sample_paths` makes them.

    Path j at x is m(x) + phi(x) . weights_j + k(x, X_n) . update_j, for standardized y.

    Attributes:
        posterior: the `GPPosterior` they are drawn from.
        draws: random numbers of the features phi.
        weights: [p, f] weights of the features.
        update: [p, n] weights of the kernel functions of the observations.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp, sample_paths
        >>> surrogate = gp()
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> def draw(key):
        ...     posterior = surrogate.posterior(surrogate.init(1, jnp.float32), seen)
        ...     return sample_paths(key, posterior, 3, num_features=64)
        >>> paths = jax.eval_shape(draw, jax.random.key(0))  # shapes only
        >>> paths.weights.shape, paths.update.shape
        ((3, 64), (3, 2))
    """

    posterior: GPPosterior
    draws: Any
    weights: Float[Array, "p f"]
    update: Float[Array, "p n"]

    def at_all(self, X: Float[Array, "k d"]) -> Float[Array, "p k"]:
        """Every path at every point."""
        phi, k = self._basis(X)
        return self._rescale(matmul(self.weights, phi.T) + matmul(self.update, k.T), X[None])

    def at_own(self, X: Float[Array, "p k d"]) -> Float[Array, "p k"]:
        """Every path at its own points."""
        p, k, d = X.shape
        phi, cross = self._basis(X.reshape(p * k, d))
        values = jnp.einsum("pkf,pf->pk", phi.reshape(p, k, -1), self.weights, precision="highest")
        values = values + jnp.einsum("pkn,pn->pk", cross.reshape(p, k, -1), self.update, precision="highest")
        return self._rescale(values, X)

    def _basis(self, X):
        law = self.posterior.law
        cross = jnp.where(self.posterior.mask[None, :], law.cov(X, self.posterior.X), 0.0)
        return features_of(law.kernel).apply(law.kernel_params, self.draws, X), cross

    def _rescale(self, values, X):
        posterior = self.posterior
        mean = posterior.law.mean(X.reshape(-1, X.shape[-1])).reshape(X.shape[:-1])
        return posterior.scale.loc + posterior.scale.scale * (values + mean)


def features_of(kernel):
    """The random features of a kernel. Raises ValueError if it has none."""
    if kernel.features is None:
        raise ValueError(
            "`kernel` must have random features to draw sample paths from; `matern52` and `rbf` have them, alone or "
            "warped. Give `Kernel.features` for another one."
        )
    return kernel.features


def sample_paths(key: Key, posterior: Posterior, num_paths: int, *, num_features: int = NUM_FEATURES) -> SamplePaths:
    """Draw functions from the posterior.

    Args:
        key: random key.
        posterior: the `GPPosterior` of an exact Gaussian process of values, such as `gp` gives.
        num_paths: number of functions, >= 1.
        num_features: number of random features of the prior, >= 1, 1024 by default. The error of the prior falls as
            1 / sqrt(num_features); the cost is proportional to it.

    Returns:
        `SamplePaths`; `at_all(X)` gives all functions at the same points, `at_own(X)` each at its own.

    Raises:
        TypeError: the posterior is not that of an exact Gaussian process of values.
        ValueError: the kernel has no random features, or a number is below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> surrogate = gp()
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> posterior = surrogate.posterior(surrogate.init(1, jnp.float32), seen)
        >>> draw = jax.jit(lambda key: sample_paths(key, posterior, 3, num_features=64).at_all(seen.X))
        >>> [round(value) for value in draw(jax.random.key(0))[:, 1].tolist()]  # all pass near y = 1 at x = 0.8
        [1, 1, 1]

    Source: Wilson, Borovitskiy, Terenin, Mostowsky, Deisenroth (2020), arXiv:2002.09309.
    """
    if not isinstance(posterior, GPPosterior):
        raise TypeError(f"`posterior` must be a GPPosterior, got {type(posterior).__name__}.")
    if not isinstance(posterior.law, GPLaw) or posterior.residual is None or posterior.lift is not None:
        raise TypeError("`posterior` must be that of an exact Gaussian process of values, such as gp() gives.")
    law = posterior.law
    if num_paths < 1 or num_features < 1:
        raise ValueError(f"`num_paths` and `num_features` must be >= 1, got {num_paths} and {num_features}.")
    features = features_of(law.kernel)
    n, d = posterior.X.shape
    keys = jax.random.split(key, 2)
    draws = features.draw(keys[0], d, num_features, posterior.X.dtype)
    # Rows of observations come last, so that more spare rows do not change the draws of the others.
    normals = jax.random.normal(keys[1], (num_features + n, num_paths), posterior.X.dtype).T
    weights, noise = normals[:, :num_features], normals[:, num_features:]
    prior = matmul(weights, features.apply(law.kernel_params, draws, posterior.X).T)
    missed = posterior.residual[None, :] - prior - jnp.sqrt(law.noise_var) * noise
    missed = jnp.where(posterior.mask[None, :], missed, 0.0)
    update = matmul(matmul(missed, posterior.L_inv.T), posterior.L_inv)
    return SamplePaths(posterior, draws, weights, update)

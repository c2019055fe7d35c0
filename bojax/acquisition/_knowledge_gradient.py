"""Knowledge gradient: the expected increase of the largest posterior mean.

An observation at X moves the mean to mean(a) + cov(a, X) L^-T z, with L L^T = cov(X) + noise and z standard normal.

    one_shot_kg          mean_i [ mean(a_i) + cov(a_i, X) L^-T z_i ] - current     q points X and an a_i for each z_i,
                         to be maximized over all of them together (Balandat et al. 2020, arXiv:1910.06403)
    knowledge_gradient   mean_i max over a of the same for one point x, a among fixed points and x itself (the discrete
                         form of Frazier, Powell, Dayanik 2009, with z at equally likely quantiles)

`bayesopt` uses the second: it is cheap and has no inner variables. Its fixed points are those with the largest mean
plus one standard deviation among the observed points and a quasi-random set.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._linalg import factor_scaled, matmul
from bojax._numerics import largest
from bojax._qmc import shifted, sobol_integers
from bojax._types import Array, Float
from bojax.acquisition._batch import BatchAcquisition, imagine_pending
from bojax.surrogates import Posterior

NUM_CANDIDATES = 512


class GradientState(NamedTuple):
    """The posterior given the pending and chosen points at their means, and the points where its maximum may be."""

    posterior: Any
    candidates: Float[Array, "m d"]


def one_shot_kg(
    posterior: Posterior,
    X: Float[Array, "q d"],
    X_fantasies: Float[Array, "s d"],
    *,
    base_samples: Float[Array, "s q"],
    current: Float[Array, ""] | float = 0.0,
) -> Float[Array, ""]:
    """One-shot knowledge gradient of q points, for joint maximization over the points and the fantasy optima.

    The value is mean_i [mean(a_i) + cov(a_i, X) L^-T z_i] - current, with L L^T = cov(X) + noise, a_i row i of
    `X_fantasies` and z_i row i of `base_samples`. Maximize it over `X` and `X_fantasies` together.

    Args:
        posterior: posterior of the objective.
        X: [q, d] points to evaluate, in the unit cube.
        X_fantasies: [s, d] points of the unit cube; row i is the location of the largest mean in fantasy i.
        base_samples: [s, q] standard normal numbers, one row for each fantasy.
        current: [] largest mean before the evaluation. It is subtracted; the default, 0, leaves the expected maximum.

    Returns:
        [] the expected increase, in the units of the posterior.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.5]])  # mean x_0, variance 1
        >>> X_fantasies, z = jnp.array([[0.5], [1.0]]), jnp.array([[2.0], [-2.0]])
        >>> one_shot_kg(posterior, X, X_fantasies, base_samples=z).item()  # the mean of 2.5 and 1
        1.75

    Source: Balandat et al. (2020), arXiv:1910.06403.
    """
    cov = posterior.joint(X)[1] + posterior.observation_noise() * jnp.eye(X.shape[0], dtype=X.dtype)
    _, L_inv = factor_scaled(cov)
    moves = jnp.sum(matmul(posterior.cov(X_fantasies, X), L_inv.T) * base_samples, axis=1)
    return jnp.mean(posterior.mean(X_fantasies) + moves) - current


def discrete_kg(
    posterior: Posterior, X: Float[Array, "k d"], candidates: Float[Array, "m d"], z: Float[Array, "s"]
) -> Float[Array, "k"]:
    """Knowledge gradient of each of k points, with the maximum taken over candidates and the point itself.

    The value at x is mean_i max_a [mean(a) + cov(a, x) z_i / sqrt(var(x) + noise)] - max_a mean(a), where a runs over
    `candidates` and x.

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        candidates: [m, d] points where the mean may be largest.
        z: [s] standard normal samples, or equally likely quantiles.

    Returns:
        [k] the expected increase of the largest mean, in the units of the posterior.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> discrete_kg(posterior, X, candidates=jnp.array([[1.0]]), z=jnp.array([-2.0, 2.0])).tolist()
        [0.5, 0.75]

    Source: Frazier, Powell, Dayanik (2009).
    """
    mean, var = posterior.mean_var(X)
    root = jnp.sqrt(var + posterior.observation_noise())
    means = posterior.mean(candidates)
    slopes = posterior.cov(X, candidates) / root[:, None]
    lines = means[None, None, :] + slopes[:, None, :] * z[None, :, None]
    own = mean[:, None] + (var / root)[:, None] * z[None, :]
    best = jnp.maximum(largest(lines), own)
    return jnp.mean(best, axis=1) - jnp.maximum(largest(means), mean)


def knowledge_gradient(*, num_fantasies: int = 16, num_points: int = 32) -> BatchAcquisition:
    """Discrete knowledge gradient: maximize the expected increase of the largest posterior mean.

    Batches are chosen one point after another; chosen and pending points count as observed at their posterior mean.

    Args:
        num_fantasies: number of equally likely outcomes of an evaluation, >= 2, default 16.
        num_points: number of points among which the largest mean is sought, >= 2, default 32. More of either is more
            accurate at proportional cost.

    Returns:
        A `BatchAcquisition` without `joint`, with `in_logs` False.

    Raises:
        ValueError: a number is below 2.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> bojax.bayesopt(space, q=2, acquisition=knowledge_gradient(num_fantasies=8)).q
        2

    Source: Frazier, Powell, Dayanik (2009).
    """
    if num_fantasies < 2 or num_points < 2:
        raise ValueError(f"`num_fantasies` and `num_points` must be at least 2, got {num_fantasies} and {num_points}.")

    def begin(key, posterior, context, q):
        del q
        d = context.X.shape[1]
        shift = jax.random.bits(key, (d,), jnp.uint32)
        points = jnp.concatenate([shifted(sobol_integers(NUM_CANDIDATES, d), shift, context.X.dtype), context.X])
        real = jnp.concatenate([jnp.ones(NUM_CANDIDATES, bool), context.mask])
        mean, var = posterior.mean_var(points)
        _, rows = jax.lax.top_k(jnp.where(real, mean + jnp.sqrt(var), -jnp.inf), num_points)
        return GradientState(imagine_pending(posterior, context), points[rows])

    def value(state, X):
        unit = (jnp.arange(num_fantasies, dtype=X.dtype) + 0.5) / num_fantasies
        return discrete_kg(state.posterior, X, state.candidates, jax.scipy.special.ndtri(unit))

    def add(state, x):
        return state._replace(posterior=state.posterior.append(x, state.posterior.mean(x[None])[0]))

    return BatchAcquisition(begin, value, add, in_logs=False)

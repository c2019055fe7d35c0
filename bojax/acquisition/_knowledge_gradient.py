"""Knowledge gradient: how much the largest posterior mean is expected to rise.

An observation at X moves the mean to mean(a) + cov(a, X) L^-T z, with L L^T = cov(X) + noise and z standard normal.

    one_shot_kg          mean_i [ mean(a_i) + cov(a_i, X) L^-T z_i ] - current     q points X and an a_i for each z_i,
                         to be maximised over all of them together (Balandat et al. 2020, arXiv:1910.06403)
    knowledge_gradient   mean_i max over a of the same for one point x, a among fixed points and x itself (the discrete
                         form of Frazier, Powell, Dayanik 2009, with z at equally likely quantiles)

The second is the one that `bayesopt` maximises: it is cheap and needs no inner variables. Its fixed points are the
observed ones with the largest means and the best of a quasi-random set.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._linalg import factor_scaled, matmul
from bojax._qmc import shifted, sobol_integers
from bojax._types import Array, Float
from bojax.acquisition._batch import BatchAcquisition, imagine_pending
from bojax.surrogates import Posterior

NUM_CANDIDATES = 512


class GradientState(NamedTuple):
    """The belief after the pending and chosen points, each imagined at its mean, and where its maximum may be."""

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
    """The one-shot knowledge gradient.

    Args:
        posterior: the belief about the objective.
        X: [q, d] points to be evaluated.
        X_fantasies: [s, d] where the mean is looked at under each fantasy.
        base_samples: [s, q] standard normal numbers, one row a fantasy.
        current: what is subtracted: the largest mean before.
    """
    cov = posterior.joint(X)[1] + posterior.observation_noise() * jnp.eye(X.shape[0], dtype=X.dtype)
    _, L_inv = factor_scaled(cov)
    moves = jnp.sum(matmul(posterior.cov(X_fantasies, X), L_inv.T) * base_samples, axis=1)
    return jnp.mean(posterior.mean(X_fantasies) + moves) - current


def discrete_kg(
    posterior: Posterior, X: Float[Array, "k d"], candidates: Float[Array, "m d"], z: Float[Array, "s"]
) -> Float[Array, "k"]:
    """The knowledge gradient of each of k points, the maximum sought among candidates and the point itself.

    Args:
        posterior: the belief about the objective.
        X: [k, d] points of the unit cube.
        candidates: [m, d] where the mean may be largest.
        z: [s] standard normal numbers or quantiles.
    """
    mean, var = posterior.mean_var(X)
    root = jnp.sqrt(var + posterior.observation_noise())
    means = posterior.mean(candidates)
    slopes = posterior.cov(X, candidates) / root[:, None]
    lines = means[None, None, :] + slopes[:, None, :] * z[None, :, None]
    own = mean[:, None] + (var / root)[:, None] * z[None, :]
    best = jnp.maximum(jnp.max(lines, axis=2), own)
    return jnp.mean(best, axis=1) - jnp.maximum(jnp.max(means), mean)


def knowledge_gradient(*, num_fantasies: int = 16, num_points: int = 32) -> BatchAcquisition:
    """The discrete knowledge gradient; batches one by one, chosen and pending points imagined at their mean.

    Args:
        num_fantasies: equally likely outcomes of an evaluation, >= 2.
        num_points: where the largest mean is sought, >= 2.
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

    return BatchAcquisition(begin, value, add, in_logs=False, num_samples=num_fantasies * num_points)

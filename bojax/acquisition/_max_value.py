"""Information about the maximum: max-value entropy search and its batch form GIBBON.

With m the maximum of the objective (sampled), gamma = (m - mean) / std, lambda = phi(gamma) / Phi(gamma):

    mes      mean_m  gamma lambda / 2 - log Phi(gamma)                 what f(x), noise-free, tells of m
    gibbon   mean_m  -1/2 log(1 - rho^2 lambda (gamma + lambda)) + 1/2 log(v_x / v_0)

In GIBBON rho^2 = var / (var + noise), and the last term, the variance v of an observation at x with and without the
chosen and pending points, keeps batches apart; it is a lower bound of what the noisy observation tells.
(Wang, Jegelka 2017, arXiv:1703.01968; Moss, Leslie, Gonzalez, Rayson 2021, arXiv:2102.03324.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax import _numerics
from bojax._qmc import shifted, sobol_integers
from bojax._types import Array, Float, Key
from bojax.acquisition._batch import BatchAcquisition, Context, imagine_pending
from bojax.surrogates import Posterior

NUM_CANDIDATES = 512
"""Quasi-random points among which, with the observed ones, the maximum of each sample is sought."""
SMALLEST = 1e-12
"""Floor of the share of variance left: below is rounding."""


class Optima(NamedTuple):
    """Sampled maxima.

    Attributes:
        X: [s, d] where each sample is largest.
        values: [s] its value there.
    """

    X: Float[Array, "s d"]
    values: Float[Array, "s"]


class InformationState(NamedTuple):
    """What an information-based batch keeps.

    Attributes:
        posterior: the belief before the batch.
        conditioned: the same after the pending and chosen points; only its variance is used.
        optima: sampled maxima.
    """

    posterior: Any
    conditioned: Any
    optima: Optima


def max_value_entropy(posterior: Posterior, X: Float[Array, "k d"], max_values: Float[Array, "s"]) -> Float[Array, "k"]:
    """What a noise-free evaluation at each of k points tells of the maximum, in nats.

    Args:
        posterior: the belief about the objective.
        X: [k, d] points of the unit cube.
        max_values: [s] samples of the maximum, in the posterior's units.
    """
    mean, var = posterior.mean_var(X)
    gamma = (max_values[:, None] - mean[None, :]) / jnp.sqrt(var)[None, :]
    hazard = inverse_mills(gamma)
    # log Phi and gamma lambda / 2 cancel for large -gamma, where what is left grows as log(-gamma).
    return jnp.mean(0.5 * gamma * hazard - _numerics.log_ndtr(gamma), axis=0)


def gibbon_information(
    posterior: Posterior,
    X: Float[Array, "k d"],
    max_values: Float[Array, "s"],
    *,
    conditioned: Posterior | None = None,
) -> Float[Array, "k"]:
    """GIBBON's lower bound of what a noisy observation at each of k points tells of the maximum.

    Args:
        posterior: the belief about the objective.
        X: [k, d] points of the unit cube.
        max_values: [s] samples of the maximum, in the posterior's units.
        conditioned: the belief after the points already in the batch were observed, whatever their values; None when
            there is none.
    """
    mean, var = posterior.mean_var(X)
    noise = posterior.observation_noise()
    gamma = (max_values[:, None] - mean[None, :]) / jnp.sqrt(var)[None, :]
    rho2 = var / (var + noise)
    left = 1.0 - rho2[None, :] * (1.0 - truncated_share(gamma))
    gain = -0.5 * jnp.mean(jnp.log(jnp.maximum(left, SMALLEST)), axis=0)
    if conditioned is None:
        return gain
    return gain + 0.5 * jnp.log((conditioned.var(X) + noise) / (var + noise))


def mes(*, num_samples: int = 32, num_candidates: int = NUM_CANDIDATES) -> BatchAcquisition:
    """Max-value entropy search; a batch is chosen one by one, with chosen and pending points imagined at their mean.

    Args:
        num_samples: sampled maxima, >= 1.
        num_candidates: quasi-random points in which they are sought, >= 1.
    """
    check_sizes(num_samples, num_candidates)

    def begin(key, posterior, context, q):
        optima = sample_optima(key, posterior, context, num_samples, num_candidates)
        conditioned = imagine_pending(posterior, context)
        return InformationState(conditioned, conditioned, optima)

    def value(state, X):
        return max_value_entropy(state.posterior, X, state.optima.values)

    def add(state, x):
        posterior = state.posterior.append(x, state.posterior.mean(x[None])[0])
        return InformationState(posterior, posterior, state.optima)

    return BatchAcquisition(begin, value, add, in_logs=False, num_samples=num_samples)


def gibbon(*, num_samples: int = 32, num_candidates: int = NUM_CANDIDATES) -> BatchAcquisition:
    """GIBBON: max-value entropy search for noisy observations and for batches.

    Args:
        num_samples: sampled maxima, >= 1.
        num_candidates: quasi-random points in which they are sought, >= 1.
    """
    check_sizes(num_samples, num_candidates)

    def begin(key, posterior, context, q):
        optima = sample_optima(key, posterior, context, num_samples, num_candidates)
        return InformationState(posterior, imagine_pending(posterior, context), optima)

    def value(state, X):
        return gibbon_information(state.posterior, X, state.optima.values, conditioned=state.conditioned)

    return BatchAcquisition(begin, value, add_to_conditioned, in_logs=False, num_samples=num_samples)


def add_to_conditioned(state: InformationState, x: Float[Array, "d"]) -> InformationState:
    """Observe a chosen point, whatever its value."""
    return state._replace(conditioned=state.conditioned.append(x, state.conditioned.mean(x[None])[0]))


def sample_optima(key: Key, posterior: Posterior, context: Context, num_samples: int, num_candidates: int) -> Optima:
    """Draw where and how large the maximum is: the best of joint samples at quasi-random and observed points.

    A sampled maximum below the incumbent is raised to it: the maximum is at least what was seen.
    """
    d = context.X.shape[1]
    keys = jax.random.split(key, 2)
    shift = jax.random.bits(keys[0], (d,), jnp.uint32)
    spread = shifted(sobol_integers(num_candidates, d), shift, context.X.dtype)
    points = jnp.concatenate([spread, context.X])
    samples = posterior.sample(keys[1], points, num_samples)
    real = jnp.concatenate([jnp.ones(num_candidates, bool), context.mask])
    samples = jnp.where(real[None, :], samples, -jnp.inf)
    best = jnp.argmax(samples, axis=1)
    return Optima(points[best], jnp.maximum(jnp.max(samples, axis=1), context.best_f))


def inverse_mills(gamma: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """phi(gamma) / Phi(gamma), about -gamma far to the left."""
    u = jnp.where(gamma <= 0.0, -gamma, 0.0)
    positive = jnp.maximum(gamma, 0.0)
    return jnp.where(
        gamma <= 0.0, (1.0 + u) / _numerics.mills(u), _numerics.normal_pdf(positive) / _numerics.ndtr(positive)
    )


def truncated_share(gamma: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Variance of a standard normal that is known to lie below gamma, in (0, 1]: 1 - lambda (gamma + lambda)."""
    u = jnp.where(gamma <= 0.0, -gamma, 0.0)
    left = 1.0 - _numerics.mills_1(u) / _numerics.mills(u) ** 2
    positive = jnp.maximum(gamma, 0.0)
    hazard = inverse_mills(positive)
    return jnp.maximum(jnp.where(gamma <= 0.0, left, 1.0 - hazard * (positive + hazard)), SMALLEST)


def check_sizes(num_samples: int, num_candidates: int) -> None:
    """Raises ValueError when a number is below 1."""
    for name, value in (("num_samples", num_samples), ("num_candidates", num_candidates)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")

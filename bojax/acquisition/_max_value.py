"""Information about the maximum: max-value entropy search and its batch form GIBBON.

With m the maximum of the objective (sampled), gamma = (m - mean) / std, lambda = phi(gamma) / Phi(gamma):

    mes      mean_m  gamma lambda / 2 - log Phi(gamma)                 information of a noise-free f(x) about m
    gibbon   mean_m  -1/2 log(1 - rho^2 lambda (gamma + lambda)) + 1/2 log(v_x / v_0)

In GIBBON rho^2 = var / (var + noise). The last term compares the variance v_x of an observation at x given the chosen
and pending points with its variance v_0 without them, and keeps the points of a batch apart. GIBBON is a lower bound of
the information of a noisy observation about m. (Wang, Jegelka 2017, arXiv:1703.01968; Moss, Leslie, Gonzalez, Rayson
2021, arXiv:2102.03324.)
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
"""Number of quasi-random points that, with the observed ones, are searched for the maximum of each sample."""
SMALLEST = 1e-12
"""Floor of the remaining share of the variance; smaller values are rounding errors."""


class Optima(NamedTuple):
    """Sampled maxima.

    Attributes:
        X: [s, d] location of the maximum of each sample.
        values: [s] its value.
    """

    X: Float[Array, "s d"]
    values: Float[Array, "s"]


class InformationState(NamedTuple):
    """State of an information-based batch acquisition.

    Attributes:
        posterior: the posterior before the batch.
        conditioned: the same given the pending and chosen points; only its variance is used.
        optima: sampled maxima.
    """

    posterior: Any
    conditioned: Any
    optima: Optima


def max_value_entropy(posterior: Posterior, X: Float[Array, "k d"], max_values: Float[Array, "s"]) -> Float[Array, "k"]:
    """Information that a noise-free evaluation at each of k points gives about the maximum.

    With gamma_i = (m_i - mu) / sigma for sample m_i of the maximum and lambda_i = phi(gamma_i) / Phi(gamma_i), the
    value is mean_i gamma_i lambda_i / 2 - log Phi(gamma_i).

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        max_values: [s] samples of the maximum, in the units of the posterior.

    Returns:
        [k] information in nats, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> [round(value, 3) for value in max_value_entropy(posterior, X, jnp.array([2.0])).tolist()]
        [0.078, 0.173]

    Source: Wang and Jegelka (2017), arXiv:1703.01968.
    """
    mean, var = posterior.mean_var(X)
    gamma = (max_values[:, None] - mean[None, :]) / jnp.sqrt(var)[None, :]
    hazard = inverse_mills(gamma)
    # log Phi and gamma lambda / 2 cancel for large -gamma; the remainder grows as log(-gamma).
    return jnp.mean(0.5 * gamma * hazard - _numerics.log_ndtr(gamma), axis=0)


def gibbon_information(
    posterior: Posterior,
    X: Float[Array, "k d"],
    max_values: Float[Array, "s"],
    *,
    conditioned: Posterior | None = None,
) -> Float[Array, "k"]:
    """GIBBON's lower bound of the information that a noisy observation at each of k points gives about the maximum.

    With gamma_i = (m_i - mu) / sigma for sample m_i of the maximum, lambda_i = phi(gamma_i) / Phi(gamma_i) and
    rho^2 = var / (var + noise), the value is mean_i -1/2 log(1 - rho^2 lambda_i (gamma_i + lambda_i)). With
    `conditioned`, 1/2 log(v_x / v_0) is added, with v_x and v_0 the variances of an observation under `conditioned` and
    under `posterior`.

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        max_values: [s] samples of the maximum, in the units of the posterior.
        conditioned: the posterior given the points already in the batch; only its variance is used. By default there
            are no such points.

    Returns:
        [k] information in nats.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> [round(value, 3) for value in gibbon_information(posterior, X, jnp.array([2.0])).tolist()]
        [0.06, 0.129]

    Source: Moss, Leslie, Gonzalez, Rayson (2021), arXiv:2102.03324.
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
    """Max-value entropy search: maximize the information of a noise-free evaluation about the maximum.

    Batches are chosen one point after another; chosen and pending points count as observed at their posterior mean.

    Args:
        num_samples: number of sampled maxima, >= 1, default 32. The error falls and the cost rises with it.
        num_candidates: number of quasi-random points among which the maxima are sampled, >= 1, default 512. The
            observed points are added to them.

    Returns:
        A `BatchAcquisition` without `joint`, with `in_logs` False. Its values are in nats.

    Raises:
        ValueError: a number is below 1.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> bojax.bayesopt(space, q=2, acquisition=mes(num_samples=16)).q
        2

    Source: Wang and Jegelka (2017), arXiv:1703.01968.
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

    return BatchAcquisition(begin, value, add, in_logs=False)


def gibbon(*, num_samples: int = 32, num_candidates: int = NUM_CANDIDATES) -> BatchAcquisition:
    """GIBBON: max-value entropy search for noisy observations and for batches.

    Args:
        num_samples: number of sampled maxima, >= 1, default 32. The error falls and the cost rises with it.
        num_candidates: number of quasi-random points among which the maxima are sampled, >= 1, default 512. The
            observed points are added to them.

    Returns:
        A `BatchAcquisition` without `joint`, with `in_logs` False. Its values are in nats.

    Raises:
        ValueError: a number is below 1.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> bojax.bayesopt(space, q=2, acquisition=gibbon(num_samples=16)).q
        2

    Source: Moss, Leslie, Gonzalez, Rayson (2021), arXiv:2102.03324.
    """
    check_sizes(num_samples, num_candidates)

    def begin(key, posterior, context, q):
        optima = sample_optima(key, posterior, context, num_samples, num_candidates)
        return InformationState(posterior, imagine_pending(posterior, context), optima)

    def value(state, X):
        return gibbon_information(state.posterior, X, state.optima.values, conditioned=state.conditioned)

    return BatchAcquisition(begin, value, add_to_conditioned, in_logs=False)


def add_to_conditioned(state: InformationState, x: Float[Array, "d"]) -> InformationState:
    """Condition on a chosen point. Only the variance is used, so its value does not matter."""
    return state._replace(conditioned=state.conditioned.append(x, state.conditioned.mean(x[None])[0]))


def sample_optima(key: Key, posterior: Posterior, context: Context, num_samples: int, num_candidates: int) -> Optima:
    """Draw locations and values of the maximum: the largest of joint samples at quasi-random and observed points.

    A sampled maximum below the incumbent is raised to it, since the maximum is at least the incumbent.
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
    """phi(gamma) / Phi(gamma); approximately -gamma for large negative gamma."""
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
    """Raise ValueError if a number is below 1."""
    for name, value in (("num_samples", num_samples), ("num_candidates", num_candidates)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")

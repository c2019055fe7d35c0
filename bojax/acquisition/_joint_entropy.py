"""Joint entropy search: information about where the maximum is and how large it is, together.

For each sampled optimum (x*, f*) the process is conditioned on f(x*) = f*, noise-free, and truncated at f*. With v the
variance of an observation and v* its variance after both, the information is bounded from below by

    jes = 1/2 log v(x) - mean over optima of 1/2 log v*(x)

In a batch v(x) is the variance given the chosen and pending points, so the sum over the batch is the bound of Tu et al.
(Hvarfner, Hutter, Nardi 2022, arXiv:2206.04771; Tu, Gandy, Kantas, Shafei 2022, arXiv:2210.02905.)
"""

import jax.numpy as jnp

from bojax._types import Array, Float
from bojax.acquisition._batch import BatchAcquisition, imagine_pending
from bojax.acquisition._max_value import (
    NUM_CANDIDATES,
    SMALLEST,
    InformationState,
    Optima,
    add_to_conditioned,
    check_sizes,
    sample_optima,
    truncated_share,
)
from bojax.surrogates import Posterior


def joint_entropy(
    posterior: Posterior,
    X: Float[Array, "k d"],
    optima: Optima,
    *,
    conditioned: Posterior | None = None,
    optimum_noise: float = 0.0,
) -> Float[Array, "k"]:
    """What a noisy observation at each of k points tells of the optimum, by the lower bound, in nats.

    Args:
        posterior: the belief about the objective.
        X: [k, d] points of the unit cube.
        optima: sampled optima, in the posterior's units.
        conditioned: the belief after the points already in the batch were observed; None when there is none.
        optimum_noise: variance with which f(x*) = f* is observed.
    """
    mean, var = posterior.mean_var(X)
    noise = posterior.observation_noise()
    at_mean, at_var = posterior.mean_var(optima.X)
    cross = posterior.cov(X, optima.X)
    gain = cross / (at_var + optimum_noise)[None, :]
    new_mean = mean[:, None] + gain * (optima.values - at_mean)[None, :]
    new_var = jnp.maximum(var[:, None] - gain * cross, SMALLEST * var[:, None])
    share = truncated_share((optima.values[None, :] - new_mean) / jnp.sqrt(new_var))
    before = var if conditioned is None else conditioned.var(X)
    return 0.5 * jnp.log(before + noise) - 0.5 * jnp.mean(jnp.log(new_var * share + noise), axis=1)


def jes(*, num_samples: int = 32, num_candidates: int = NUM_CANDIDATES) -> BatchAcquisition:
    """Joint entropy search.

    Args:
        num_samples: sampled optima, >= 1.
        num_candidates: quasi-random points in which they are sought, >= 1.
    """
    check_sizes(num_samples, num_candidates)

    def begin(key, posterior, context, q):
        optima = sample_optima(key, posterior, context, num_samples, num_candidates)
        return InformationState(posterior, imagine_pending(posterior, context), optima)

    def value(state, X):
        return joint_entropy(state.posterior, X, state.optima, conditioned=state.conditioned)

    return BatchAcquisition(begin, value, add_to_conditioned, in_logs=False, num_samples=2 * num_samples)

"""Joint entropy search: information about the location and the value of the maximum.

For each sampled optimum (x*, f*) the GP is conditioned on the noise-free value f(x*) = f* and truncated at f*. With v
the variance of an observation and v* its variance after both, the information is bounded from below by

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
    """Lower bound of the information that a noisy observation at each of k points gives about the optimum.

    The value is 1/2 log v - mean_i 1/2 log v_i. v is the variance of an observation under `conditioned`, and v_i is its
    variance under `posterior` given that sampled optimum i is the maximum.

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        optima: s sampled optima, in the units of the posterior.
        conditioned: the posterior after the points already in the batch; `posterior` itself by default.
        optimum_noise: variance of the observation f(x*) = f*, >= 0, in squared units of the posterior. The default, 0,
            takes it as exact.

    Returns:
        [k] information in nats.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.acquisition import Optima
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> optima = Optima(X=jnp.array([[1.0]]), values=jnp.array([2.0]))
        >>> [round(value, 3) for value in joint_entropy(posterior, X, optima).tolist()]
        [0.06, 0.129]

    Source: Hvarfner, Hutter, Nardi (2022), arXiv:2206.04771; Tu, Gandy, Kantas, Shafei (2022), arXiv:2210.02905.
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
    """Joint entropy search: maximize the information about the location and the value of the maximum.

    Args:
        num_samples: number of sampled optima, >= 1, default 32. The error falls and the cost rises with it.
        num_candidates: number of quasi-random points among which the optima are sampled, >= 1, default 512. The
            observed points are added to them. More candidates locate the optima more precisely.

    Returns:
        A `BatchAcquisition` without `joint`, with `in_logs` False. Its values are in nats.

    Raises:
        ValueError: a number is below 1.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> bojax.bayesopt(space, q=2, acquisition=jes(num_samples=16)).q
        2

    Source: Hvarfner, Hutter, Nardi (2022), arXiv:2206.04771; Tu, Gandy, Kantas, Shafei (2022), arXiv:2210.02905.
    """
    check_sizes(num_samples, num_candidates)

    def begin(key, posterior, context, q):
        optima = sample_optima(key, posterior, context, num_samples, num_candidates)
        return InformationState(posterior, imagine_pending(posterior, context), optima)

    def value(state, X):
        return joint_entropy(state.posterior, X, state.optima, conditioned=state.conditioned)

    return BatchAcquisition(begin, value, add_to_conditioned, in_logs=False)

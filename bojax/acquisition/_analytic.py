"""Acquisition functions with a closed form: how useful would one more evaluation at x be?

With mean mu and standard deviation sigma of the posterior at x, best_f the incumbent, z = (mu - best_f) / sigma,
phi and Phi the density and distribution function of the standard normal, and h(z) = phi(z) + z Phi(z):

    expected improvement          ei = sigma h(z),      log_ei = log sigma + log h(z)
    probability of improvement    pi = Phi(z),          log_pi = log Phi(z)
    upper confidence bound        ucb = mu + sqrt(beta) sigma

Every function has the signature `(posterior, X [k, d], best_f) -> [k]`, larger is better, and can be differentiated
with respect to X. Prefer the logarithms: far from the incumbent ei and pi underflow to a flat zero, and their
logarithms keep a slope to climb (Ament et al. 2023, arXiv:2310.20708).
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from bojax import _numerics
from bojax._types import Array, Float
from bojax.surrogates import Posterior


@runtime_checkable
class AcquisitionFn(Protocol):
    """A utility of evaluating each of k points by itself."""

    def __call__(self, posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
        """Larger is better."""
        ...


def log_ei(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Logarithm of the expected improvement over the incumbent.

    Args:
        posterior: the belief about the objective.
        X: [k, d] points of the unit cube.
        best_f: value of the incumbent, in the posterior's units.

    Returns:
        [k] log expected improvements, finite for any finite mean and variance.

    Source: Mockus, Tiesis, Zilinskas (1978); Ament et al. (2023), arXiv:2310.20708.
    """
    z, std = _scaled_improvement(posterior, X, best_f)
    return _numerics.log_h(z) + jnp.log(std)


def ei(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Expected improvement over the incumbent; arguments as in `log_ei`. Underflows to 0 below z = -38."""
    z, std = _scaled_improvement(posterior, X, best_f)
    return std * _numerics.h(z)


def log_pi(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Logarithm of the probability of improving on the incumbent; arguments as in `log_ei`.

    Source: Kushner (1964).
    """
    return _numerics.log_ndtr(_scaled_improvement(posterior, X, best_f)[0])


def pi(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Probability of improving on the incumbent, in [0, 1]; arguments as in `log_ei`."""
    return _numerics.ndtr(_scaled_improvement(posterior, X, best_f)[0])


def ucb(
    posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""] | None = None, *, beta: float = 4.0
) -> Float[Array, "k"]:
    """Upper confidence bound: the mean plus sqrt(beta) standard deviations.

    Args:
        posterior: the belief about the objective.
        X: [k, d] points of the unit cube.
        best_f: not used; every acquisition has the same signature.
        beta: weight of the variance, >= 0. The default looks two standard deviations up.

    Source: Srinivas, Krause, Kakade, Seeger (2010), arXiv:0912.3995.
    """
    del best_f
    mean, var = posterior.mean_var(X)
    return mean + jnp.sqrt(beta * var)


def posterior_mean(
    posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""] | None = None
) -> Float[Array, "k"]:
    """The mean alone: where the objective is believed to be best, with no exploration. `best_f` is not used."""
    del best_f
    return posterior.mean(X)


def _scaled_improvement(posterior, X, best_f):
    mean, var = posterior.mean_var(X)
    std = jnp.sqrt(var)
    return (mean - best_f) / std, std

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

import functools
import numbers
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import jax.numpy as jnp

from bojax import _numerics
from bojax._types import Array, Float
from bojax.surrogates import Posterior

FunctionT = TypeVar("FunctionT")


@runtime_checkable
class AcquisitionFn(Protocol):
    """A utility of evaluating each of k points by itself."""

    def __call__(self, posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
        """Larger is better."""
        ...


def in_logs(function: FunctionT) -> FunctionT:
    """Mark an acquisition function whose values are logarithms of a positive utility.

    Weights (the probability of success, a prior, a cost) are then added to the values as logarithms. Values that are
    not marked pass through a softplus first; see `weighted`.

    Args:
        function: an `AcquisitionFn`, a `functools.partial` of one included.

    Returns:
        The same function, with the attribute `in_logs` set to True.

    Example:
        >>> from bojax.acquisition import kriging_believer
        >>> @in_logs
        ... def half_log_ei(posterior, X, best_f):
        ...     return 0.5 * log_ei(posterior, X, best_f)
        >>> kriging_believer(half_log_ei).in_logs
        True
    """
    vars(function)["in_logs"] = True
    return function


def is_in_logs(function: Any) -> bool:
    """Whether the values of an acquisition function are logarithms: it, or what it is a partial of, is marked so."""
    while isinstance(function, functools.partial) and "in_logs" not in vars(function):
        function = function.func
    return bool(getattr(function, "in_logs", False))


@in_logs
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


@in_logs
def log_pi(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Logarithm of the probability of improving on the incumbent; arguments as in `log_ei`.

    Source: Kushner (1964).
    """
    return _numerics.log_ndtr(_scaled_improvement(posterior, X, best_f)[0])


def pi(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Probability of improving on the incumbent, in [0, 1]; arguments as in `log_ei`."""
    return _numerics.ndtr(_scaled_improvement(posterior, X, best_f)[0])


@overload
def ucb(
    posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""] | None = None, *, beta: float = 4.0
) -> Float[Array, "k"]: ...
@overload
def ucb(posterior: Any = None, *, beta: Any = None) -> AcquisitionFn: ...
def ucb(posterior: Any = None, X: Any = None, best_f: Any = None, *, beta: Any = None) -> Any:
    """Upper confidence bound: the mean plus sqrt(beta) standard deviations.

    `ucb` is an acquisition with the default weight, `ucb(beta)` one with another: `bayesopt(space,
    acquisition=ucb(2.0))`.

    Args:
        posterior: the belief about the objective; or `beta`, where nothing else is given.
        X: [k, d] points of the unit cube.
        best_f: not used; every acquisition has the same signature.
        beta: weight of the variance, >= 0, a number or an array []. The default, 4, looks two standard deviations up.

    Returns:
        [k] values, or an acquisition.

    Raises:
        ValueError: `beta` is negative.
        TypeError: a posterior without points, or a beta that is no number.

    Source: Srinivas, Krause, Kakade, Seeger (2010), arXiv:0912.3995.
    """
    if X is not None:
        return _ucb(posterior, X, best_f, beta=4.0 if beta is None else beta)
    if posterior is not None and beta is not None:
        raise TypeError(f"`beta` must be given once, got {posterior!r} and {beta!r}.")
    beta = posterior if beta is None else beta
    beta = 4.0 if beta is None else beta
    if isinstance(beta, numbers.Real) and not isinstance(beta, bool):
        beta = float(beta)
    elif getattr(beta, "shape", None) != ():
        raise TypeError(f"`beta` must be a number, got {beta!r}. Write ucb(2.0), or ucb(posterior, X).")
    if not _numerics.holds(beta >= 0):
        raise ValueError(f"`beta` must not be negative, got {beta}.")
    return functools.partial(_ucb, beta=beta)


def _ucb(posterior, X, best_f=None, *, beta):
    del best_f
    mean, var = posterior.mean_var(X)
    return mean + jnp.sqrt(jnp.asarray(beta, var.dtype) * var)


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

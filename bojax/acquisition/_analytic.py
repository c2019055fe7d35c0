"""Acquisition functions of single points with a closed form.

With mean mu and standard deviation sigma of the posterior at x, best_f the incumbent, z = (mu - best_f) / sigma,
phi and Phi the density and distribution function of the standard normal, and h(z) = phi(z) + z Phi(z):

    expected improvement          ei = sigma h(z),      log_ei = log sigma + log h(z)
    probability of improvement    pi = Phi(z),          log_pi = log Phi(z)
    upper confidence bound        ucb = mu + sqrt(beta) sigma

Every function has the signature `(posterior, X [k, d], best_f) -> [k]`, larger is better, and is differentiable with
respect to X. Prefer the logarithms: far from the incumbent ei and pi underflow to zero and have no gradient, while
their logarithms do (Ament et al. 2023, arXiv:2310.20708).
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
    """A function that gives the utility of evaluating each of k points on its own."""

    def __call__(self, posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
        """Larger is better."""
        ...


def in_logs(function: FunctionT) -> FunctionT:
    """Mark an acquisition function whose values are logarithms of a positive utility.

    Logarithms of weights (probability of success, prior, cost) are added directly to the values of marked functions.
    Values of other functions pass through a softplus first; see `weighted`.

    Args:
        function: an `AcquisitionFn`, or a `functools.partial` of one.

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
    """Whether an acquisition function, or the function inside a partial, is marked with `in_logs`."""
    while isinstance(function, functools.partial) and "in_logs" not in vars(function):
        function = function.func
    return bool(getattr(function, "in_logs", False))


@in_logs
def log_ei(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Logarithm of the expected improvement over the incumbent.

    With mean mu and standard deviation sigma of `posterior` at a point of `X` and z = (mu - best_f) / sigma, the value
    is log sigma + log(phi(z) + z Phi(z)).

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        best_f: [] value of the incumbent, in the units of the posterior. A larger value explores more.

    Returns:
        [k] log expected improvements, finite for any finite mean and variance.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> [round(value, 2) for value in log_ei(posterior, X, jnp.array(0.5)).tolist()]
        [-1.62, -0.92]

    Source: Mockus, Tiesis, Zilinskas (1978); Ament et al. (2023), arXiv:2310.20708.
    """
    z, std = _scaled_improvement(posterior, X, best_f)
    return _numerics.log_h(z) + jnp.log(std)


def ei(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Expected improvement over the incumbent.

    With mean mu and standard deviation sigma of `posterior` at a point of `X` and z = (mu - best_f) / sigma, the value
    is sigma (phi(z) + z Phi(z)). It underflows to 0, without a gradient, below z = -38 in float64. To maximize it use
    `log_ei`, which does not.

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        best_f: [] value of the incumbent, in the units of the posterior. A larger value explores more.

    Returns:
        [k] expected improvements, >= 0, in the units of the posterior.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> [round(value, 2) for value in ei(posterior, X, jnp.array(0.5)).tolist()]
        [0.2, 0.4]

    Source: Mockus, Tiesis, Zilinskas (1978).
    """
    z, std = _scaled_improvement(posterior, X, best_f)
    return std * _numerics.h(z)


@in_logs
def log_pi(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Logarithm of the probability of improving on the incumbent.

    With mean mu and standard deviation sigma of `posterior` at a point of `X`, the value is
    log Phi((mu - best_f) / sigma).

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        best_f: [] value of the incumbent, in the units of the posterior. A larger value explores more.

    Returns:
        [k] log probabilities, <= 0, finite for any finite mean and variance.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> [round(value, 2) for value in log_pi(posterior, X, jnp.array(0.5)).tolist()]
        [-1.18, -0.69]

    Source: Kushner (1964).
    """
    return _numerics.log_ndtr(_scaled_improvement(posterior, X, best_f)[0])


def pi(posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""]) -> Float[Array, "k"]:
    """Probability of improving on the incumbent.

    With mean mu and standard deviation sigma of `posterior` at a point of `X`, the value is Phi((mu - best_f) / sigma).
    It underflows to 0 far below the incumbent. To maximize it use `log_pi`, which does not.

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        best_f: [] value of the incumbent, in the units of the posterior. A larger value explores more.

    Returns:
        [k] probabilities in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> [round(value, 2) for value in pi(posterior, X, jnp.array(0.5)).tolist()]
        [0.31, 0.5]

    Source: Kushner (1964).
    """
    return _numerics.ndtr(_scaled_improvement(posterior, X, best_f)[0])


@overload
def ucb(
    posterior: Posterior, X: Float[Array, "k d"], best_f: Float[Array, ""] | None = None, *, beta: float = 4.0
) -> Float[Array, "k"]: ...
@overload
def ucb(posterior: Any = None, *, beta: Any = None) -> AcquisitionFn: ...
def ucb(posterior: Any = None, X: Any = None, best_f: Any = None, *, beta: Any = None) -> Any:
    """Upper confidence bound: mu + sqrt(beta) sigma, with mu and sigma the posterior mean and standard deviation.

    `ucb` itself is an acquisition with the default weight. `ucb(beta)` makes one with another weight:
    `bayesopt(space, acquisition=ucb(2.0))`.

    Args:
        posterior: posterior of the objective; or `beta`, if it is the only argument.
        X: [k, d] points of the unit cube.
        best_f: not used; all acquisition functions have the same signature.
        beta: weight of the variance, >= 0, a number or an array []. The default, 4, adds two standard deviations;
            larger values explore more.

    Returns:
        [k] values in the units of the posterior; an acquisition function if `X` is not given.

    Raises:
        ValueError: `beta` is negative.
        TypeError: `beta` is not a number, is given twice, or a posterior is given without points.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> ucb(posterior, X).tolist(), ucb(1.0)(posterior, X, jnp.array(0.5)).tolist()
        ([2.0, 2.5], [1.0, 1.5])

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
    """Posterior mean: pure exploitation, without exploration.

    Args:
        posterior: posterior of the objective.
        X: [k, d] points of the unit cube.
        best_f: not used; all acquisition functions have the same signature.

    Returns:
        [k] means, in the units of the posterior.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> posterior_mean(posterior, X).tolist()
        [0.0, 0.5]
    """
    del best_f
    return posterior.mean(X)


def _scaled_improvement(posterior, X, best_f):
    mean, var = posterior.mean_var(X)
    std = jnp.sqrt(var)
    return (mean - best_f) / std, std

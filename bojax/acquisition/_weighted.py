"""Acquisitions times a weight: probability of success, prior beliefs, cost of an evaluation.

With a positive utility u and a weight w, log u(x) + log w(x) is maximized. If the values of an acquisition are
logarithms, the logarithm of the weight is added to them. Other values (a mean, an upper confidence bound) may be
negative. For them u is the softplus of the difference to the incumbent, log(1 + exp(value - best_f)). It increases with
the value, so for equal weights the same point is chosen. It is close to the difference where that is large, and decays
exponentially below the incumbent. (Values are in standard deviations of the observed y.)

    probability of success   w = p(success at x)                        Gelbart, Snoek, Adams (2014), arXiv:1403.5607
    prior belief             w = prior(x)^(beta / n), `_prior.py`       Hvarfner et al. (2022), arXiv:2204.11051
    cost                     w = cost(x)^-a, `_cost.py`                 Snoek, Larochelle, Adams (2012), arXiv:1206.2944
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._numerics import holds
from bojax._types import Array, Float
from bojax.acquisition._analytic import AcquisitionFn
from bojax.acquisition._batch import BatchAcquisition, Context, kriging_believer
from bojax.acquisition._checks import check_acquisition
from bojax.surrogates import SuccessModel

LogWeight = Callable[[Float[Array, "k d"]], Float[Array, "k"]]

FAILURE_AVERSION = 4.0
"""Power of the probability of success. Larger powers fail less often; between 3 and 8 the regret hardly changes
(`benchmarks/results/acquisition.md`)."""
LOWEST = -1e4
"""Smaller log weights are raised to it: -inf (an impossible point) would make sums and gradients NaN."""


class WeightedState(NamedTuple):
    """State of a weighted acquisition.

    Attributes:
        inner: state of the acquisition inside.
        best_f: the incumbent.
        scale: factor of the log weight.
    """

    inner: Any
    best_f: Float[Array, ""]
    scale: Float[Array, ""]


def weighted(
    acquisition: AcquisitionFn | BatchAcquisition,
    log_weight: LogWeight,
    *,
    scale: Callable[[Context], Float[Array, ""]] | None = None,
) -> BatchAcquisition:
    """Multiply an acquisition by a weight.

    The joint utility of q points is multiplied by the geometric mean of their weights. This is a heuristic: a batch of
    equal points has the weight of one of them.

    Args:
        acquisition: the acquisition to weight, a `BatchAcquisition` or a function of single points.
        log_weight: maps [k, d] points of the cube to the logarithms [k] of their weights. Values below -1e4 count as
            -1e4.
        scale: function of the `Context` that gives a factor [] of the log weight; 1 by default.

    Returns:
        A `BatchAcquisition` with `in_logs` true.

    Example:
        >>> from bojax.acquisition import batch_log_ei
        >>> acquisition = weighted(batch_log_ei(), lambda X: -X[:, 0])
        >>> acquisition.in_logs
        True
    """
    acquisition = as_batch(acquisition)

    def begin(key, posterior, context, q):
        inner = acquisition.begin(key, posterior, context, q)
        factor = jnp.ones_like(context.best_f) if scale is None else scale(context)
        return WeightedState(inner, context.best_f, factor)

    def weight(state, X):
        return state.scale * jnp.maximum(log_weight(X), LOWEST)

    def logged(state, value):
        return value if acquisition.in_logs else log_softplus(value - state.best_f)

    def value(state, X):
        return logged(state, acquisition.value(state.inner, X)) + weight(state, X)

    def add(state, x):
        return state._replace(inner=acquisition.add(state.inner, x))

    def joint_of(inner_joint, state, X):
        b, q, d = X.shape
        weights = weight(state, X.reshape(b * q, d)).reshape(b, q)
        return logged(state, inner_joint(state.inner, X)) + jnp.mean(weights, axis=1)

    joint = None if acquisition.joint is None else functools.partial(joint_of, acquisition.joint)
    return acquisition._replace(begin=begin, value=value, add=add, joint=joint, in_logs=True, padded=False)


def with_success(
    acquisition: AcquisitionFn | BatchAcquisition, model: SuccessModel, *, aversion: Any = FAILURE_AVERSION
) -> BatchAcquisition:
    """Weight an acquisition by the probability that an evaluation succeeds.

    With utility u the value is log u(x) + aversion log p(success at x). If no evaluation failed, values are unchanged.

    Args:
        acquisition: the acquisition to weight, a `BatchAcquisition` or a function of single points.
        model: the `SuccessModel` that `bojax.surrogates.fit_success` gives.
        aversion: the power of the probability, >= 0, a number or an array []. With 1 an expected improvement is exact
            if a failure costs no more than an evaluation. Larger powers, 4 by default, fail less often.

    Returns:
        A `BatchAcquisition` with the `in_logs` of the given one.

    Raises:
        ValueError: `aversion` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.acquisition import log_ei
        >>> from bojax.surrogates import fit_success
        >>> model = fit_success(data.append(data.empty(1, 2), jnp.array([[0.1], [0.9]]), jnp.array([1.0, jnp.nan])))
        >>> acquisition = with_success(log_ei, model)
        >>> acquisition.in_logs
        True

    Source: Gelbart, Snoek, Adams (2014), arXiv:1403.5607, for the power 1.
    """
    if not holds(aversion >= 0):
        raise ValueError(f"`aversion` must not be negative, got {aversion}.")
    acquisition = as_batch(acquisition)
    both = weighted(acquisition, lambda X: aversion * model.log_probability(X))
    if acquisition.in_logs:
        return both

    def either(of_both, of_plain):
        def value(state, X):
            return jnp.where(model.any_failed, of_both(state, X), of_plain(state.inner, X))

        return value

    joint = None if acquisition.joint is None else either(both.joint, acquisition.joint)
    return both._replace(value=either(both.value, acquisition.value), joint=joint, in_logs=False)


def as_batch(acquisition: AcquisitionFn | BatchAcquisition) -> BatchAcquisition:
    """Convert an acquisition to a `BatchAcquisition`; functions of single points go through `kriging_believer`.

    Args:
        acquisition: a `BatchAcquisition`, or a function `(posterior, X, best_f) -> [k]`.

    Returns:
        A `BatchAcquisition`. If one is given, it is returned unchanged.

    Raises:
        TypeError: `acquisition` is neither.

    Example:
        >>> from bojax.acquisition import log_ei
        >>> as_batch(log_ei).in_logs
        True
    """
    check_acquisition(acquisition)
    if isinstance(acquisition, BatchAcquisition):
        return acquisition
    return kriging_believer(acquisition)


def log_softplus(z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log(log(1 + exp(z))) for all finite z: about z far below zero and log z far above."""
    low = z < -30.0  # log(1 + e) = e to the last bit of float64
    return jnp.where(low, z, jnp.log(jax.nn.softplus(jnp.where(low, 0.0, z))))

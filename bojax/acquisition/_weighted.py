"""Acquisitions times a weight: chance of success, a user's prior beliefs, the price of an evaluation.

With a positive utility u and a weight w, log u(x) + log w(x) is maximised. Acquisitions that are logarithms already get
the logarithm of the weight added. Others (a mean, an upper confidence bound) may be negative; for them u is the
softplus of the value's lead over the incumbent, log(1 + exp(value - best_f)): it rises with the value, so where the
weight is equal the same point is chosen, it is close to the lead itself where that is large, and falls off
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
"""Log weights below are raised to it: -inf (an impossible point) would spoil sums and slopes."""


class WeightedState(NamedTuple):
    """State of a weighted acquisition.

    Attributes:
        inner: that of the acquisition itself.
        best_f: the incumbent.
        scale: what the log weight is multiplied by.
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
    """An acquisition times a weight.

    The joint utility of q points is multiplied by the geometric mean of their weights, a heuristic: a batch of equal
    points is weighed like one of them.

    Args:
        acquisition: what to weigh.
        log_weight: maps [k, d] points of the cube to the logarithms [k] of their weights. Below -1e4 it counts as
            -1e4.
        scale: a factor of the log weight that depends on what was observed; 1 by default.

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
    return acquisition._replace(begin=begin, value=value, add=add, joint=joint, in_logs=True)


def with_success(
    acquisition: AcquisitionFn | BatchAcquisition, model: SuccessModel, *, aversion: Any = FAILURE_AVERSION
) -> BatchAcquisition:
    """An acquisition times a power of the probability that the evaluation succeeds; where nothing failed, unchanged.

    Args:
        acquisition: what to weigh.
        model: what `bojax.surrogates.fit_success` gave.
        aversion: the power, >= 0. 1 makes expected improvements right where a failure costs no more than an
            evaluation; see `FAILURE_AVERSION` for what more of it does.

    Source: Gelbart, Snoek, Adams (2014), arXiv:1403.5607, for the power 1.
    """
    if not holds(aversion >= 0):
        raise ValueError(f"`aversion` must not be negative, got {aversion}.")
    acquisition = as_batch(acquisition)
    weighed = weighted(acquisition, lambda X: aversion * model.log_probability(X))
    if acquisition.in_logs:
        return weighed

    def either(of_weighed, of_plain):
        def value(state, X):
            return jnp.where(model.any_failed, of_weighed(state, X), of_plain(state.inner, X))

        return value

    joint = None if acquisition.joint is None else either(weighed.joint, acquisition.joint)
    return weighed._replace(value=either(weighed.value, acquisition.value), joint=joint, in_logs=False)


def as_batch(acquisition: AcquisitionFn | BatchAcquisition) -> BatchAcquisition:
    """A `BatchAcquisition` of either kind of acquisition; batches of a function are those of `kriging_believer`.

    Args:
        acquisition: a `BatchAcquisition`, or a function `(posterior, X, best_f) -> [k]`.

    Returns:
        A `BatchAcquisition`; one that is given comes back as it is.

    Raises:
        TypeError: it is neither.

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
    """log(log(1 + exp(z))) over the whole range of z: z far below zero, log z far above."""
    low = z < -30.0  # log(1 + e) = e to the last bit of float64
    return jnp.where(low, z, jnp.log(jax.nn.softplus(jnp.where(low, 0.0, z))))

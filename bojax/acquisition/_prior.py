"""Prior beliefs about the location of the optimum: an acquisition times a decaying power of the user's density.

    log u(x) + (beta / n) log prior(x),    n observations

The prior guides the first evaluations, and its weight decreases as observations arrive. A wrong prior delays finding
the optimum but does not prevent it. Only differences of log densities matter, so a density need not be normalized.

Source: Hvarfner, Stoll, Souza, Lindauer, Hutter, Nardi (2022), "piBO: augmenting acquisition functions with user
beliefs for Bayesian optimization", arXiv:2204.11051. They take beta as a tenth of the planned evaluations.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._numerics import holds
from bojax._types import Array, Float
from bojax.acquisition._analytic import AcquisitionFn
from bojax.acquisition._batch import BatchAcquisition
from bojax.acquisition._weighted import LogWeight, weighted
from bojax.space import Space, check_choices


def with_prior(
    acquisition: AcquisitionFn | BatchAcquisition,
    log_prior: Callable[..., Any],
    *,
    beta: Any = 10.0,
    space: Space | None = None,
) -> BatchAcquisition:
    """Weight an acquisition by a prior density of the location of the optimum.

    With utility u and n observations the value is log u(x) + (beta / n) log_prior(x).

    Args:
        acquisition: the acquisition to weight, a `BatchAcquisition` or a function of single points.
        log_prior: logarithm of the density, up to a constant. With `space` it takes one point as a dict of scalars, as
            `space.decode` gives them (integers, positions of choices). Without `space` it maps [k, d] points of the
            cube to [k] values, as `gaussian_prior` does. -inf excludes a point.
        beta: duration of the prior's influence, >= 0, a number or an array []. After beta observations (10 by default)
            the prior has weight 1. A tenth of the planned evaluations is a good choice; 0 ignores the prior.
        space: the space of the points, if `log_prior` takes native values. By default it takes points of the cube.

    Returns:
        A `BatchAcquisition` with `in_logs` True.

    Raises:
        ValueError: `beta` is negative.

    Example:
        >>> import bojax
        >>> from bojax.acquisition import batch_log_ei, with_prior
        >>> space = bojax.Space(x=bojax.Float(0.0, 10.0))
        >>> acquisition = with_prior(batch_log_ei(), lambda p: -0.5 * (p["x"] - 3.0) ** 2, space=space)
        >>> bojax.bayesopt(space, q=2, acquisition=acquisition).q
        2

    Source: Hvarfner et al. (2022), arXiv:2204.11051.
    """
    if not holds(beta >= 0):
        raise ValueError(f"`beta` must not be negative, got {beta}.")

    def fades(context):
        count = jnp.maximum(jnp.sum(context.mask), 1).astype(context.best_f.dtype)
        return beta / count

    return weighted(acquisition, log_prior if space is None else on_params(space, log_prior), scale=fades)


def on_params(space: Space, fn: Callable[[dict[str, Array]], Array]) -> LogWeight:
    """Turn a function of one decoded point into a function of points of the cube.

    Args:
        space: the space of the points.
        fn: maps a dict of scalars, as `space.decode` gives them, to a scalar.

    Returns:
        A function of [k, d] points of the cube that returns [k] values.

    Example:
        >>> import jax.numpy as jnp
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 10.0))
        >>> on_params(space, lambda p: 2.0 * p["x"])(jnp.array([[0.5]])).tolist()
        [10.0]
    """

    def on_cube(X):
        check_choices(space, fn, jax.eval_shape(space.decode, jax.ShapeDtypeStruct((space.num_dims,), X.dtype)))
        return jax.vmap(lambda x: jnp.asarray(fn(space.decode(x)), X.dtype))(X)

    return on_cube


def gaussian_prior(center: Any, width: Any) -> LogWeight:
    """Normal density on the unit cube with independent coordinates, for `with_prior`.

    Args:
        center: [d] most likely coordinates of the optimum in the unit cube, or one number for all.
        width: [d] standard deviations, > 0, in units of the cube; infinite for coordinates without a prior.

    Returns:
        A function of [k, d] points that gives the logarithms [k] of the density, 0 at the center.

    Raises:
        ValueError: a width is not positive or a center is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> gaussian_prior([0.25, 0.5], [0.25, jnp.inf])(jnp.array([[0.5, 0.9]]))
        Array([-0.5], dtype=float32)
    """
    center, width = (np.atleast_1d(np.asarray(value, np.float64))[None, :] for value in (center, width))
    if not np.all(np.isfinite(center)):
        raise ValueError(f"`center` must be finite, got {center}.")
    if not np.all(width > 0):
        raise ValueError(f"`width` must be positive, got {width}. Use inf for coordinates without a prior.")

    def log_density(X: Float[Array, "k d"]) -> Float[Array, "k"]:
        z = (X - jnp.asarray(center, X.dtype)) * jnp.asarray(1.0 / width, X.dtype)
        return -0.5 * jnp.sum(z * z, axis=-1)

    return log_density

"""Observations of values and gradients as the rows of one Gaussian vector.

A row is a value or a directional derivative (`LinearRows`). Rows are packed into one array, so that kernels, means and
posteriors can treat them as points.
"""

from typing import NamedTuple

import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.data import Observations
from bojax.surrogates.outputs._standardize import Scale, standardize
from bojax.surrogates.parts._kernels import Kernel, LinearRows
from bojax.surrogates.parts._means import Mean
from bojax.surrogates.parts._noise import told_noise

MAX_ROWS = 600
"""Largest number of rows with full gradients: a likelihood takes about 0.1 s at 600 rows and 0.6 s at 1,050."""
MAX_SLOPE = 30.0
"""Gradients longer than this, in standard deviations of y per side of the cube, are dropped. Beyond the edge of
stability of a training run they are correct but uninformative. Figures: `benchmarks/results/surrogates.md`."""


class Rows(NamedTuple):
    """Observations as rows of one Gaussian vector.

    Attributes:
        P: [N, 2 d + 1] packed `LinearRows`.
        y: [N] standardized values and derivatives; 0 outside the mask.
        mask: [N] which rows were observed.
        is_grad: [N] which rows are derivatives.
        told: [N] reported noise variances, NaN where none was reported.
        scale: location and scale of y.
    """

    P: Float[Array, "r p"]
    y: Float[Array, "r"]
    mask: Bool[Array, "r"]
    is_grad: Bool[Array, "r"]
    told: Float[Array, "r"]
    scale: Scale


def rows_of(observations: Observations, max_rows: int = MAX_ROWS) -> Rows:
    """Observations as rows: all values, then all derivatives.

    Components of gradients that are NaN were not reported. Gradients longer than `MAX_SLOPE` are left out.
    """
    X, mask = observations.X, observations.mask
    n, d = X.shape
    y, scale = standardize(observations.y, mask)
    values = values_at(X), y, mask, told_noise(observations, scale)
    grad = observations.columns.get("grad")
    if grad is None:
        return Rows(*values[:3], jnp.zeros(n, bool), values[3], scale)
    known = mask[:, None] & jnp.isfinite(grad)
    grad = jnp.where(known, grad, 0.0) / scale.scale
    norm = jnp.sqrt(jnp.sum(grad**2, axis=-1))
    credible = norm <= MAX_SLOPE
    known = known & credible[:, None]
    grad = jnp.where(known, grad, 0.0)
    if n * (d + 1) <= max_rows:
        direction = jnp.tile(jnp.eye(d, dtype=X.dtype), (n, 1))
        points, slopes, seen = jnp.repeat(X, d, axis=0), grad.reshape(-1), known.reshape(-1)
    else:
        seen = credible & (norm > 0)
        direction = grad / jnp.where(seen, norm, 1.0)[:, None]
        points, slopes = X, jnp.where(seen, norm, 0.0)
    derivatives = (
        pack(LinearRows(points, jnp.zeros(len(points), X.dtype), direction)),
        slopes,
        seen,
        jnp.full_like(slopes, jnp.nan),
    )
    P, y, mask, told = (jnp.concatenate(pair) for pair in zip(values, derivatives, strict=True))
    return Rows(P, y, mask, jnp.arange(len(y)) >= n, told, scale)


def pack(linear: LinearRows) -> Float[Array, "r p"]:
    """Linear rows as the rows of one array."""
    return jnp.concatenate([linear.X, linear.value[:, None], linear.direction], axis=-1)


def unpack(P: Float[Array, "r p"]) -> LinearRows:
    """The linear rows of packed rows."""
    d = P.shape[-1] // 2
    return LinearRows(P[:, :d], P[:, d], P[:, d + 1 :])


def values_at(X: Float[Array, "k d"]) -> Float[Array, "k p"]:
    """The rows of the values at X."""
    return pack(LinearRows(X, jnp.ones(X.shape[0], X.dtype), jnp.zeros_like(X)))


def packed_kernel(kernel: Kernel) -> Kernel:
    """The kernel between packed rows. Its diagonal is for rows that are values."""
    derivatives = kernel.derivatives
    if derivatives is None:
        raise TypeError("`kernel` must have `derivatives`, got one without. Use bojax.surrogates.matern52 or rbf.")

    def matrix(params, P, Q):
        return derivatives(params, unpack(P), unpack(Q))

    def diagonal(params, P):
        return kernel.diagonal(params, unpack(P).X)

    return Kernel(kernel.init, matrix, diagonal, kernel.log_prior, kernel.bounds)


def packed_mean(mean: Mean) -> Mean:
    """The mean of packed rows: the mean function for values, and 0 for derivatives."""

    def value(params, P):
        linear = unpack(P)
        return linear.value * mean.value(params, linear.X)

    return mean._replace(value=value, to_gpjax=None)

"""Covariance functions on the unit cube.

A `Kernel` is a set of pure functions of its hyperparameters, a pytree of unconstrained numbers (logarithms of positive
ones). The stationary kernels here have a lengthscale per dimension (ARD) and an outputscale, the prior variance
relative to the variance of the observed values. Distances are computed as one matrix product. Kernels are functions of
the squared distance r^2 with explicit derivatives, which are finite and correct at coincident points. There,
differentiating through sqrt(r^2) gives NaN, and GPJax's clamped distance gives a second derivative of zero.

    matern52:  k(r^2) = outputscale (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)
    rbf:       k(r^2) = outputscale exp(-r^2 / 2)
    r^2 = sum_i ((x_i - z_i) / lengthscale_i)^2

Categorical dimensions have no order. They are compared by equality, which gives a factor
exp(-sum_c [x_c != z_c] / lengthscale_c).

The lengthscale prior is log-normal and grows with the square root of the number of dimensions, which keeps the assumed
complexity of the objective the same in any dimension: Hvarfner, Hellsten, Nardi (2024), "Vanilla Bayesian optimization
performs great in high dimensions", arXiv:2402.02229. They fix the outputscale at one. Here it is learned with a
log-normal prior, which halves the regret (`benchmarks/results/surrogates.md`).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._linalg import matmul
from bojax._numerics import holds
from bojax._types import Array, Float
from bojax.surrogates._inputs import Inputs, PaddedInputs, accept_padding
from bojax.surrogates.parts._contracts import (
    AtPointsFn,
    BindFn,
    BoundsFn,
    DerivativesFn,
    InitFn,
    LogPriorFn,
    MatrixFn,
    ToGpjaxFn,
)
from bojax.surrogates.parts._features import Features, stationary_features
from bojax.surrogates.parts._matrices import categorical_factor, exact_matrix, padded_matrix, squared_distance

LENGTHSCALE_LOC = math.sqrt(2.0)
LENGTHSCALE_STD = math.sqrt(3.0)
LENGTHSCALE_BOUNDS = (0.005, 1000.0)
"""Below, neighboring points are uncorrelated; above, a dimension is ignored to 1e-6."""


LOG_OUTPUTSCALE_STD = 1.0
OUTPUTSCALE_BOUNDS = (0.01, 1000.0)


class Kernel(NamedTuple):
    """A covariance function.

    Attributes:
        init: `init(num_dims, dtype) -> params`, the mode of the prior.
        matrix: `matrix(params, X [n, d], Z [m, d]) -> [n, m]`.
        diagonal: `diagonal(params, X [n, d]) -> [n]`.
        log_prior: `log_prior(params) -> scalar`, up to a constant.
        bounds: `bounds(params) -> (lower, upper)`, pytrees like params.
        to_gpjax: `to_gpjax(params) -> GPJax kernel`, or None if there is no equivalent.
        features: random features, or None if not available.
        derivatives: `derivatives(params, A: LinearRows [n], B: LinearRows [m]) -> [n, m]`, covariances of values and
            derivatives, or None if not available.
        bind: `bind(inputs) -> Kernel`, the kernel for given categorical columns (`Inputs`). None refuses spaces with
            categories; `lambda inputs: kernel` accepts them unchanged.
    """

    init: InitFn
    matrix: MatrixFn
    diagonal: AtPointsFn
    log_prior: LogPriorFn
    bounds: BoundsFn
    to_gpjax: ToGpjaxFn | None = None
    features: Features | None = None
    derivatives: DerivativesFn | None = None
    bind: BindFn["Kernel"] | None = None


class KernelParams(NamedTuple):
    """Hyperparameters of a stationary kernel.

    Attributes:
        log_lengthscale: [d] natural logarithms, in units of the cube (of inequality, for categorical dimensions).
        log_outputscale: natural logarithm of the prior variance, in standardized units.
    """

    log_lengthscale: Float[Array, "d"]
    log_outputscale: Float[Array, ""]


class KernelPrior(NamedTuple):
    """The prior of a stationary kernel's hyperparameters: numbers or arrays [], possibly traced.

    Attributes:
        lengthscale_loc: mean of each logarithmic lengthscale in one dimension; half the logarithm of the number of
            dimensions is added to it.
        lengthscale_std: their standard deviation, > 0.
        outputscale_std: standard deviation of the logarithmic outputscale, > 0.
    """

    lengthscale_loc: Any = LENGTHSCALE_LOC
    lengthscale_std: Any = LENGTHSCALE_STD
    outputscale_std: Any = LOG_OUTPUTSCALE_STD


DEFAULT_PRIOR = KernelPrior()


def matern52(*, categorical_dims: tuple[int, ...] | None = None, prior: KernelPrior = DEFAULT_PRIOR) -> Kernel:
    """Matern kernel of smoothness 5/2 with one lengthscale per dimension, the default of `gp`.

    It suits twice differentiable objectives. With r^2 = sum_i ((x_i - z_i) / lengthscale_i)^2,
    k(x, z) = outputscale (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r). Categorical columns are left out of r and give a
    factor exp(-1 / lengthscale) where they differ.

    Args:
        categorical_dims: columns that hold categories, compared by equality. By default an algorithm fills in those of
            its space, and outside of an algorithm there are none. Columns given here are kept.
        prior: log-normal prior of lengthscales and outputscale. By default, as in Hvarfner et al., a lengthscale
            has median exp(sqrt(2)) sqrt(d) and mode exp(sqrt(2) - 3) sqrt(d) in d dimensions, in units of the cube.

    Returns:
        A `Kernel` whose params are `KernelParams`.

    Raises:
        ValueError: a standard deviation of the prior is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = matern52()
        >>> params = kernel.init(1, jnp.float32)._replace(log_lengthscale=jnp.zeros(1))  # lengthscale 1
        >>> K = kernel.matrix(params, jnp.array([[0.0]]), jnp.array([[0.0], [1.0]]))
        >>> [round(value, 3) for value in K[0].tolist()]
        [1.0, 0.524]

    Source: Rasmussen and Williams (2006), section 4.2.1; Hvarfner, Hellsten, Nardi (2024), arXiv:2402.02229, for the
    prior.
    """
    return _stationary("Matern52", MATERN52, categorical_dims, prior, degrees=5)


def rbf(*, categorical_dims: tuple[int, ...] | None = None, prior: KernelPrior = DEFAULT_PRIOR) -> Kernel:
    """Squared-exponential kernel with one lengthscale per dimension, for very smooth objectives.

    With r^2 = sum_i ((x_i - z_i) / lengthscale_i)^2, k(x, z) = outputscale exp(-r^2 / 2). Categorical columns are left
    out of r and give a factor exp(-1 / lengthscale) where they differ. Use it in float64, or with a noise variance of
    1e-3 or more: its matrices are singular in float32.

    Args:
        categorical_dims: columns that hold categories, compared by equality. By default an algorithm fills in those of
            its space, and outside of an algorithm there are none. Columns given here are kept.
        prior: log-normal prior of lengthscales and outputscale. By default, as in Hvarfner et al., a lengthscale
            has median exp(sqrt(2)) sqrt(d) and mode exp(sqrt(2) - 3) sqrt(d) in d dimensions, in units of the cube.

    Returns:
        A `Kernel` whose params are `KernelParams`.

    Raises:
        ValueError: a standard deviation of the prior is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = rbf()
        >>> params = kernel.init(1, jnp.float32)._replace(log_lengthscale=jnp.zeros(1))  # lengthscale 1
        >>> K = kernel.matrix(params, jnp.array([[0.0]]), jnp.array([[0.0], [1.0]]))
        >>> [round(value, 3) for value in K[0].tolist()]
        [1.0, 0.607]

    Source: Rasmussen and Williams (2006), section 4.2.1; Hvarfner, Hellsten, Nardi (2024), arXiv:2402.02229, for the
    prior.
    """
    return _stationary("RBF", RBF, categorical_dims, prior, degrees=0)


@jax.custom_jvp
def matern52_of_r2(r2: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Matern-5/2 as a function of the squared scaled distance."""
    s = jnp.sqrt(5.0 * r2)
    return (1.0 + s + s * s / 3.0) * jnp.exp(-s)


@jax.custom_jvp
def _matern52_d1(r2):
    """dk/dr^2 = -(5/6) (1 + s) exp(-s), with s = sqrt(5 r^2)."""
    s = jnp.sqrt(5.0 * r2)
    return -(5.0 / 6.0) * (1.0 + s) * jnp.exp(-s)


@matern52_of_r2.defjvp
def _matern52_jvp(primals, tangents):
    return matern52_of_r2(primals[0]), _matern52_d1(primals[0]) * tangents[0]


@_matern52_d1.defjvp
def _matern52_d1_jvp(primals, tangents):
    return _matern52_d1(primals[0]), _matern52_d2(primals[0]) * tangents[0]


@jax.custom_jvp
def _matern52_d2(r2):
    """d^2k/d(r^2)^2 = (25/12) exp(-s), with s = sqrt(5 r^2)."""
    return (25.0 / 12.0) * jnp.exp(-jnp.sqrt(5.0 * r2))


@_matern52_d2.defjvp
def _matern52_d2_jvp(primals, tangents):
    # The slope is infinite at coincident points, but every use multiplies it by a distance.
    s = jnp.sqrt(5.0 * primals[0])
    slope = -(125.0 / 24.0) * jnp.exp(-s) / jnp.where(s > 0, s, 1.0)
    return _matern52_d2(primals[0]), jnp.where(s > 0, slope, 0.0) * tangents[0]


def rbf_of_r2(r2: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The squared exponential as a function of the squared scaled distance."""
    return jnp.exp(-0.5 * r2)


def _rbf_d1(r2):
    return -0.5 * jnp.exp(-0.5 * r2)


def _rbf_d2(r2):
    return 0.25 * jnp.exp(-0.5 * r2)


MATERN52 = (matern52_of_r2, _matern52_d1, _matern52_d2)
"""Matern-5/2 and its first two derivatives, as functions of r^2."""
RBF = (rbf_of_r2, _rbf_d1, _rbf_d2)
"""The squared exponential and its first two derivatives, as functions of r^2."""


def lengthscale_mode(num_dims: Any, prior: KernelPrior = DEFAULT_PRIOR) -> Any:
    """Mode of the prior of each lengthscale, as a logarithm."""
    return _log_lengthscale_loc(num_dims, prior) - prior.lengthscale_std**2


def log_lengthscale_prior(
    log_lengthscale: Float[Array, "d"], num_dims: Any, prior: KernelPrior = DEFAULT_PRIOR, live: Any = True
) -> Float[Array, ""]:
    """Log density of the lengthscales themselves, not of their logarithms, hence the last term; of `live` columns."""
    z = (log_lengthscale - _log_lengthscale_loc(num_dims, prior)) / prior.lengthscale_std
    return -jnp.sum(jnp.where(live, 0.5 * z**2 + log_lengthscale, 0.0))


def _log_lengthscale_loc(num_dims, prior):
    if isinstance(num_dims, int):
        return prior.lengthscale_loc + 0.5 * math.log(max(1, num_dims))
    return prior.lengthscale_loc + 0.5 * jnp.log(num_dims.astype(jnp.result_type(float)))


def _stationary(
    name: str,
    profile: tuple[Callable, ...],
    given_dims: tuple[int, ...] | None,
    prior: KernelPrior,
    *,
    degrees: int,
    inputs: Inputs | PaddedInputs | None = None,
) -> Kernel:
    for setting in ("lengthscale_std", "outputscale_std"):
        if not holds(getattr(prior, setting) > 0):
            raise ValueError(f"`prior.{setting}` must be positive, got {getattr(prior, setting)}.")
    padded = inputs if isinstance(inputs, PaddedInputs) else None
    categorical_dims = inputs.categorical_dims if isinstance(inputs, Inputs) else tuple(sorted(given_dims or ()))
    matrix = exact_matrix(profile[0], categorical_dims) if padded is None else padded_matrix(profile[0], padded)
    live = True if padded is None else padded.live

    def dims_of(num_dims):
        return num_dims if padded is None else padded.num_live

    def init(num_dims, dtype):
        mode = lengthscale_mode(dims_of(num_dims), prior)
        return KernelParams(jnp.full(num_dims, mode, dtype), jnp.zeros((), dtype))

    def diagonal(params, X):
        return jnp.broadcast_to(jnp.exp(params.log_outputscale), X.shape[:1])

    def log_prior(params):
        z_scale = params.log_outputscale / prior.outputscale_std
        log_l = params.log_lengthscale
        return log_lengthscale_prior(log_l, dims_of(log_l.shape[-1]), prior, live) - 0.5 * z_scale**2

    def bounds(params):
        low, high = (
            KernelParams(
                jnp.full_like(params.log_lengthscale, math.log(lengthscale)),
                jnp.full_like(params.log_outputscale, math.log(outputscale)),
            )
            for lengthscale, outputscale in zip(LENGTHSCALE_BOUNDS, OUTPUTSCALE_BOUNDS, strict=True)
        )
        return low, high

    def to_gpjax(params):
        from bojax.surrogates.parts._gpjax_kernels import stationary_to_gpjax

        return stationary_to_gpjax(name, categorical_dims, params)

    def derivatives(params, A, B):
        return derivative_matrix(profile, params, A, B, categorical_dims)

    def bind(inputs):
        if given_dims is not None:
            return kernel
        return _stationary(name, profile, None, prior, degrees=degrees, inputs=inputs)

    parts = (to_gpjax, stationary_features(degrees, categorical_dims), derivatives)
    parts = parts if padded is None else (None, None, None)
    kernel = Kernel(init, matrix, diagonal, log_prior, bounds, *parts, bind)
    return accept_padding(kernel) if given_dims is None else kernel


class LinearRows(NamedTuple):
    """Values and directional derivatives of the objective: row i is value_i f(x_i) + direction_i . f'(x_i).

    Attributes:
        X: [n, d] points in the unit cube.
        value: [n] factor of the value.
        direction: [n, d] factors of the derivatives, 0 along categorical columns.
    """

    X: Float[Array, "n d"]
    value: Float[Array, "n"]
    direction: Float[Array, "n d"]


def derivative_matrix(
    profile: tuple[Callable, ...], params: KernelParams, A: LinearRows, B: LinearRows, categorical_dims: tuple[int, ...]
) -> Float[Array, "n m"]:
    """Covariances of values and directional derivatives under k(r^2), by a few matrix products.

    With z = (x_A - x_B) / lengthscale and directions v, w in the same units, the derivatives of k(|z|^2) are

        d/dv: 2 k' z.v      d/dw: -2 k' z.w      d/dv d/dw: -4 k'' (z.v)(z.w) - 2 k' v.w
    """
    of_r2, d1, d2 = profile
    inverse = jnp.exp(-params.log_lengthscale)
    numeric = np.setdiff1d(np.arange(A.X.shape[-1]), categorical_dims)
    scale = inverse[None, numeric]
    (X, V), (Z, W) = (((J.X[:, numeric] - 0.5) * scale, J.direction[:, numeric] * scale) for J in (A, B))
    r2 = squared_distance(X, Z)
    zv = jnp.sum(X * V, axis=-1)[:, None] - matmul(V, Z.T)
    zw = matmul(X, W.T) - jnp.sum(Z * W, axis=-1)[None, :]
    a, b = A.value[:, None], B.value[None, :]
    slope = d1(r2)
    K = a * b * of_r2(r2) + 2.0 * slope * (b * zv - a * zw - matmul(V, W.T)) - 4.0 * d2(r2) * zv * zw
    if categorical_dims:
        dims = np.asarray(categorical_dims)
        K = K * categorical_factor(inverse[dims], A.X, B.X, dims)
    return jnp.exp(params.log_outputscale) * K

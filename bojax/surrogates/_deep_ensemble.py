"""An ensemble of neural networks, trained as one program.

Each of M small networks has its own random initialization, its own fixed random prior function that is added to it,
and its own noise on the targets. The networks therefore agree near the data and differ away from them (Osband,
Aslanides, Cassirer 2018, arXiv:1806.03335; Lakshminarayanan, Pritzel, Blundell 2017, arXiv:1612.01474). Acquisitions
use them as one Gaussian distribution: with f_1 ... f_M the networks and mu their mean,

    f(x) = mu(x) + sum_m w_m (f_m(x) - mu(x)) / sqrt(M - 1) + g(x),   w ~ N(0, I),

a linear model whose features are the deviations, plus a Gaussian process g of small variance for functions that M
networks cannot express. Joint distributions, samples and further observations are exact and cheap.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._linalg import matmul
from bojax._runtime import PRNG_IMPL
from bojax._types import Array, Float
from bojax.surrogates._base import FitInfo, Surrogate
from bojax.surrogates._inputs import Inputs
from bojax.surrogates.outputs._standardize import standardize
from bojax.surrogates.parts._kernels import rbf_of_r2, squared_distance
from bojax.surrogates.posteriors._posterior import from_law

REST_VAR = 1e-3
"""Variance of g, in standardized units."""
REST_LENGTHSCALE = 0.2
"""Lengthscale of g in one dimension; it grows with the square root of the number of dimensions."""
MIN_NOISE = 1e-4
"""Smallest noise variance, in standardized units."""


class EnsembleParams(NamedTuple):
    """Weights of the members, stacked along a leading axis.

    Attributes:
        weights: trained weights.
        prior: weights of the fixed random functions.
        log_noise_var: logarithm of the residual variance, standardized.
    """

    weights: Any
    prior: Any
    log_noise_var: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EnsembleLaw:
    """The ensemble as a Gaussian distribution, for standardized y. It implements `Law`.

    Attributes:
        params: weights and noise.
        apply: `apply(weights, prior, X) -> [M, k]` (static).
        features: `features(X) -> [k, f]`, the inputs of the networks (static).
    """

    params: EnsembleParams
    apply: Any = dataclasses.field(metadata={"static": True})
    features: Any = dataclasses.field(metadata={"static": True})

    @property
    def noise_var(self) -> Float[Array, ""]:
        """Variance of the noise of one observation."""
        return jnp.exp(self.params.log_noise_var)

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        return self._members(X)[0]

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return jnp.sum(self._members(X)[1] ** 2, axis=0) + REST_VAR

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance between two sets of points."""
        lengthscale = REST_LENGTHSCALE * math.sqrt(12.0 * X.shape[-1])
        A, B = self.features(X) / lengthscale, self.features(Z) / lengthscale
        rest = REST_VAR * rbf_of_r2(squared_distance(A, B))
        return matmul(self._members(X)[1].T, self._members(Z)[1]) + rest

    def _members(self, X):
        f = self.apply(self.params.weights, self.params.prior, X)
        mean = jnp.mean(f, axis=0)
        return mean, (f - mean[None, :]) / math.sqrt(f.shape[0] - 1)


def deep_ensemble(
    num_members: int = 8,
    *,
    widths: tuple[int, ...] = (64, 64),
    num_steps: int = 500,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-4,
    prior_scale: float = 1.0,
) -> Surrogate:
    """Ensemble of neural networks, for many observations or objectives that are not smooth.

    With fewer than about 100 observations of a smooth objective, prefer `gp()`.

    Args:
        num_members: number of networks, >= 2, 8 by default. Cost and quality of the uncertainty grow with it.
        widths: hidden units of each layer, >= 1, at least one layer; two layers of 64 by default.
        num_steps: steps of Adam on all observations, >= 1, 500 by default.
        learning_rate: learning rate of the first step, > 0, 0.01 by default. It decays to a hundredth on a cosine.
        weight_decay: weight decay of AdamW, >= 0, 1e-4 by default.
        prior_scale: scale of the fixed random functions, >= 0, 1 by default. Larger values give more uncertainty away
            from the data.

    Returns:
        A `Surrogate`. A fit continues from the weights it is given; its key makes the noise on the targets. On spaces
        with categories the networks get these one-hot.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> surrogate = deep_ensemble(4, widths=(16,))
        >>> params = jax.eval_shape(lambda: surrogate.init(2, jnp.float32))  # shapes only
        >>> params.weights["params"]["layers_0"]["kernel"].shape  # 4 networks, 2 inputs, 16 units
        (4, 2, 16)

    Source: Osband, Aslanides, Cassirer (2018), arXiv:1806.03335; Lakshminarayanan, Pritzel, Blundell (2017),
    arXiv:1612.01474.
    """
    if num_members < 2 or num_steps < 1 or not widths or min(widths) < 1:
        raise ValueError(
            "`num_members` must be at least 2, `num_steps` and `widths` at least 1, "
            f"got {num_members}, {num_steps} and {widths}."
        )
    if not learning_rate > 0 or not weight_decay >= 0 or not prior_scale >= 0:
        raise ValueError(
            "`learning_rate` must be positive, `weight_decay` and `prior_scale` not negative, "
            f"got {learning_rate}, {weight_decay} and {prior_scale}."
        )
    network, optimizer = _build(widths, num_steps, learning_rate, weight_decay)
    return _ensemble(network, optimizer, None, num_members, num_steps, prior_scale)


def _ensemble(network, optimizer, inputs: Inputs | None, num_members: int, num_steps: int, prior_scale: float):
    """The surrogate, with categories one-hot if `inputs` are given."""

    def features(X):
        return network_inputs(X, inputs)

    def one(weights, prior, X):
        seen = features(X)
        trained, fixed = (jnp.asarray(network.apply(w, seen)) for w in (weights, prior))
        return trained[:, 0] + prior_scale * fixed[:, 0]

    apply = jax.vmap(one, (0, 0, None))

    def init(num_dims, dtype):
        keys = jax.random.split(jax.random.key(0, impl=PRNG_IMPL), 2 * num_members)
        weights = jax.vmap(lambda key: network.init(key, features(jnp.zeros((1, num_dims), dtype))))(keys)
        weights = jax.tree.map(lambda leaf: leaf.astype(dtype), weights)
        first, second = (jax.tree.map(lambda leaf, part=part: leaf[part::2], weights) for part in (0, 1))
        return EnsembleParams(first, second, jnp.asarray(math.log(0.01), dtype))

    def fit(key, observations, params):
        y, _ = standardize(observations.y, observations.mask)
        mask, dtype = observations.mask.astype(y.dtype), y.dtype
        count = jnp.maximum(jnp.sum(mask), 1.0)
        # The noise on the targets has the variance of the residual, as if each member had its own observations.
        noise = jnp.exp(0.5 * params.log_noise_var) * jax.random.normal(key, (num_members, y.shape[0]), dtype)
        targets = (y[None, :] + noise) * mask[None, :]

        def losses(weights):
            f = apply(weights, params.prior, observations.X)
            return jnp.sum(mask[None, :] * (f - targets) ** 2, axis=1) / count

        def step(carry, _):
            weights, state = carry
            gradient = jax.grad(lambda w: jnp.sum(losses(w)))(weights)
            updates, state = optimizer.update(gradient, state, weights)
            return (jax.tree.map(jnp.add, weights, updates), state), None

        (weights, _), _ = jax.lax.scan(step, (params.weights, optimizer.init(params.weights)), length=num_steps)
        final = losses(weights)
        ok = jnp.all(jnp.isfinite(final))
        weights = jax.tree.map(lambda new, old: jnp.where(ok, new, old), weights, params.weights)
        mean = jnp.mean(apply(weights, params.prior, observations.X), axis=0)
        left = jnp.sum(mask * (mean - y) ** 2) / count
        fitted = EnsembleParams(weights, params.prior, jnp.log(jnp.maximum(left, MIN_NOISE)).astype(dtype))
        return fitted, FitInfo(jnp.mean(final), final, jnp.int32(num_steps), ok)

    def posterior(params, observations, num_spare=0):
        _, scale = standardize(observations.y, observations.mask)
        return from_law(EnsembleLaw(params, apply, features), scale, observations.X.shape[1], num_spare)

    def bind(inputs):
        return _ensemble(network, optimizer, inputs, num_members, num_steps, prior_scale)

    return Surrogate(init=init, fit=jax.jit(fit), posterior=jax.jit(posterior, static_argnums=2), bind=bind)


def network_inputs(X: Float[Array, "k d"], inputs: Inputs | None) -> Float[Array, "k f"]:
    """Numeric columns scaled to mean 0 and variance 1 over the cube, and categorical columns one-hot.

    Two different categories are as far apart as two numbers are on average.
    """
    if inputs is None:
        return math.sqrt(12.0) * (X - 0.5)
    numeric = np.setdiff1d(np.arange(X.shape[-1]), inputs.categorical_dims)
    parts = [math.sqrt(12.0) * (X[:, numeric] - 0.5)]
    for column in inputs.categorical_dims:
        k = inputs.num_values[column]
        category = jnp.clip(jnp.floor(X[:, column] * k), 0, k - 1)
        parts.append((category[:, None] == jnp.arange(k, dtype=X.dtype)[None, :]).astype(X.dtype))
    return jnp.concatenate(parts, axis=1)


def _build(widths, num_steps, learning_rate, weight_decay):
    """The network and its optimizer. Flax and optax are imported here because that takes half a second."""
    import optax
    from flax import linen

    layers: list[Any] = []
    for width in widths:
        layers += [linen.Dense(width, param_dtype=jnp.float32, dtype=None), linen.swish]
    network = linen.Sequential([*layers, linen.Dense(1, dtype=None)])
    schedule = optax.cosine_decay_schedule(learning_rate, num_steps, alpha=0.01)
    return network, optax.adamw(schedule, weight_decay=weight_decay)

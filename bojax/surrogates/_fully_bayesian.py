"""The fully Bayesian Gaussian process: hyperparameters are sampled, not fitted.

A Markov chain (`_nuts`) draws hyperparameters from p(theta | y), proportional to p(y | theta) p(theta), and the
Gaussian processes of some of its states are averaged (`_mixture`). theta are the unconstrained hyperparameters
(logarithms), and the priors are densities of theta: log lengthscales of the default kernel are normal around the mode
of the prior of `gp`. As densities of the lengthscales themselves, their median would be 20 times higher, and the regret
too (`benchmarks/results/surrogates.md`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._types import Array, Bool, Float, Int
from bojax.surrogates._base import Surrogate
from bojax.surrogates._gp import bound_model, bounds, gp, gp_model, initial_params, log_posterior
from bojax.surrogates._map_ensemble import first_member, mixture, repeated
from bojax.surrogates._nuts import nuts
from bojax.surrogates.parts._noise import Noise
from bojax.surrogates.parts._saas import saas_kernel

WALL = 0.1
"""Beyond its bounds a hyperparameter has a normal density of this width, in logarithms, and is clipped to the bound."""


class SamplerInfo(NamedTuple):
    """Diagnostics of a sampled fit; the first four fields are those of `FitInfo`.

    Attributes:
        loss: negative log posterior density at the mode the chain starts from.
        losses: [r] the same for every start of the search for the mode.
        num_evals: evaluations of the loss or its gradient.
        ok: whether the loss is finite. If it is not, `fit` returns the hyperparameters it was given.
        num_divergent: number of divergent transitions after the warm-up. If half of all diverge, or if a draw is not
            finite, the mode replaces the draw.
        accept: mean acceptance probability; the warm-up aims at 0.8.
    """

    loss: Float[Array, ""]
    losses: Float[Array, "r"]
    num_evals: Int[Array, ""]
    ok: Bool[Array, ""]
    num_divergent: Int[Array, ""]
    accept: Float[Array, ""]


def fully_bayesian_gp(
    kernel=None,
    mean=None,
    noise: Noise | None = None,
    *,
    num_warmup: int = 128,
    num_samples: int = 128,
    thinning: int = 16,
    max_depth: int = 6,
    num_restarts: int = 2,
    max_evals: int = 100,
) -> Surrogate:
    """Gaussian process averaged over Markov chain samples of its hyperparameters.

    Args:
        kernel: a `Kernel` (by default Matern-5/2 with one lengthscale per dimension) or any GPJax kernel.
        mean: a `Mean` (by default a learned constant) or any GPJax mean function.
        noise: `learned_noise()` (default), `known_noise(variance)` or `fixed_noise(variance)`.
        num_warmup: number of transitions that adapt the sampler and are discarded, >= 1, 128 by default.
        num_samples: number of transitions after the warm-up, a multiple of `thinning`, 128 by default.
        thinning: every `thinning`-th transition is kept, 16 by default. num_samples / thinning Gaussian processes are
            averaged. Prefer a power of two: it must divide the number of samples of batch acquisitions.
        max_depth: a transition takes at most 2^max_depth - 1 steps; between 1 and 10, 6 by default.
        num_restarts: number of starts of the search for the mode, where the chain begins, >= 1, 2 by default.
        max_evals: largest number of evaluations of that search, >= 1, 100 by default.

    Returns:
        A `Surrogate` whose posterior is a `MixturePosterior` and whose fit gives a `SamplerInfo`; hyperparameters have
        a leading axis of length num_samples / thinning.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> surrogate = fully_bayesian_gp(num_warmup=64, num_samples=64)
        >>> surrogate.init(2, jnp.float32).kernel.log_lengthscale.shape  # 64 / 16 members, 2 dimensions
        (4, 2)

    Source: Snoek, Larochelle, Adams (2012), arXiv:1206.2944, for averaging over hyperparameters.
    """
    for name, value in (("num_warmup", num_warmup), ("num_samples", num_samples), ("thinning", thinning)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    if num_samples % thinning:
        raise ValueError(f"`num_samples` must be a multiple of `thinning` = {thinning}, got {num_samples}.")
    if not 1 <= max_depth <= 10:
        raise ValueError(f"`max_depth` must be between 1 and 10, got {max_depth}.")
    model = gp_model(kernel, mean, noise)
    single = gp(*model, num_restarts=num_restarts, max_evals=max_evals)
    chain = {"num_warmup": num_warmup, "num_samples": num_samples, "thinning": thinning, "max_depth": max_depth}

    def init(num_dims, dtype):
        return repeated(initial_params(model, num_dims, dtype), num_samples // thinning)

    def fit(key, observations, params):
        key_fit, key_chain = jax.random.split(key)
        mode, info = single.fit(key_fit, observations, first_member(params))
        flat, unravel = ravel_pytree(mode)
        if flat.size == 0:  # everything is fixed
            fixed = (info.loss, info.losses, info.num_evals, info.ok)
            return params, SamplerInfo(*fixed, num_divergent=jnp.int32(0), accept=jnp.ones_like(info.loss))
        lower, upper = (ravel_pytree(bound)[0] for bound in bounds(model, mode))

        def log_density(theta):
            inside = jnp.clip(theta, lower, upper)
            return log_posterior(model, unravel(inside), observations) - 0.5 * jnp.sum(((theta - inside) / WALL) ** 2)

        result = nuts(key_chain, log_density, flat, **chain)
        usable = jnp.all(jnp.isfinite(result.samples), axis=1, keepdims=True)
        usable = usable & info.ok & (2 * result.num_divergent < num_samples)
        members = jnp.where(usable, jnp.clip(result.samples, lower[None, :], upper[None, :]), flat[None, :])
        num_evals = info.num_evals + result.num_evals
        accept = jnp.where(jnp.isfinite(result.accept), result.accept, 0.0)
        return jax.vmap(unravel)(members), SamplerInfo(
            info.loss, info.losses, num_evals, info.ok, result.num_divergent, accept
        )

    def posterior(params, observations, num_spare=0):
        return mixture(model, params, observations, num_spare)

    def bind(inputs):
        sizes = {**chain, "num_restarts": num_restarts, "max_evals": max_evals}
        return fully_bayesian_gp(*bound_model(model, inputs), **sizes)

    return Surrogate(init=init, fit=jax.jit(fit), posterior=jax.jit(posterior, static_argnums=2), bind=bind)


def saas(
    *, categorical_dims: tuple[int, ...] | None = None, num_warmup: int = 128, num_samples: int = 128
) -> Surrogate:
    """Fully Bayesian Gaussian process with a sparse axis-aligned prior, for many inputs of which few matter.

    The covariance is Matern-5/2 of r^2 = sum_i rho_i (x_i - z_i)^2 with tau ~ half-Cauchy(0.1) and
    rho_i ~ half-Cauchy(tau), averaged over Markov chain samples of the hyperparameters.

    Args:
        categorical_dims: columns that hold categories, compared by equality. By default an algorithm fills in those of
            its space.
        num_warmup: number of transitions of the sampler that are discarded, >= 1, 128 by default.
        num_samples: number of transitions after the warm-up, a multiple of 16, 128 by default. Every sixteenth gives
            one of the Gaussian processes that are averaged.

    Returns:
        A `Surrogate` whose posterior is a `MixturePosterior` and whose fit gives a `SamplerInfo`.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> surrogate = saas(num_warmup=64, num_samples=64)
        >>> surrogate.init(20, jnp.float32).kernel.log_ratio.shape  # 64 / 16 members, 20 dimensions
        (4, 20)

    Source: Eriksson and Jankowiak (2021), arXiv:2103.00349.
    """
    kernel = saas_kernel(categorical_dims=categorical_dims)
    return fully_bayesian_gp(kernel, num_warmup=num_warmup, num_samples=num_samples)

"""Gaussian processes averaged over hyperparameters, at about twice the cost of one.

The posterior of the hyperparameters theta (logarithms) is approximated by a normal distribution around its mode, which
the fit finds:

    theta_i = mode + spread L^-T z_i,    L L^T = H + ridge I

with H the second derivative of the loss (from differences of its gradient, 2 p of them for p hyperparameters) and z_i
quasi-random normal points. The mode itself is the first member. Their Gaussian processes are averaged (`_mixture`).

At 20 points this predicts as well as a long Markov chain and much better than the mode alone. A spread above 1
compensates for the thin tails of the normal approximation (`benchmarks/results/surrogates.md`).
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._bfgs import each_lane
from bojax._linalg import matmul, stable_factor
from bojax._qmc import sobol_normal
from bojax._types import Array, Float, Key
from bojax.surrogates._base import Surrogate
from bojax.surrogates._gp import bound_model, bounds, condition, gp, gp_model, initial_params, log_posterior
from bojax.surrogates.parts._noise import Noise
from bojax.surrogates.posteriors._mixture import MixturePosterior

NUM_MEMBERS = 8
SPREAD = 1.5
STEP = 0.1
"""Step of the differences, in logarithms: large enough for float32; 0.001 gives the same members."""
RIDGE = 0.1
"""Added to the second derivative: no direction is wider than the square root of its inverse."""
LARGEST_MOVE = 5.0
"""Largest distance of a member from the mode, in logarithms, for losses with a saddle."""


def map_ensemble(
    kernel=None,
    mean=None,
    noise: Noise | None = None,
    *,
    num_members: int = NUM_MEMBERS,
    spread: float = SPREAD,
    num_restarts: int = 2,
    max_evals: int = 100,
) -> Surrogate:
    """Mixture of Gaussian processes around the most probable hyperparameters.

    Member i has hyperparameters theta_i = mode + spread L^-T z_i, where L L^T is the second derivative of the negative
    log posterior density plus a ridge, and z_i is standard normal. The mixture accounts for the uncertainty of the
    hyperparameters, which matters most with few observations.

    Args:
        kernel: a `Kernel` (by default Matern-5/2 with one lengthscale per dimension) or any GPJax kernel.
        mean: a `Mean` (by default a learned constant) or any GPJax mean function.
        noise: `learned_noise()` (default), `known_noise(variance)` or `fixed_noise(variance)`.
        num_members: number M of Gaussian processes, >= 1, 8 by default. Prefer a power of two: it must divide the
            number of samples of batch acquisitions.
        spread: distance of the members from the mode, in standard deviations of the normal approximation, >= 0. The
            default is 1.5; 0 gives equal members.
        num_restarts: number of starts of the fit, >= 1, 2 by default.
        max_evals: largest number of evaluations in one fit, >= 1, 100 by default. The second derivative takes 2 p more
            for p hyperparameters.

    Returns:
        A `Surrogate` whose posterior is a `MixturePosterior` and whose hyperparameters have a leading axis of length
        `num_members`; the first row is the mode.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> surrogate = map_ensemble(num_members=4)
        >>> surrogate.init(2, jnp.float32).kernel.log_lengthscale.shape  # 4 members, 2 dimensions
        (4, 2)
    """
    if num_members < 1:
        raise ValueError(f"`num_members` must be at least 1, got {num_members}.")
    if not 0.0 <= spread < float("inf"):
        raise ValueError(f"`spread` must be finite and not negative, got {spread}.")
    model = gp_model(kernel, mean, noise)
    single = gp(*model, num_restarts=num_restarts, max_evals=max_evals)

    def init(num_dims, dtype):
        return repeated(initial_params(model, num_dims, dtype), num_members)

    def fit(key, observations, params):
        key_fit, key_moves = jax.random.split(key)
        mode, info = single.fit(key_fit, observations, first_member(params))
        flat, unravel = ravel_pytree(mode)
        if flat.size == 0:  # everything is fixed
            return params, info

        def loss(theta):
            return -log_posterior(model, unravel(theta), observations)

        lower, upper = (ravel_pytree(bound)[0] for bound in bounds(model, mode))
        moves = spread * laplace_moves(key_moves, loss, flat, num_members)
        members = jnp.clip(flat[None, :] + moves.at[0].set(0.0), lower[None, :], upper[None, :])
        fitted = jax.vmap(unravel)(jnp.where(info.ok, members, flat[None, :]))
        return fitted, info._replace(num_evals=info.num_evals + jnp.int32(2 * flat.size))

    def posterior(params, observations, num_spare=0):
        return mixture(model, params, observations, num_spare)

    def bind(inputs):
        sizes = {"num_members": num_members, "spread": spread, "num_restarts": num_restarts, "max_evals": max_evals}
        return map_ensemble(*bound_model(model, inputs), **sizes)

    return Surrogate(init=init, fit=jax.jit(fit), posterior=jax.jit(posterior, static_argnums=2), bind=bind)


def repeated(params, num_members: int):
    """The same hyperparameters for every member."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_members, *leaf.shape)), params)


def first_member(params):
    """The hyperparameters of the first member."""
    return jax.tree.map(lambda leaf: leaf[0], params)


def mixture(model, params, observations, num_spare: int) -> MixturePosterior:
    """The posterior of all members."""
    return MixturePosterior(jax.vmap(lambda member: condition(model, member, observations, num_spare))(params))


def laplace_moves(key: Key, loss, mode: Float[Array, "p"], num_draws: int) -> Float[Array, "m p"]:
    """Draws of the normal distribution whose precision is the second derivative of `loss` at `mode`, minus the mode.

    Args:
        key: random key.
        loss: maps [p] to a scalar.
        mode: [p] minimum of `loss`.
        num_draws: number of quasi-random draws.
    """
    steps = STEP * jnp.eye(mode.size, dtype=mode.dtype)
    points = mode[None, :] + jnp.concatenate([steps, -steps])
    gradients = each_lane(jax.value_and_grad(loss))(points, jnp.ones(points.shape[0], bool))[1]
    H = (gradients[: mode.size] - gradients[mode.size :]) / (2.0 * STEP)
    eye = jnp.eye(mode.size, dtype=mode.dtype)
    H = jnp.where(jnp.all(jnp.isfinite(H)), 0.5 * (H + H.T), eye) + RIDGE * eye
    # Where H is not positive definite, the factorization adds about the precision of a prior.
    _, L_inv, ok = stable_factor(H, first_jitter=RIDGE, max_tries=8)
    L_inv = jnp.where(ok, L_inv, eye)
    moves = matmul(sobol_normal(key, num_draws, mode.size, mode.dtype), L_inv)
    return jnp.clip(moves, -LARGEST_MOVE, LARGEST_MOVE)

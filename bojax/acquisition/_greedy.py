"""Batches over sampled objectives, with the newest point integrated in closed form.

Pending and chosen points (for noisy objectives the observed ones too) have fixed values in s sampled objectives, the
`Fantasies`. In sample i the incumbent is b_i, and the objective at a new point x is normal with mean mu_i(x) and
variance var_i(x), so its expected gain has the closed form of one point. With z_i = (mu_i - b_i) / sigma_i and
h(z) = phi(z) + z Phi(z):

    batch_log_ei, batch_log_nei    log mean_i sigma_i h(z_i)          the expected improvement that x adds
    batch_log_pi                   log mean_i [b_i <= best_f] Phi(z_i)    the probability that x is the first to improve

If the noise of evaluations is reported, `batch_log_ei` multiplies the gain by 1 - sqrt(noise / (var_i + noise)). A
further noisy value adds little where the mean is nearly known, and expected improvement alone keeps evaluating around
the incumbent (Huang, Allen, Notz, Zeng 2006). Figures: `benchmarks/results/acquisition.md`.

The joint expected improvement of q points is the sum of the gains of adding them in turn. The joint value therefore has
the same form, and a gradient search can refine all q points together.

Only chosen points are sampled, never the point being optimized. The first point of a batch without pending points or
noise has no sampling error, and later points have far less than in the plain Monte Carlo estimate. Maximizing the gain
one point at a time is greedy maximization of the joint expected improvement, within 1 - 1/e of the optimum (Wilson,
Hutter, Deisenroth 2018, arXiv:1805.10196). Improvement averaged over fantasies of the pending points: Snoek,
Larochelle, Adams (2012), arXiv:1206.2944. Noisy incumbents: Letham et al. (2019), arXiv:1706.07094. Logarithms: Ament
et al. (2023), arXiv:2310.20708.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax import _numerics
from bojax._linalg import factor_scaled, matmul
from bojax._qmc import sobol_normal
from bojax._types import Array, Float, Int
from bojax.acquisition._batch import BatchAcquisition, Context

NUM_SAMPLES = 64
"""Sampled objectives."""
NUM_BASELINE = 16
"""Observed points that may be the incumbent of a noisy objective."""


class GreedyState(NamedTuple):
    """Sampled objectives with fixed values at the pending and chosen points.

    Attributes:
        fantasies: the samples (`Fantasies`).
        best: [s] the incumbent of every sample.
        first: [s] the incumbent before any point was pending or chosen.
        base: [s, q] standard normal numbers for the points still to be chosen.
        num_chosen: how many of them are used.
        noise_var: noise variance of an evaluation; 0 if it is exact or unknown.
    """

    fantasies: Any
    best: Float[Array, "s"]
    first: Float[Array, "s"]
    base: Float[Array, "s q"]
    num_chosen: Int[Array, ""]
    noise_var: Float[Array, ""] | float = 0.0


def batch_log_ei(*, num_samples: int = NUM_SAMPLES, joint: bool = True) -> BatchAcquisition:
    """Joint log expected improvement of a batch, for objectives with little or no noise.

    A point is worth log mean_i sigma_i h((mu_i - b_i) / sigma_i) over s sampled objectives, where b_i is the larger of
    the incumbent and the values of sample i at the pending and chosen points. For q = 1 without pending points this is
    `log_ei`, without sampling error.

    Args:
        num_samples: number s of sampled objectives, >= 1, default 64. More samples choose the second and later points
            of a batch more accurately, at proportional cost. With a mixture it must be a multiple of its members.
        joint: whether the points of a batch, chosen one after another, are then moved together along the gradient of
            their joint improvement.

    Returns:
        A `BatchAcquisition` with `joint`.

    Raises:
        ValueError: `num_samples` is below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax.acquisition import Context
        >>> from bojax.testing import MockPosterior
        >>> acquisition, posterior = batch_log_ei(num_samples=4), MockPosterior(lambda X: X[:, 0])  # variance 1
        >>> X, none = jnp.array([[0.0], [0.5]]), jnp.zeros((0, 1))
        >>> context = Context(jnp.array(0.5), X, jnp.ones(2, bool), none, jnp.zeros(0, bool))
        >>> values = jax.jit(lambda key: acquisition.value(acquisition.begin(key, posterior, context, 1), X))
        >>> [round(value, 2) for value in values(jax.random.key(0)).tolist()]
        [-1.62, -0.92]

    Source: Ament et al. (2023), arXiv:2310.20708; Wilson, Hutter, Deisenroth (2018), arXiv:1805.10196.
    """
    _check_samples(num_samples)

    def begin(key, posterior, context, q):
        return _begin(key, posterior, context, q, num_samples, 0)

    return BatchAcquisition(begin, _log_improvement, _add, _joint_log_improvement if joint else None, padded=True)


def batch_log_nei(
    *, num_samples: int = NUM_SAMPLES, num_baseline: int = NUM_BASELINE, joint: bool = True
) -> BatchAcquisition:
    """Joint log noisy expected improvement of a batch, for noisy objectives.

    With noise it is uncertain which observed point is best. The incumbent b_i of sample i is the largest value of that
    sample at the baseline points, so the expectation includes this uncertainty.

    Args:
        num_samples: number of sampled objectives, >= 1, default 64. The error falls and the cost rises with it. With a
            mixture it must be a multiple of its members.
        num_baseline: number of observed points that may be the incumbent, >= 1, default 16: those with the largest
            mean plus two standard deviations. Raise it if the noise is as large as the objective's range.
        joint: whether the points of a batch, chosen one after another, are then moved together along the gradient of
            their joint improvement.

    Returns:
        A `BatchAcquisition` with `joint`.

    Raises:
        ValueError: `num_samples` or `num_baseline` is below 1.

    Example:
        >>> acquisition = batch_log_nei(num_samples=32)
        >>> acquisition.in_logs, acquisition.noisy
        (True, True)

    Source: Letham, Karrer, Ottoni, Bakshy (2019), arXiv:1706.07094; Ament et al. (2023), arXiv:2310.20708.
    """
    _check_samples(num_samples)
    if num_baseline < 1:
        raise ValueError(f"`num_baseline` must be at least 1, got {num_baseline}.")

    def begin(key, posterior, context, q):
        return _begin(key, posterior, context, q, num_samples, num_baseline)

    joined = _joint_log_improvement if joint else None
    return BatchAcquisition(begin, _log_improvement, _add, joined, noisy=True, padded=True)


def batch_log_pi(*, num_samples: int = NUM_SAMPLES) -> BatchAcquisition:
    """Log probability that a point improves on the incumbent and no point before it does.

    A point is worth log mean_i [b_i <= best_f] Phi((mu_i - best_f) / sigma_i) over s sampled objectives, where b_i is
    the largest value of sample i at the pending and chosen points. For q = 1 without pending points this is `log_pi`.

    Args:
        num_samples: number s of sampled objectives, >= 1, default 64. With a mixture it must be a multiple of its
            members.

    Returns:
        A `BatchAcquisition` without `joint`.

    Raises:
        ValueError: `num_samples` is below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax.acquisition import Context
        >>> from bojax.testing import MockPosterior
        >>> acquisition, posterior = batch_log_pi(num_samples=4), MockPosterior(lambda X: X[:, 0])  # variance 1
        >>> X, none = jnp.array([[0.0], [0.5]]), jnp.zeros((0, 1))
        >>> context = Context(jnp.array(0.5), X, jnp.ones(2, bool), none, jnp.zeros(0, bool))
        >>> values = jax.jit(lambda key: acquisition.value(acquisition.begin(key, posterior, context, 1), X))
        >>> [round(value, 2) for value in values(jax.random.key(0)).tolist()]
        [-1.18, -0.69]

    Source: Kushner (1964); Wilson, Hutter, Deisenroth (2018), arXiv:1805.10196, for greedy batches.
    """
    _check_samples(num_samples)

    def begin(key, posterior, context, q):
        return _begin(key, posterior, context, q, num_samples, 0)

    def value(state, X):
        mean, var = state.fantasies.mean_var(X)
        logs = _numerics.log_ndtr((mean - state.first[:, None]) / jnp.sqrt(var))
        open_samples = (state.best <= state.first)[:, None]
        # If every sample has improved already, the offset keeps the value finite and preserves its slope.
        worst = jnp.where(jnp.any(open_samples), -jnp.inf, -1e3)
        return _log_mean_exp(jnp.where(open_samples, logs, logs + worst))

    return BatchAcquisition(begin, value, _add, padded=True)


def batch_ucb(*, beta: Any = 4.0, num_samples: int = NUM_SAMPLES) -> BatchAcquisition:
    """Upper confidence bound of a batch.

    A batch is worth mean_i max_j mu_j + sqrt(beta pi / 2) |f_ij - mu_j| over s sampled objectives f_i and points j,
    pending points included. For one point the expectation is mu + sqrt(beta) sigma, as in `ucb`.

    Args:
        beta: weight of the variance, >= 0, a number or an array []. The default, 4, adds two standard deviations;
            larger values explore more.
        num_samples: number s of sampled objectives, >= 1, default 64. With a mixture it must be a multiple of its
            members.

    Returns:
        A `BatchAcquisition` without `joint`, with `in_logs` False.

    Raises:
        ValueError: `beta` is negative or `num_samples` is below 1.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> bojax.bayesopt(space, q=4, acquisition=batch_ucb(beta=1.0)).q
        4

    Source: Wilson, Moriconi, Hutter, Deisenroth (2017), arXiv:1712.00424.
    """
    _check_samples(num_samples)
    if not _numerics.holds(beta >= 0):
        raise ValueError(f"`beta` must not be negative, got {beta}.")

    def score(samples, mean):
        return mean[None, :] + jnp.sqrt(0.5 * beta * jnp.pi) * jnp.abs(samples - mean[None, :])

    return _sampled(score, num_samples)


def batch_simple_regret(*, num_samples: int = NUM_SAMPLES) -> BatchAcquisition:
    """Expected largest value in a batch, regardless of the incumbent.

    A batch is worth mean_i max_j f_ij over s sampled objectives f_i and points j, pending points included. It does not
    explore; use it for the last batch of a study.

    Args:
        num_samples: number s of sampled objectives, >= 1, default 64. With a mixture it must be a multiple of its
            members.

    Returns:
        A `BatchAcquisition` without `joint`, with `in_logs` False.

    Raises:
        ValueError: `num_samples` is below 1.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> bojax.bayesopt(space, q=4, acquisition=batch_simple_regret()).q
        4

    Source: Wilson, Moriconi, Hutter, Deisenroth (2017), arXiv:1712.00424.
    """
    _check_samples(num_samples)
    return _sampled(lambda samples, mean: samples, num_samples)


class SampledState(NamedTuple):
    """A `GreedyState` with the posterior, whose mean the upper confidence bound needs."""

    posterior: Any
    greedy: GreedyState


def _sampled(score, num_samples) -> BatchAcquisition:
    def scores(state, X):
        mean, var = state.greedy.fantasies.mean_var(X)
        z = state.greedy.base[:, state.greedy.num_chosen]
        return score(mean + jnp.sqrt(var) * z[:, None], state.posterior.mean(X))

    def begin(key, posterior, context, q):
        greedy = _begin(key, posterior, context, q, num_samples, 0, integrated=False)
        best = jnp.full_like(greedy.best, -jnp.inf)
        p = context.pending_X.shape[0]
        if p:
            fixed = score(greedy.fantasies.values[:, :p], posterior.mean(context.pending_X))
            best = jnp.max(jnp.where(context.pending_mask[None, :], fixed, -jnp.inf), axis=1)
        return SampledState(posterior, greedy._replace(best=best))

    def value(state, X):
        return jnp.mean(jnp.maximum(scores(state, X), state.greedy.best[:, None]), axis=0)

    def add(state, x):
        best = jnp.maximum(state.greedy.best, scores(state, x[None])[:, 0])
        return SampledState(state.posterior, _add(state.greedy, x)._replace(best=best))

    return BatchAcquisition(begin, value, add, in_logs=False)


def _check_samples(num_samples):
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1, got {num_samples}.")


def _begin(key, posterior, context: Context, q, num_samples, num_baseline, integrated=True) -> GreedyState:
    """Fix the samples at the baseline and at the pending points."""
    X, mask = context.pending_X, context.pending_mask
    n = min(num_baseline, context.X.shape[0])
    if n:
        baseline, real = _baseline(posterior, context, n)
        X, mask = jnp.concatenate([baseline, X]), jnp.concatenate([real, mask])
    m, dtype = X.shape[0], context.X.dtype
    if m == 0 and q == 1 and integrated:  # no fixed points: all samples of a member are the same
        num_samples = getattr(posterior, "num_members", 1)
    base = sobol_normal(key, num_samples, m + q, dtype)
    fantasies = posterior.fantasies(X, mask, base[:, :m], q)
    values = fantasies.values
    first = jnp.max(values[:, :n], axis=1) if n else jnp.full(num_samples, 1.0, dtype) * context.best_f
    best = jnp.maximum(first, jnp.max(values, axis=1))
    noise_var = jnp.asarray(0.0 if num_baseline else context.noise_var, dtype)
    return GreedyState(fantasies, best, first, base[:, m:], jnp.int32(0), noise_var)


def _baseline(posterior, context, n):
    """The n observed points most likely to be the best: those with the largest upper bound."""
    mean, var = posterior.mean_var(context.X)
    bound = jnp.where(context.mask, mean + 2.0 * jnp.sqrt(var), -jnp.inf)
    _, rows = jax.lax.top_k(bound, n)
    return context.X[rows], context.mask[rows]


def _log_improvement(state: GreedyState, X: Float[Array, "k d"]) -> Float[Array, "k"]:
    mean, var = state.fantasies.mean_var(X)
    std = jnp.sqrt(var)
    # Take the root of the noise alone: at zero noise the root of noise / variance has no derivative.
    learned = jnp.log1p(-jnp.sqrt(state.noise_var) / jnp.sqrt(var + state.noise_var))
    return _log_mean_exp(_numerics.log_h((mean - state.best[:, None]) / std) + jnp.log(std) + learned)


def _joint_log_improvement(state: GreedyState, X: Float[Array, "b q d"]) -> Float[Array, "b"]:
    """log of the sum of the gains of q points added in turn, each given the samples of those before it."""

    def one(X):
        mean, cov = state.fantasies.joint(X)
        L = jax.vmap(lambda cov: factor_scaled(cov)[0])(cov)
        z = state.base[:, : X.shape[0]]
        members = L.shape[0]
        f = mean + matmul(z.reshape(members, -1, X.shape[0]), jnp.swapaxes(L, -1, -2)).reshape(mean.shape)
        std = jnp.repeat(jnp.diagonal(L, axis1=-2, axis2=-1), mean.shape[0] // members, axis=0)
        before = jnp.concatenate([state.best[:, None], f[:, :-1]], axis=1)
        incumbent = jax.lax.cummax(before, axis=1)
        return jax.nn.logsumexp(_numerics.log_h((f - std * z - incumbent) / std) + jnp.log(std))

    return jax.vmap(one)(X) - jnp.log(jnp.asarray(state.best.shape[0], X.dtype))


def _add(state: GreedyState, x: Float[Array, "d"]) -> GreedyState:
    fantasies = state.fantasies.append(x, state.base[:, state.num_chosen])
    best = jnp.maximum(state.best, jnp.max(fantasies.values, axis=1))
    return state._replace(fantasies=fantasies, best=best, num_chosen=state.num_chosen + jnp.int32(1))


def _log_mean_exp(logs: Float[Array, "s k"]) -> Float[Array, "k"]:
    return jax.nn.logsumexp(logs, axis=0) - jnp.log(jnp.asarray(logs.shape[0], logs.dtype))

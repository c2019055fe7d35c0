"""Monte Carlo acquisition functions of q points, for given base samples.

With f_i(X) = mean(X) + L z_i, L L^T = cov(X), and z_i rows of `base_samples`:

    q_log_ei          log mean_i max_j (f_ij - best_f)+
    q_log_nei         the same with the incumbent of sample i: its largest value at the baseline points
    q_pi              mean_i max_j sigmoid((f_ij - best_f) / tau)
    q_ucb             mean_i max_j mu_j + sqrt(beta pi / 2) |f_ij - mu_j|
    q_simple_regret   mean_i max_j f_ij

For fixed base samples these are smooth functions of X with reparameterized gradients. The logarithmic ones replace
(.)+ and max by approximations with fat tails, so that a sample far below the incumbent still contributes a gradient
(Ament et al. 2023, arXiv:2310.20708):

    relu(x) ~ tau (softplus(x / tau) + 0.1 / (1 + (x / tau)^2)),    max(x) ~ M + tau log sum_j 2 / (1 + (1 + u_j)^2)

with M the largest x_j and u_j = (M - x_j) / tau. Pending points join the batch through `X_pending`. These are the
definitions that other libraries share. Algorithms use the forms in `_greedy.py`, which integrate over the newest point
instead of sampling it. (Wilson, Moriconi, Hutter, Deisenroth 2017, arXiv:1712.00424; Balandat et al. 2020,
arXiv:1910.06403.)
"""

import math

import jax
import jax.numpy as jnp

from bojax._linalg import factor_scaled, matmul
from bojax._numerics import largest
from bojax._types import Array, Bool, Float
from bojax.surrogates import Posterior

TAU_RELU = 1e-6
"""Width of the smooth positive part, in standardized units."""
TAU_MAX = 1e-2
"""Width of the smooth maximum over points, in logarithms."""


def q_log_ei(
    posterior: Posterior,
    X: Float[Array, "q d"],
    best_f: Float[Array, ""] | float,
    *,
    base_samples: Float[Array, "s r"],
    X_pending: Float[Array, "p d"] | None = None,
    tau_relu: float = TAU_RELU,
    tau_max: float = TAU_MAX,
) -> Float[Array, ""]:
    """Log expected improvement of the best of q points over the incumbent.

    With joint samples f_ij of the objective at the points, the value is log mean_i max_j (f_ij - best_f)+, with smooth
    approximations of (.)+ and max that have fat tails.

    Args:
        posterior: standardized posterior of the objective.
        X: [q, d] points of the unit cube; use `vmap` for many batches.
        best_f: [] value of the incumbent, in the units of the posterior.
        base_samples: [s, q + p] standard normal numbers, those of pending points last. The error falls with s.
        X_pending: [p, d] points being evaluated; they count as part of the batch. None by default.
        tau_relu: width of the smooth positive part, > 0, in the units of the posterior. The default, 1e-6, is close to
            the exact function.
        tau_max: width of the smooth maximum, > 0, in logarithms; 1e-2 by default.

    Returns:
        [] the log expected improvement.

    Raises:
        ValueError: `base_samples` does not have q + p columns.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # samples of (f(0), f(0.5)): (1, 0.5) and (0, 1.5)
        >>> round(q_log_ei(posterior, X, jnp.array(0.5), base_samples=z).item(), 2)  # log of the mean of 0.5 and 1
        -0.29

    Source: Ament et al. (2023), arXiv:2310.20708; Balandat et al. (2020), arXiv:1910.06403.
    """
    samples = _samples(posterior, X, base_samples, X_pending)
    return log_improvement(samples, jnp.broadcast_to(best_f, samples.shape[:1]), tau_relu=tau_relu, tau_max=tau_max)


def q_log_nei(
    posterior: Posterior,
    X: Float[Array, "q d"],
    *,
    X_baseline: Float[Array, "m d"],
    mask: Bool[Array, "m"] | None = None,
    base_samples: Float[Array, "s n"],
    X_pending: Float[Array, "p d"] | None = None,
    tau_relu: float = TAU_RELU,
    tau_max: float = TAU_MAX,
) -> Float[Array, ""]:
    """Log noisy expected improvement of q points: the incumbent is the best baseline point in each joint sample.

    With joint samples f_ij at the points and b_i the largest value of sample i at the baseline points, the value is
    log mean_i max_j (f_ij - b_i)+, with smooth approximations of (.)+ and max that have fat tails.

    Args:
        posterior: standardized posterior of the objective.
        X: [q, d] points of the unit cube; use `vmap` for many batches.
        X_baseline: [m, d] points that may be the incumbent, usually the observed ones.
        mask: [m] which baseline points count; all by default.
        base_samples: [s, m + q + p] standard normal numbers: baseline, batch, pending. The error falls with s.
        X_pending: [p, d] points being evaluated; they count as part of the batch. None by default.
        tau_relu: width of the smooth positive part, > 0, in the units of the posterior. The default, 1e-6, is close to
            the exact function.
        tau_max: width of the smooth maximum, > 0, in logarithms; 1e-2 by default.

    Returns:
        [] the log noisy expected improvement.

    Raises:
        ValueError: `base_samples` does not have m + q + p columns.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior = MockPosterior(lambda X: X[:, 0])  # mean x_0, variance 1
        >>> seen, X, z = jnp.array([[0.0]]), jnp.array([[0.5]]), jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> round(q_log_nei(posterior, X, X_baseline=seen, base_samples=z).item(), 2)  # log of the mean of 1.5 and 0
        -0.29

    Source: Letham, Karrer, Ottoni, Bakshy (2019), arXiv:1706.07094; Ament et al. (2023), arXiv:2310.20708.
    """
    m = X_baseline.shape[0]
    samples = _samples(posterior, jnp.concatenate([X_baseline, X]), base_samples, X_pending)
    baseline = samples[:, :m] if mask is None else jnp.where(mask[None, :], samples[:, :m], -jnp.inf)
    return log_improvement(samples[:, m:], largest(baseline), tau_relu=tau_relu, tau_max=tau_max)


def q_pi(
    posterior: Posterior,
    X: Float[Array, "q d"],
    best_f: Float[Array, ""] | float,
    *,
    base_samples: Float[Array, "s r"],
    X_pending: Float[Array, "p d"] | None = None,
    tau: float = 1e-3,
) -> Float[Array, ""]:
    """Probability that at least one of q points improves on the incumbent.

    With joint samples f_ij of the objective at the points, the value is mean_i max_j sigmoid((f_ij - best_f) / tau).

    Args:
        posterior: standardized posterior of the objective.
        X: [q, d] points of the unit cube; use `vmap` for many batches.
        best_f: [] value of the incumbent, in the units of the posterior.
        base_samples: [s, q + p] standard normal numbers, those of pending points last. The error falls with s.
        X_pending: [p, d] points being evaluated; they count as part of the batch. None by default.
        tau: width of the smooth step, > 0, in the units of the posterior, 1e-3 by default. Smaller values are closer to
            the probability and have steeper gradients.

    Returns:
        [] the probability, in [0, 1].

    Raises:
        ValueError: `base_samples` does not have q + p columns.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # samples of (f(0), f(0.5)): (1, 0.5) and (0, 1.5)
        >>> q_pi(posterior, X, jnp.array(1.2), base_samples=z).item()
        0.5

    Source: Wilson, Moriconi, Hutter, Deisenroth (2017), arXiv:1712.00424.
    """
    samples = _samples(posterior, X, base_samples, X_pending)
    return jnp.mean(largest(jax.nn.sigmoid((samples - best_f) / tau)))


def q_ucb(
    posterior: Posterior,
    X: Float[Array, "q d"],
    best_f: Float[Array, ""] | float | None = None,
    *,
    base_samples: Float[Array, "s r"],
    X_pending: Float[Array, "p d"] | None = None,
    beta: float = 4.0,
) -> Float[Array, ""]:
    """Upper confidence bound of q points.

    With joint samples f_ij of the objective at the points and mu_j their means, the value is
    mean_i max_j mu_j + sqrt(beta pi / 2) |f_ij - mu_j|. For one point its expectation is mu + sqrt(beta) sigma.

    Args:
        posterior: standardized posterior of the objective.
        X: [q, d] points of the unit cube; use `vmap` for many batches.
        best_f: not used; all acquisition functions have the same signature.
        base_samples: [s, q + p] standard normal numbers, those of pending points last. The error falls with s.
        X_pending: [p, d] points being evaluated; they count as part of the batch. None by default.
        beta: weight of the variance, >= 0. The default, 4, adds two standard deviations; larger values explore more.

    Returns:
        [] the upper confidence bound, in the units of the posterior.

    Raises:
        ValueError: `base_samples` does not have q + p columns.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # samples of (f(0), f(0.5)): (1, 0.5) and (0, 1.5)
        >>> round(q_ucb(posterior, X, base_samples=z).item(), 2)
        2.76

    Source: Wilson, Moriconi, Hutter, Deisenroth (2017), arXiv:1712.00424.
    """
    del best_f
    X = _with_pending(X, X_pending)
    mean = posterior.mean(X)
    samples = _samples(posterior, X, base_samples, None)
    return jnp.mean(largest(mean[None, :] + math.sqrt(0.5 * beta * math.pi) * jnp.abs(samples - mean[None, :])))


def q_simple_regret(
    posterior: Posterior,
    X: Float[Array, "q d"],
    best_f: Float[Array, ""] | float | None = None,
    *,
    base_samples: Float[Array, "s r"],
    X_pending: Float[Array, "p d"] | None = None,
) -> Float[Array, ""]:
    """Expected largest value among q points.

    With joint samples f_ij of the objective at the points, the value is mean_i max_j f_ij.

    Args:
        posterior: standardized posterior of the objective.
        X: [q, d] points of the unit cube; use `vmap` for many batches.
        best_f: not used; all acquisition functions have the same signature.
        base_samples: [s, q + p] standard normal numbers, those of pending points last. The error falls with s.
        X_pending: [p, d] points being evaluated; they count as part of the batch. None by default.

    Returns:
        [] the expected maximum, in the units of the posterior.

    Raises:
        ValueError: `base_samples` does not have q + p columns.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.testing import MockPosterior
        >>> posterior, X = MockPosterior(lambda X: X[:, 0]), jnp.array([[0.0], [0.5]])  # mean x_0, variance 1
        >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # samples of (f(0), f(0.5)): (1, 0.5) and (0, 1.5)
        >>> q_simple_regret(posterior, X, base_samples=z).item()
        1.25

    Source: Wilson, Moriconi, Hutter, Deisenroth (2017), arXiv:1712.00424.
    """
    del best_f
    return jnp.mean(largest(_samples(posterior, X, base_samples, X_pending)))


def log_improvement(
    samples: Float[Array, "s q"], best: Float[Array, "s"], *, tau_relu: float = TAU_RELU, tau_max: float = TAU_MAX
) -> Float[Array, ""]:
    """log mean_i max_j (samples_ij - best_i)+, smoothed with fat tails."""
    logs = log_fat_softplus((samples - best[:, None]) / tau_relu) + math.log(tau_relu)
    return jax.nn.logsumexp(fat_max(logs, tau_max)) - math.log(samples.shape[0])


@jax.custom_jvp
def log_fat_softplus(u: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log(softplus(u) + 0.1 / (1 + u^2)): log u for large u, log(0.1 / u^2) for large -u. Finite for finite u."""
    return jnp.log(_fat_softplus(u))


def _fat_softplus(u):
    return jax.nn.softplus(u) + 0.1 / (1.0 + u * u)


@log_fat_softplus.defjvp
def _log_fat_softplus_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    value = _fat_softplus(u)
    cauchy = 1.0 / (1.0 + u * u)
    slope = (jax.nn.sigmoid(u) - 0.2 * u * cauchy * cauchy) / value
    return jnp.log(value), slope * du


def fat_max(x: Float[Array, "s q"], tau: float) -> Float[Array, "s"]:
    """A smooth maximum over the last axis whose smaller members keep a slope of order 1 / distance^2."""
    top = largest(x)
    u = (top[..., None] - x) / tau
    return top + tau * jnp.log(jnp.sum(2.0 / (1.0 + (1.0 + u) ** 2), axis=-1))


def _with_pending(X, X_pending):
    return X if X_pending is None else jnp.concatenate([X, X_pending])


def _samples(posterior, X, base_samples, X_pending):
    """Joint samples [s, q + p] of the objective at the batch and the pending points."""
    X = _with_pending(X, X_pending)
    if base_samples.shape[-1] != X.shape[0]:
        raise ValueError(
            f"`base_samples` must have one column for each of the {X.shape[0]} points, got {list(base_samples.shape)}."
        )
    mean, cov = posterior.joint(X)
    L, _ = factor_scaled(cov)
    return mean[None, :] + matmul(base_samples, L.T)

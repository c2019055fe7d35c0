"""Whether speed costs quality: bojax's fit and candidate against SciPy's and BoTorch's on the same functions."""

import statistics
import time

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

import bojax
from benchmarks import _problems
from benchmarks._timing import Report, spread
from bojax.acquisition import log_ei
from bojax.optim import Lattice, Seen, multistart
from bojax.surrogates._gp import bounds, gp_model, log_posterior, starts

TOLERANCE = 1e-6
NUM_STARTS = 4


def acquirer(space: bojax.Space, *, num_restarts: int = 10, raw_samples: int = 512):
    """The acquisition half of `ask`: `(key, params, observations) -> (x [d], log_ei, posterior, best_f)`, compiled."""
    lattice, optimizer = Lattice.of(space), multistart(num_restarts=num_restarts, raw_samples=raw_samples)
    surrogate = bojax.surrogates.gp()

    @jax.jit
    def acquire(key, params, observations):
        posterior = surrogate.posterior(params, observations).standardized()
        means = jax.numpy.where(observations.mask, posterior.mean(observations.X), -jax.numpy.inf)
        best_f, center = jax.numpy.max(means), observations.X[jax.numpy.argmax(means)]
        seen = Seen(observations.X, observations.mask)
        x, info = optimizer(key, lattice, lambda X: log_ei(posterior, X, best_f), seen, center)
        return x, info.value, posterior, best_f

    return acquire


def quality(report: Report, *, num_points: int, count: int, botorch: bool) -> None:
    """Fits and candidates for `count` data sets of Hartmann-6."""
    space = _problems.problem("hartmann6").space
    data = _problems.data_sets("hartmann6", num_points, count)
    algorithm, surrogate, acquire = bojax.bayesopt(space), bojax.surrogates.gp(num_restarts=NUM_STARTS), acquirer(space)
    losses, candidates = [], []
    with bojax.host_scope():
        scipy_fit, fresh = _scipy_fitter(space.num_dims), algorithm.init(jax.random.key(0))
        for i, (X, y) in enumerate(data):
            key = jax.random.key(1000 + i)
            observations = bojax.loop.restore(fresh, bojax.data.Told(X, y, X[:0])).observations
            params, info = jax.block_until_ready(surrogate.fit(key, observations, fresh.params))
            losses.append((float(info.loss), *scipy_fit(key, observations, fresh.params)))
            if botorch:
                candidates.append(_compare_candidates(i, X, observations, params, acquire(key, params, observations)))
    _report_fits(report, losses, num_points)
    if candidates:
        _report_candidates(report, candidates, num_points)


def _scipy_fitter(num_dims):
    """SciPy's L-BFGS-B from the starts of bojax's own fit, on the same compiled function."""
    model = gp_model()

    def loss(theta, params, observations):
        return -log_posterior(model, ravel_pytree(params)[1](theta), observations)

    value_and_grad = jax.jit(jax.value_and_grad(loss))

    def fit(key, observations, params):
        lower, upper = (np.asarray(ravel_pytree(box)[0]) for box in bounds(model, params))
        first = np.clip(np.asarray(starts(model, key, params, num_dims, NUM_STARTS)), lower, upper)

        def fun(theta):
            value, gradient = value_and_grad(theta, params, observations)
            return float(value), np.asarray(gradient)

        fun(first[0])
        begun = time.perf_counter()
        options = {"maxiter": 2000, "maxfun": 10000, "ftol": 1e-13, "gtol": 1e-7}
        box = list(zip(lower, upper, strict=True))
        results = [minimize(fun, x, jac=True, method="L-BFGS-B", bounds=box, options=options) for x in first]
        return min(float(result.fun) for result in results), time.perf_counter() - begun

    return fit


def _compare_candidates(seed, X, observations, params, acquired):
    """(bojax's log EI, BoTorch's, the largest disagreement of the two libraries about log EI), all on one GP."""
    from benchmarks import _botorch

    x, _, posterior, best_f = acquired
    own_log_ei = jax.jit(log_ei)
    y = _standardized(observations)
    model = _botorch.same_gp(
        X,
        y,
        lengthscale=np.exp(params.kernel.log_lengthscale),
        outputscale=np.exp(params.kernel.log_outputscale),
        noise_var=float(posterior.noise_var),
        mean=float(params.mean),
    )
    random = np.random.default_rng(seed).random((256, X.shape[1]))
    here, there = np.asarray(own_log_ei(posterior, random, best_f)), _botorch.log_ei(model, float(best_f), random)
    likely = here > np.quantile(here, 0.5)  # deep in the tail the approximations of log EI differ, and do not matter
    _botorch.torch.manual_seed(seed)
    other = _botorch.maximize(model, float(best_f), X.shape[1], num_restarts=10, raw_samples=512)
    values = np.asarray(own_log_ei(posterior, np.stack([np.asarray(x), other]), best_f))
    return float(values[0]), float(values[1]), float(np.max(np.abs(here - there)[likely]))


def _standardized(observations):
    from bojax.surrogates.outputs._standardize import standardize

    y, _ = standardize(observations.y, observations.mask)
    return np.asarray(y)[np.asarray(observations.mask)]


def _report_fits(report, losses, num_points):
    worse = [own - scipy for own, scipy, _ in losses]
    report.section(
        f"Quality of the fit: n = {num_points}",
        f"Negative log posterior of the hyperparameters over {len(losses)} data sets, against SciPy's L-BFGS-B (tight "
        f"tolerances) from the same {NUM_STARTS} starts on the same compiled function. Negative: bojax's is better.",
    )
    report.table(
        ["bojax minus SciPy", "smallest", "median", "largest", "data sets with more than 1e-3", "1e-6"],
        [
            ["loss", f"{min(worse):.2g}", f"{statistics.median(worse):.2g}", f"{max(worse):.2g}"]
            + [f"{sum(w > limit for w in worse)} of {len(worse)}" for limit in (1e-3, 1e-6)]
        ],
    )
    report.note(f"SciPy's fits took {spread([1e3 * s for *_, s in losses], '.3g')} ms, compiled and warm.")
    report.figure("fit quality", num_points=num_points, bojax=[a for a, *_ in losses], scipy=[b for _, b, _ in losses])


def _report_candidates(report, candidates, num_points):
    better = [own - other for own, other, _ in candidates]
    report.section(
        f"Quality of the candidate: n = {num_points}",
        "BoTorch gets a model with bojax's kernel and hyperparameters, so both maximize one function; both candidates "
        "are then evaluated by bojax (log EI, float64). Positive: bojax's is better.",
    )
    report.table(
        ["bojax minus BoTorch", "smallest", "median", "largest", f"not below by {TOLERANCE:g}"],
        [
            [
                *("log EI", f"{min(better):.2g}", f"{statistics.median(better):.2g}", f"{max(better):.2g}"),
                f"{sum(b >= -TOLERANCE for b in better)} of {len(better)}",
            ]
        ],
    )
    largest = max(gap for *_, gap in candidates)
    report.note(f"The two libraries' log EI differ by at most {largest:.2g} on the better half of random points.")
    report.figure(
        "candidate quality",
        num_points=num_points,
        bojax=[a for a, *_ in candidates],
        botorch=[b for _, b, _ in candidates],
        largest_disagreement=largest,
    )

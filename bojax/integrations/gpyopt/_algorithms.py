"""The algorithms of bojax that GPyOpt's settings stand for."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax.acquisition import BatchAcquisition, Context, batch_log_ei, batch_log_pi, batch_ucb
from bojax.integrations.gpyopt._settings import Settings
from bojax.loop import Algorithm, bayesopt, cost_aware, forest, thompson
from bojax.optim import CandidateInfo, CandidateOptimizer, is_seen
from bojax.space import Space
from bojax.study import AlgorithmFactory
from bojax.surrogates import (
    Surrogate,
    fixed_noise,
    fully_bayesian_gp,
    gp,
    half_rank,
    known_noise,
    learned_noise,
    sparse_gp,
    warped,
    with_output_transform,
    with_row_limit,
)

JITTER, WEIGHT = 0.0, 2.0
"""Defaults of `acquisition_jitter` and `acquisition_weight`.
With GPyOpt's jitter of 0.01 runs end farther from the optimum (benchmarks/results/algorithms.md)."""
NUM_SAMPLES = 64
"""Sampled objectives of a batch acquisition."""
MAX_ROWS = 2048
"""Arms whose utilities are computed at a time."""


def factory_of(settings: Settings, arms: np.ndarray | None = None) -> AlgorithmFactory:
    """The function from (space, q) to an algorithm; the same one for equal settings.

    Args:
        settings: the settings.
        arms: [n, d] points of the cube to choose from, with bandits; None otherwise.
    """
    options = tuple((name, value) for name, value in settings.options if name != "objective_name")
    shared = settings._replace(options=options)
    return _factory(shared) if arms is None else functools.partial(_algorithm, settings=shared, arms=arms)


@functools.lru_cache(maxsize=64)
def _factory(settings: Settings) -> AlgorithmFactory:
    return functools.partial(_algorithm, settings=settings, arms=None)


def _algorithm(space: Space, q: int, *, settings: Settings, arms: np.ndarray | None) -> Algorithm:
    # The initial design is the caller's, so the model serves from the first result on.
    frame: dict[str, Any] = {"q": q, "num_initial": 1}
    if settings.model == "RF":
        return forest(space, **frame)
    frame["surrogate"] = surrogate_of(settings)
    if settings.evaluator == "thompson_sampling":
        return thompson(space, **frame)
    acquisition = acquisition_of(settings, joint=arms is None)
    optimizer = None if arms is None else among(arms)
    make = cost_aware if settings.with_cost else bayesopt
    return make(space, acquisition=acquisition, optimizer=optimizer, **frame)


def surrogate_of(settings: Settings) -> Surrogate:
    """The model: as bojax's default, it sees only the ranks of values worse than the median."""
    options = dict(settings.options)
    noise_var = options.get("noise_var")
    if settings.exact:
        noise = fixed_noise()
    elif noise_var is None:
        noise = learned_noise()
    else:
        noise = fixed_noise(noise_var) if settings.standardized else known_noise(noise_var)
    fit = {new: options[old] for old, new in _FIT_OPTIONS.items() if old in options}
    if settings.model == "sparseGP":
        sizes = (options["num_inducing"],) if "num_inducing" in options else ()
        return with_output_transform(sparse_gp(*sizes, noise=noise, **fit), half_rank)
    if settings.model == "GP_MCMC":
        return with_output_transform(
            with_row_limit(fully_bayesian_gp(noise=noise, **_chain(options), **fit)), half_rank
        )
    kernel = warped() if settings.model == "input_warped_GP" else None
    return with_output_transform(with_row_limit(gp(kernel, noise=noise, **fit)), half_rank)


_FIT_OPTIONS = {"optimize_restarts": "num_restarts", "max_iters": "max_evals"}


def _chain(options: dict[str, Any]) -> dict[str, int]:
    """The Markov chain: GPyOpt counts the kept samples, bojax the transitions."""
    thinning = options.get("subsample_interval", 16)
    chain = {"thinning": thinning, "num_samples": thinning * _num_members(options)}
    return chain | ({"num_warmup": options["n_burnin"]} if "n_burnin" in options else {})


def _num_members(options: dict[str, Any]) -> int:
    return options.get("n_samples", 8)


def acquisition_of(settings: Settings, *, joint: bool) -> BatchAcquisition:
    """The acquisition of a batch."""
    options = dict(settings.options)
    members = _num_members(options) if settings.model == "GP_MCMC" else 1
    samples = members * -(-NUM_SAMPLES // members)
    if settings.acquisition == "LCB":
        weight = options.get("acquisition_weight", WEIGHT)
        return batch_ucb(beta=weight**2, num_samples=samples)._replace(noisy=settings.repeats)
    jitter = options.get("acquisition_jitter", JITTER)
    if settings.acquisition == "EI":
        acquisition = batch_log_ei(num_samples=samples, joint=joint)
    else:
        acquisition = batch_log_pi(num_samples=samples)
    return with_jitter(acquisition, jitter)._replace(noisy=settings.repeats)


def with_jitter(acquisition: BatchAcquisition, jitter: float) -> BatchAcquisition:
    """An acquisition whose incumbent is better by `jitter` standard deviations of the values."""
    if jitter == 0.0:
        return acquisition

    def begin(key: Any, posterior: Any, context: Context, q: int) -> Any:
        return acquisition.begin(key, posterior, context._replace(best_f=context.best_f + jitter), q)

    return acquisition._replace(begin=begin)


def among(arms: np.ndarray) -> CandidateOptimizer:
    """A candidate optimizer that takes the best of given points which was not seen.

    Args:
        arms: [n, d] points of the cube.
    """

    def optimizer(key: Any, lattice: Any, fn: Any, seen: Any, center: Any) -> tuple[Any, CandidateInfo]:
        del key
        points = jnp.asarray(arms, center.dtype)
        n, d = points.shape
        size = min(n, MAX_ROWS)
        padded = jnp.concatenate([points, jnp.broadcast_to(points[:1], (-n % size, d))]).reshape(-1, size, d)

        def score(part):
            return fn(part), is_seen(lattice, part, seen.X, seen.mask)

        values, taken = (leaf.reshape(-1)[:n] for leaf in jax.lax.map(score, padded))
        values = jnp.where(jnp.isnan(values), -jnp.inf, values)
        best = jnp.argmax(jnp.where(taken, -jnp.inf, values))
        return points[best], CandidateInfo(values[best], ~jnp.all(taken), jnp.max(values))

    return optimizer

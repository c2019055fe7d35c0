"""Bayesian optimization as one compiled `ask`.

    observations --fit--> hyperparameters --condition--> posterior --maximize acquisition--> x --add--> next x

After the initial design (`_model_based`) each `ask` fits the surrogate, builds a batch acquisition that accounts for
pending points, and chooses its q points one after another, each given those before it. No point is evaluated twice
unless the objective is noisy. Failed evaluations are masked from the surrogate: a second model learns from them where
evaluations succeed, and its probability weights the acquisition (benchmarks/results/failures.md).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._bfgs import minimize_lanes
from bojax._types import Array, Bool, Float, Int
from bojax.acquisition import (
    AcquisitionFn,
    BatchAcquisition,
    Context,
    as_batch,
    batch_log_ei,
    with_success,
)
from bojax.loop._algorithm import Algorithm
from bojax.loop._arguments import check_parts
from bojax.loop._defaults import bound_surrogate, default_surrogate, inputs_of
from bojax.loop._design import mark_seen, replace_seen, seen_points
from bojax.loop._model_based import Asked, Proposal, Rule, model_based, without_failures
from bojax.optim import CandidateOptimizer, Seen, first_pool, is_seen, multistart, next_candidate, penalty
from bojax.space import Lattice, Space
from bojax.surrogates import Surrogate, fit_success, standardize, takes_padding, told_noise, unwrapped

POLISH_EVALS = 30
"""Evaluations of the joint polish (benchmarks/results/algorithms.md)."""

MAX_COMPARED = 1024
"""Observations that may be the incumbent: with all of them, time and memory would grow with their number squared."""


class BayesoptInfo(NamedTuple):
    """Diagnostics of an `ask`.

    Attributes:
        status: a `Status` code.
        valid: [q] which points are suggestions; all of them unless a finite space is exhausted.
        acquisition: [q] the acquisition at each point when it was chosen; NaN in the initial design.
        fit_loss: negative log posterior of the hyperparameters; NaN in the initial design.
        fit_evals: evaluations of the fit.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]
    acquisition: Float[Array, "q"]
    fit_loss: Float[Array, ""]
    fit_evals: Int[Array, ""]


def bayesopt(
    space: Space | Lattice,
    *,
    q: int = 1,
    capacity: int = 64,
    num_initial: int | None = None,
    surrogate: Surrogate | None = None,
    acquisition: AcquisitionFn | BatchAcquisition | None = None,
    optimizer: CandidateOptimizer | None = None,
    max_pending: int | None = None,
) -> Algorithm:
    """Bayesian optimization of a space.

    Args:
        space: the search space; or a `Lattice`, whose arrays may be traced, if all parts take padded columns.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1; `bojax.loop.grow` enlarges a state.
        num_initial: points of the quasi-random initial design, >= 1; by default d + 1, between 3 and 16, and 3 where
            the surrogate learns from gradients.
        surrogate: the statistical model; `bojax.loop.default_surrogate()` by default, a Gaussian process with a
            Matern-5/2 kernel that sees only the ranks of bad values. Any other surrogate sees the raw values unless it
            is wrapped by `with_output_transform`. `tell` accepts the columns it uses (`Surrogate.columns`). If the
            space has categories, it is informed which columns hold them.
        acquisition: what the next points maximize: a `BatchAcquisition`, or a function `(posterior, X, best_f) -> [k]`
            in standardized units of y, whose batches treat chosen and pending points as observed at their mean
            (`kriging_believer`). `batch_log_ei()` by default. One for noisy objectives, such as `batch_log_nei()`,
            may suggest a point again where that pays, and makes the default surrogate expect noise.
        optimizer: how it is maximized; `multistart()` by default.
        max_pending: maximum number of pending points, >= q; 8, or q if that is more, by default.

    Returns:
        An `Algorithm` whose `ask` returns a `BayesoptInfo`. It uses JAX's float type at the time `init` is called:
        float64 inside `bojax.run` and `Study`, or in a scope `with jax.enable_x64(True)`.

    Raises:
        ValueError: when a number is out of range, or the surrogate does not define how it treats categories.
        TypeError: when surrogate, acquisition or optimizer has the wrong type.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> state = algorithm.init(jax.random.key(0))
        >>> X, state, info = algorithm.ask(jax.random.key(1), state)
        >>> X.shape
        (1, 1)
    """
    parts = parts_of(space, surrogate, acquisition, optimizer)

    def propose(key, asked):
        return greedy(key, asked, parts)[0]

    def describe(asked, X, status, valid, details):
        del asked, X
        return BayesoptInfo(status, valid, *details)

    frame = {"q": q, "capacity": capacity, "num_initial": num_initial, "max_pending": max_pending}
    rule = Rule(propose, describe, no_details=lambda dtype: no_details(q, dtype))
    algorithm = model_based(space, rule, surrogate=parts.surrogate, repeats=parts.acquisition.noisy, **frame)
    given = {"surrogate": surrogate, "acquisition": acquisition, "optimizer": optimizer}
    others = (parts.acquisition, parts.optimizer)
    takes_any = takes_padding(parts.surrogate) and all(getattr(part, "padded", False) for part in others)
    takes_any = takes_any and not (isinstance(space, Space) and space.functions())
    return algorithm._replace(on=(lambda lattice: bayesopt(lattice, **frame, **given)) if takes_any else None)


class Parts(NamedTuple):
    """The parts of a greedy proposal.

    Attributes:
        surrogate: the model, bound to the space.
        acquisition: what the points maximize. One for noisy objectives may suggest points again.
        optimizer: the candidate optimizer.
    """

    surrogate: Surrogate
    acquisition: BatchAcquisition
    optimizer: CandidateOptimizer


class Fitted(NamedTuple):
    """The model behind a proposal: hyperparameters and the standardized posterior."""

    params: Any
    posterior: Any


def parts_of(
    space: Space | Lattice,
    surrogate: Surrogate | None,
    acquisition: AcquisitionFn | BatchAcquisition | None,
    optimizer: CandidateOptimizer | None,
) -> Parts:
    """The checked arguments of `bayesopt`, with defaults filled in."""
    check_parts(surrogate, acquisition, optimizer)
    acquisition = batch_log_ei() if acquisition is None else as_batch(acquisition)
    surrogate = default_surrogate(noisy=acquisition.noisy) if surrogate is None else surrogate
    return Parts(bound_surrogate(space, surrogate), acquisition, multistart() if optimizer is None else optimizer)


def no_details(q: int, dtype) -> tuple[Array, ...]:
    """The last three fields of a `BayesoptInfo` in the initial design."""
    nan = jnp.full(q, jnp.nan, dtype)
    return nan, nan[0], jnp.int32(0)


def greedy(
    key,
    asked: Asked,
    parts: Parts,
    *,
    params: Any = None,
    acquisition: BatchAcquisition | None = None,
) -> tuple[Proposal, Fitted]:
    """Fit, condition, and choose q points one after another.

    Args:
        key: random key.
        asked: the rule's input.
        parts: surrogate, acquisition and optimizer.
        params: where the fit starts; by default `asked.state.params`.
        acquisition: replaces that of `parts`.

    Returns:
        The proposal and the model. The proposal's details are the acquisition at each point, and the loss and number of
        evaluations of the fit.
    """
    lattice, state, (others, _) = asked.lattice, asked.state, asked.design
    surrogate, sees = unwrapped(parts.surrogate)
    acquisition = parts.acquisition if acquisition is None else acquisition
    repeats = acquisition.noisy
    q = others.shape[0]
    keys = jax.random.split(key, q + 2)
    observations, pending = state.observations, state.pending
    seen_data = sees(without_failures(observations))
    start = state.params if params is None else params
    extra = {"trusted": state.trusted} if surrogate.resumes and takes_padding(surrogate) else {}
    params, fit = surrogate.fit(keys[q], seen_data, start, **extra)
    num_slots = pending.X.shape[0]
    posterior = surrogate.posterior(params, seen_data, num_slots + q - 1).standardized()
    best_f, center = incumbent(posterior, observations)
    context = Context(best_f, seen_data.X, seen_data.mask, pending.X, pending.mask, typical_noise(seen_data))
    acquisition = with_success(acquisition, fit_success(observations, inputs=inputs_of(lattice)))
    chosen = acquisition.begin(keys[q + 1], posterior, context, q)
    seen = seen_points(observations, pending, q)
    avoided = Seen(seen.X, jnp.zeros_like(seen.mask)) if repeats else seen

    center = lattice.pin(center)
    turns = getattr(parts.optimizer, "settings", None) if q > 1 and not lattice.is_finite else None

    def value_of(chosen):
        return lambda X: acquisition.value(chosen, lattice.pin(X))

    def choose(key, chosen, seen, pool):
        if turns is None:
            x, candidate = parts.optimizer(key, lattice, value_of(chosen), seen, center)
        else:
            x, candidate, pool = next_candidate(turns, key, lattice, value_of(chosen), seen, center, pool)
        usable = jnp.isfinite(candidate.raw_value)  # an acquisition that is NaN everywhere counts as -inf
        return (jnp.where(usable, lattice.snap(x), jnp.nan), candidate.value, candidate.valid), pool

    if q == 1:
        X, values, valid = jax.tree.map(lambda leaf: leaf[None], choose(keys[0], chosen, avoided, None)[0])
    else:
        pool_key = jax.random.fold_in(key, q + 2)
        pool = None if turns is None else first_pool(turns, pool_key, lattice, value_of(chosen), center)
        start = chosen, avoided, pool
        X, values, valid = _choose_greedily(choose, acquisition, keys[:q], start, repeats=repeats)
        if acquisition.joint is not None and not lattice.is_finite:
            polished = _polish(lattice, acquisition, chosen, X)
            X = polished if repeats else keep_apart(lattice, polished, X, seen)
    if not lattice.is_finite and not repeats:
        X, _ = replace_seen(lattice, X, seen, others)
    ok = fit.ok & jnp.isfinite(best_f)
    return Proposal(X, valid, ok, params, (values, fit.loss, fit.num_evals)), Fitted(params, posterior)


def _choose_greedily(choose, acquisition, keys, start, *, repeats):
    """Choose points one after another, each given those before it; `start` is the choice, seen points, and the pool."""
    q = keys.shape[0]
    first_spare = start[1].X.shape[0] - q

    def step(carry, item):
        chosen, seen, pool = carry
        i, key = item
        (x, value, valid), pool = choose(key, chosen, seen, pool)
        after = seen if repeats else mark_seen(seen, first_spare + i, x)
        return (acquisition.add(chosen, x), after, pool), (x, value, valid)

    return jax.lax.scan(step, start, (jnp.arange(q, dtype=jnp.int32), keys))[1]


def keep_apart(lattice: Lattice, moved: Float[Array, "q d"], X: Float[Array, "q d"], seen: Seen) -> Float[Array, "q d"]:
    """The moved points; one that landed on a seen point or on an earlier row keeps its old position."""
    q = X.shape[0]
    first_spare = seen.X.shape[0] - q

    def place(seen, item):
        i, x, before = item
        x = jnp.where(is_seen(lattice, x[None], seen.X, seen.mask)[0], before, x)
        return mark_seen(seen, first_spare + i, x), x

    return jax.lax.scan(place, seen, (jnp.arange(q, dtype=jnp.int32), moved, X))[1]


def _polish(lattice, acquisition, chosen, X):
    """Move all points of a batch together along the gradient of their joint utility; discrete columns are fixed."""
    q, d = X.shape

    def worth(X):
        value = acquisition.joint(chosen, lattice.pin(X))
        if not lattice.is_constrained:
            return value
        return value - jnp.sum(penalty(lattice, X.reshape(-1, d)).reshape(-1, q), axis=1)

    def value_and_grad(flat, active):
        del active
        value, pullback = jax.vjp(lambda flat: worth(flat.reshape(-1, q, d)), flat)
        return -value, -pullback(jnp.ones_like(value))[0]

    start = X.reshape(1, q * d)
    held = jnp.tile(lattice.is_discrete, q)[None, :]
    lower, upper = jnp.where(held, start, 0.0), jnp.where(held, start, 1.0)
    float64 = jnp.finfo(X.dtype).bits >= 64
    gtol, ftol = (1e-5, 1e-6) if float64 else (1e-3, 1e-5)
    result = minimize_lanes(value_and_grad, start, lower, upper, max_evals=POLISH_EVALS, gtol=gtol, ftol=ftol)
    better = jnp.isfinite(result.f[0]) & jnp.all(jnp.isfinite(result.x))
    moved = lattice.snap(result.x[0].reshape(q, d))
    if lattice.is_constrained:
        moved = lattice.pulled(moved, X)
        joint = acquisition.joint(chosen, jnp.stack([moved, X]))
        better = better & (joint[0] > joint[1])
    return jnp.where(better, moved, X)


def typical_noise(observations):
    """Mean of the reported noise variances, in squared standard deviations of y; 0 if none was reported."""
    _, scale = standardize(observations.y, observations.mask)
    told = told_noise(observations, scale)
    known = observations.mask & ~jnp.isnan(told)
    return jnp.sum(jnp.where(known, told, 0.0)) / jnp.maximum(jnp.sum(known), 1)


def incumbent(posterior, observations):
    """The largest posterior mean among the observed points, and its location.

    The mean is used because the largest noisy observation is usually a lucky one. Only the best observations are
    compared where there are more than `MAX_COMPARED`.
    """
    X, mask = observations.X, observations.mask
    if X.shape[0] > MAX_COMPARED:
        _, best = jax.lax.top_k(jnp.where(mask, observations.y, -jnp.inf), MAX_COMPARED)
        X, mask = X[best], mask[best]
    means = jnp.where(mask, posterior.mean(X), -jnp.inf)
    return jnp.max(means), X[jnp.argmax(means)]

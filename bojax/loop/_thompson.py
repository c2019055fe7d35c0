"""Thompson sampling: every candidate maximizes its own draw of the objective.

    observations --fit--> posterior --q functions--> each maximized by gradient --> q candidates

Draws are whole functions (pathwise conditioning), so one program chooses a thousand candidates independently, without a
covariance of the batch: their diversity comes from the posterior's uncertainty. Each function is scored on the same
quasi-random points and maximized from its best few by a batched quasi-Newton search, which in mixed spaces also moves
to discrete neighbors. (Thompson 1933; Kandasamy, Krishnamurthy, Schneider, Poczos 2018, arXiv:1705.09236; Wilson et al.
2020, arXiv:2002.09309.)
"""

from typing import Any

import jax
import jax.numpy as jnp

from bojax.loop._algorithm import Algorithm
from bojax.loop._bayesopt import BayesoptInfo, no_details
from bojax.loop._defaults import bound_surrogate, default_surrogate
from bojax.loop._design import replace_seen, seen_points
from bojax.loop._model_based import Proposal, Rule, check_counts, failures_as_worst, model_based
from bojax.optim import local_search, num_raw_bits, raw_points
from bojax.space import Space
from bojax.surrogates import SamplePaths, Surrogate, sample_paths, unwrapped

BYTE_BUDGET = 2**28
"""256 MiB: a few hundred functions at a time."""
MAX_EVALS = 60
"""Maximum number of batched evaluations in the search of all functions together."""


def thompson(
    space: Space,
    *,
    q: int = 1,
    capacity: int = 64,
    num_initial: int | None = None,
    surrogate: Surrogate | None = None,
    num_features: int = 1024,
    raw_samples: int = 1024,
    num_restarts: int = 2,
    max_pending: int | None = None,
    byte_budget: int = BYTE_BUDGET,
) -> Algorithm:
    """Thompson sampling in batches of any size.

    Pending points do not affect the draws; they are not suggested again.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1; thousands are fine.
        capacity: room for this many observations; `bojax.loop.grow` enlarges a state.
        num_initial: points of the quasi-random initial design, >= 1; by default d + 1, between 3 and 16.
        surrogate: a Gaussian process whose kernel has random features (`gp()` with Matern-5/2 or RBF). It sees the raw
            values unless it is wrapped by `with_output_transform`; `bojax.loop.default_surrogate()` by default.
        num_features: random features of the prior, >= 1.
        raw_samples: points on which every function is scored, >= `num_restarts`.
        num_restarts: starts of the search of each function, >= 1.
        max_pending: maximum number of pending points; 8, or q if that is more, by default.
        byte_budget: approximate memory for the search in bytes; more functions than fit are searched in chunks.

    Returns:
        An `Algorithm` whose `ask` returns a `BayesoptInfo`; its `acquisition` is each function's maximum.

    Raises:
        ValueError: when a number is out of range.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.thompson(bojax.Space(x=bojax.Float(0.0, 1.0)), q=16)
        >>> X, state, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
        >>> X.shape
        (16, 1)
    """
    check_counts(num_features=num_features, num_restarts=num_restarts, byte_budget=byte_budget)
    if raw_samples < num_restarts:
        raise ValueError(f"`raw_samples` must be at least `num_restarts` = {num_restarts}, got {raw_samples}.")
    surrogate = bound_surrogate(space, default_surrogate() if surrogate is None else surrogate)
    model, sees = unwrapped(surrogate)

    def propose(key, asked):
        keys, here, state = jax.random.split(key, 4), asked.lattice, asked.state
        seen = sees(failures_as_worst(state.observations))
        params, fit = model.fit(keys[0], seen, state.params)
        posterior = model.posterior(params, seen).standardized()
        means = jnp.where(seen.mask, posterior.mean(seen.X), -jnp.inf)
        paths = sample_paths(keys[1], posterior, q, num_features=num_features)
        d, dtype = space.num_dims, seen.X.dtype
        bits = jax.random.bits(keys[2], (num_raw_bits(raw_samples, d),), jnp.uint32)
        raw = raw_points(bits, here, raw_samples, seen.X[jnp.argmax(means)])
        lane_bytes = jnp.finfo(dtype).bits // 8 * (3 * (num_features + seen.X.shape[0]) + 4 * d * d)
        function_bytes = num_restarts * lane_bytes + raw_samples * jnp.finfo(dtype).bits // 8
        size = max(1, min(q, byte_budget // function_bytes))
        X, values = maximize_each(keys[3], here, paths, raw, num_restarts=num_restarts, chunk=size)
        X, valid = replace_seen(here, X, seen_points(state.observations, state.pending, q), asked.design[0])
        ok = fit.ok & jnp.all(jnp.isfinite(values))
        return Proposal(X, valid, ok, params, (values, fit.loss, fit.num_evals))

    def describe(asked, X, status, valid, details):
        del asked, X
        return BayesoptInfo(status, valid, *details)

    rule = Rule(propose, describe, no_details=lambda dtype: no_details(q, dtype))
    frame = {"q": q, "capacity": capacity, "num_initial": num_initial, "max_pending": max_pending}
    return model_based(space, rule, surrogate=surrogate, failures=failures_as_worst, **frame)


def maximize_each(key, lattice, paths: SamplePaths, raw, *, num_restarts: int, chunk: int) -> tuple[Any, Any]:
    """The maximum of every sample path.

    Args:
        key: random key.
        lattice: the columns of the cube.
        paths: p sample paths.
        raw: [k, d] points on which all are scored.
        num_restarts: starts per path.
        chunk: number of paths searched at a time.

    Returns:
        The points [p, d], distinct if possible, and the values [p].
    """
    p, d = paths.weights.shape[0], raw.shape[1]
    chunk = -(-p // -(-p // chunk))  # equal chunks

    def search(part):
        some = SamplePaths(paths.posterior, paths.draws, *part)
        scores, rows = jax.lax.top_k(some.at_all(raw), num_restarts)
        starts = raw[rows].reshape(-1, d)

        def fn(X):  # rows of one path are adjacent
            return some.at_own(lattice.pin(X).reshape(part[0].shape[0], -1, d)).reshape(-1)

        X, values = local_search(key, lattice, fn, starts, jnp.ones((), raw.dtype), MAX_EVALS)
        X, values = X.reshape(-1, num_restarts, d), values.reshape(-1, num_restarts)
        best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values), axis=1)
        X = jnp.take_along_axis(X, best[:, None, None], axis=1)[:, 0]
        return X, jnp.max(values, axis=1), raw[rows[:, 0]], scores[:, 0]

    def padded(leaf):
        rows = -(-p // chunk) * chunk
        return jnp.concatenate([leaf, leaf[: rows - p]]).reshape(-1, chunk, leaf.shape[-1])

    parts = (paths.weights, paths.update)
    if chunk >= p:
        X, values, other, scores = search(parts)
    else:
        out = jax.lax.map(search, tuple(padded(leaf) for leaf in parts))
        X, values, other, scores = (leaf.reshape(-1, *leaf.shape[2:])[:p] for leaf in out)
    # Paths may share a maximum, mostly in a corner; duplicates fall back to the best scored point.
    same = jnp.all(X[:, None, :] == X[None, :, :], axis=-1)
    repeated = jnp.any(jnp.tril(same, -1), axis=1)
    return jnp.where(repeated[:, None], other, X), jnp.where(repeated, scores, values)

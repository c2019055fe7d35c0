"""A random forest as the surrogate: mean and variance over trees, expected improvement over random and local points.

    told --scikit-learn--> forest --random and local candidates--> the largest expected improvement --> x*

A forest needs no scales, and takes thousands of observations, jumps and many categories. It is fitted and asked on the
host: a study calls NumPy and scikit-learn alone and compiles nothing, and in compiled code (`run`) `ask` is a callback.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._errors import Status
from bojax._qmc import random_shift
from bojax._types import Int
from bojax.loop._algorithm import MIN_PENDING, Algorithm, Host, Info, compiled_ask, keyed_init, status_of, tell_state
from bojax.loop._defaults import default_num_initial
from bojax.loop._design import design_on_host, replace_seen
from bojax.loop._evolution import check_whole
from bojax.optim import Lattice, Seen
from bojax.space import Space

MAX_FEATURES = 5 / 6
"""Which part of the columns a split chooses from, as in SMAC."""
NUM_STARTS = 10
"""Points around which local candidates are drawn."""
ROUNDS = (0.2, 0.05, 0.0125)
"""Standard deviations of the steps of local candidates, one round after another."""
CHUNK_BYTES = 32768
"""Largest array that goes into a callback: JAX moves larger ones in a thread, for which a callback may wait forever."""


class ForestState(NamedTuple):
    """What the next `ask` needs.

    Attributes:
        observations: the observations.
        pending: the pending points.
        shift: [d] the random shift of the initial design.
    """

    observations: data.Observations
    pending: data.Pending
    shift: Int[Any, "d"]


class Settings(NamedTuple):
    """What a forest and its candidates are made with; see `forest`."""

    num_trees: int
    min_samples_leaf: int
    num_candidates: int
    num_initial: int


def forest(
    space: Space,
    *,
    q: int = 1,
    num_trees: int = 32,
    min_samples_leaf: int = 2,
    num_candidates: int = 1000,
    num_initial: int | None = None,
    capacity: int = 64,
) -> Algorithm:
    """Bayesian optimization with a random forest, as SMAC does it.

    Each tree t gives the mean m_t and the variance v_t of the observations in a leaf; the forest gives, by the law of
    total variance, mean(m_t) and mean(v_t) + var(m_t). The next point has the largest expected improvement over the
    largest mean at an observed point, among random points and steps from the best ones, in rounds of shorter steps.
    Further points of a batch, and pending ones, count as if they had their mean. Failed evaluations count as the worst
    value seen. Categories are columns of zeros and ones to the trees.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1.
        num_trees: number of trees, >= 2.
        min_samples_leaf: fewest observations in a leaf, >= 1.
        num_candidates: number of random candidates, >= 1; each round has a third as many local ones.
        num_initial: points of the initial design, >= 1; by default d + 1, between 3 and 16.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `Info`, and which works on the host.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(-1.0, 1.0), kind=bojax.Categorical(["a", "b"]))
        >>> def objective(params):
        ...     return (params["x"] - 0.5) ** 2 + (params["kind"] == "a")
        >>> forest_of = lambda space, q: bojax.forest(space, q=q)
        >>> result = bojax.minimize(objective, space, num_trials=30, algorithm=forest_of, progress=False)
        >>> result.best_params["kind"], result.best_value < 0.02
        ('b', True)

    Source: Hutter, Hoos and Leyton-Brown (2011), "Sequential model-based optimization for general algorithm
    configuration"; Hutter et al. (2014), "Algorithm runtime prediction", arXiv:1211.0906, equation 3; Breiman (2001),
    "Random forests".
    """
    lattice = Lattice.of(space)
    num_initial = default_num_initial(space.num_dims, ()) if num_initial is None else num_initial
    check_whole(2, num_trees=num_trees)
    counts = {"min_samples_leaf": min_samples_leaf, "num_candidates": num_candidates, "num_initial": num_initial}
    check_whole(1, q=q, capacity=capacity, **counts)
    settings = Settings(num_trees=num_trees, **counts)

    @keyed_init
    def init(key):
        observations = data.empty(space.num_dims, capacity, columns=())
        pending = data.empty_pending(space.num_dims, max(q, MIN_PENDING), observations.X.dtype)
        return ForestState(observations, pending, random_shift(key, space.num_dims))

    def host_ask(words, shift, told, held=None):
        return _choose(lattice.hold(held), settings, q, words, shift, told)

    def host_predict(words, told, X):
        X, told = np.asarray(X, float), _finite(told)
        if not len(told.y):
            return np.zeros(len(X)), np.ones(len(X))
        standard, center, scale = _standardized(told)
        mean, std = _fitted(lattice, settings, words, standard)(X)
        return center + scale * mean, scale * std

    @compiled_ask
    def ask(key, state, held=None):
        told, dtype = state.observations, state.observations.X.dtype
        shapes = jax.eval_shape(_bits, jnp.zeros((q, space.num_dims), dtype)), jax.ShapeDtypeStruct((q,), bool)
        y = jnp.where(told.mask, told.y, jnp.nan)
        free = jnp.full(space.num_dims, jnp.nan, dtype) if held is None else jnp.asarray(held, dtype)
        rows = {"X": _bits(told.X), "y": _bits(y), "told": told.told}
        rows |= {"pending": _bits(state.pending.X), "waits": state.pending.mask}
        X, valid, status = jax.pure_callback(
            _callback(host_ask, dtype),
            (*shapes, jax.ShapeDtypeStruct((), jnp.int32)),
            jax.random.key_data(key),
            state.shift,
            {name: _chunks(array) for name, array in rows.items()},
            _bits(free),
            vmap_method="sequential",
        )
        X = lattice.hold(held).round(jax.lax.bitcast_convert_type(X if dtype.itemsize == 8 else X[..., 0], dtype))
        status = status_of(status, state, valid)
        pending = data.add_pending(state.pending, X, valid)
        return X, state._replace(pending=pending), Info(status=status, valid=valid)

    def tell(state, X, y, **columns):
        return tell_state(space, state, X, y, **columns)

    return Algorithm(init, ask, tell, space, q, columns=(), host=Host(host_ask, host_predict))


def _callback(host_ask, dtype):
    """`host_ask` of arrays as compiled code gives them."""

    def number(bits):
        return np.ascontiguousarray(bits).view(dtype).astype(float)[..., 0]

    def call(words, shift, rows, free):
        whole = {name: np.concatenate([np.asarray(chunk) for chunk in chunks]) for name, chunks in rows.items()}
        here, waits = whole["told"], whole["waits"]
        told = data.Told(number(whole["X"])[here], number(whole["y"])[here], number(whole["pending"])[waits])
        words, shift, free = np.asarray(words), np.asarray(shift), np.asarray(free)
        X, valid, status = host_ask(words.tolist(), shift, told, number(free))
        return np.ascontiguousarray(X.astype(dtype)[..., None]).view(np.uint32), valid, np.int32(status)

    return call


def _bits(array):
    """Floats [...] as 32-bit words [..., 1 or 2]: the thread of a callback would round 64-bit floats."""
    words = jax.lax.bitcast_convert_type(array, jnp.uint32)
    return words if array.dtype.itemsize == 8 else words[..., None]


def _chunks(array):
    """An array in parts of few bytes."""
    rows = max(1, CHUNK_BYTES // (8 * max(1, array[:1].size)))
    return [array[first : first + rows] for first in range(0, max(1, array.shape[0]), rows)]


def _choose(lattice, settings, q, words: Sequence[int], shift, told: data.Told):
    """The next q points, which of them are new, and the status."""
    says_nothing = len(np.unique(told.y[np.isfinite(told.y)])) < 2
    if says_nothing or len(told.y) + len(told.pending) < settings.num_initial:
        X, valid = design_on_host(lattice, shift, told, q, settings.num_initial)
        return X, valid, _status(Status.INITIAL, valid)
    rng = np.random.default_rng(list(words))
    X, pending = np.zeros((0, lattice.num_dims)), told.pending
    for _ in range(q):
        X = np.concatenate([X, _best(lattice, settings, rng, told._replace(pending=np.concatenate([pending, X])))])
    others = lattice.round(rng.random((q + 16, lattice.num_dims)))
    X, valid = replace_seen(lattice, X, _seen(told, spare=q), others)
    return X, valid, _status(Status.OK, valid)


def _status(status, valid):
    return int(status if valid.all() else Status.EXHAUSTED)


def _seen(told, spare):
    X: Any = np.concatenate([told.X, told.pending, np.full((spare, told.X.shape[1]), 0.5)])
    real: Any = np.arange(len(X)) < len(X) - spare
    return Seen(X, real)


def _finite(told):
    """The data, with the worst value in place of failures; none if all failed."""
    ok = np.isfinite(told.y)
    if not ok.any():
        return told._replace(X=told.X[:0], y=told.y[:0])
    return told._replace(y=np.where(ok, told.y, told.y[ok].min()))


def _standardized(told):
    """The data with mean 0 and standard deviation 1, and what these were."""
    center, scale = told.y.mean(), told.y.std() or 1.0
    # Values that only rounding separates are equal to a tree, which breaks ties by chance.
    return told._replace(y=np.round((told.y - center) / scale, 9)), center, scale


def _best(lattice, settings, rng, told):
    """The candidate [1, d] of the largest expected improvement that is neither told nor pending."""
    told, _, _ = _standardized(_finite(told))
    words = rng.integers(2**32, size=2).tolist()
    if len(told.pending):
        believed = _fitted(lattice, settings, words, told)(told.pending)[0]
        told = told._replace(X=np.concatenate([told.X, told.pending]), y=np.concatenate([told.y, believed]))
    predict = _fitted(lattice, settings, words, told)
    means = predict(told.X)[0]
    best_f = means.max()
    seen = {point.tobytes() for point in lattice.round(told.X)}

    def gain(X):
        mean, std = predict(X)
        fresh = np.array([point.tobytes() not in seen for point in X])
        return np.where(fresh, _expected_improvement(mean, std, best_f), -1.0)

    X = lattice.round(rng.random((settings.num_candidates, lattice.num_dims)))
    starts = told.X[np.argsort(-means, kind="stable")[:NUM_STARTS]]
    gains = gain(X)
    for std in ROUNDS:
        near = _steps(lattice, rng, starts, std, settings.num_candidates // 3)
        X, gains = np.concatenate([X, near]), np.concatenate([gains, gain(near)])
        starts = X[np.argsort(-gains, kind="stable")[:NUM_STARTS]]
    return starts[:1]


def _steps(lattice, rng, starts, std, count):
    """Points [count, d] that differ from the starts in some columns: other categories, or a step along an order."""
    rows = starts[rng.integers(len(starts), size=count)]
    num_dims, sizes = lattice.num_dims, np.asarray(lattice.num_values)
    moves = rng.random(rows.shape) < min(1.0, 2.0 / num_dims)
    moves[np.arange(count), rng.integers(num_dims, size=count)] = True
    step = std * rng.standard_normal(rows.shape)
    # A step of an ordered column leads at least to the next value.
    step = np.where(sizes > 0, np.sign(step) * np.maximum(np.abs(step), 1.0 / np.maximum(sizes, 1)), step)
    moved = np.where(lattice.is_categorical, rng.random(rows.shape), np.clip(rows + step, 0.0, 1.0))
    return lattice.round(np.where(moves, moved, rows))


def _expected_improvement(mean, std, best_f):
    from scipy.special import ndtr

    std = np.maximum(std, 1e-12)
    z = (mean - best_f) / std
    return std * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi))


def _fitted(lattice, settings, words: Sequence[int], told):
    """The forest of standardized data, as a function from points [k, d] to means and standard deviations [k]."""
    from sklearn.ensemble import RandomForestRegressor

    seed = int(np.random.default_rng(list(words)).integers(2**31))
    model = RandomForestRegressor(
        settings.num_trees, min_samples_leaf=settings.min_samples_leaf, max_features=MAX_FEATURES, random_state=seed
    )
    model.fit(_features(lattice, told.X), told.y)
    trees = [estimator.tree_ for estimator in model.estimators_]

    def predict(X):
        features = _features(lattice, X)
        leaves = [tree.apply(features) for tree in trees]
        means = np.stack([tree.value[leaf, 0, 0] for tree, leaf in zip(trees, leaves, strict=True)])
        variances = np.stack([tree.impurity[leaf] for tree, leaf in zip(trees, leaves, strict=True)])
        std = np.sqrt(np.maximum(variances.mean(axis=0) + means.var(axis=0), 0.0))
        return means.mean(axis=0), std

    return predict


def _features(lattice, X):
    """The columns as trees see them: a category is one of several columns of zeros and ones."""
    categorical = np.asarray(lattice.is_categorical)
    P = np.asarray(lattice.positions(X))
    columns = [X[:, ~categorical]]
    for column in np.flatnonzero(categorical):
        columns.append(P[:, column, None] == np.arange(lattice.num_values[column]))
    return np.ascontiguousarray(np.concatenate(columns, axis=1), np.float32)

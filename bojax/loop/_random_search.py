"""Random search: independent uniform points, the baseline of every comparison (Bergstra and Bengio 2012)."""

from typing import NamedTuple

import jax

from bojax import data
from bojax._errors import Status
from bojax.loop._algorithm import (
    MIN_PENDING,
    Algorithm,
    Info,
    compiled_ask,
    keyed_init,
    status_of,
    tell_state,
)
from bojax.loop._design import replace_seen, seen_points
from bojax.optim import Lattice
from bojax.space import Space


class RandomSearchState(NamedTuple):
    """What the next `ask` of random search needs.

    Attributes:
        observations: the observations.
        pending: the pending points.
    """

    observations: data.Observations
    pending: data.Pending


def random_search(space: Space, *, q: int = 1, capacity: int = 64) -> Algorithm:
    """Uniformly random points without repetition.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `Info`.

    Raises:
        ValueError: when `q` or `capacity` is below 1.
        TypeError: when `space` is not a `Space`.

    Example:
        >>> import jax, bojax
        >>> algorithm = random_search(bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 9)), q=3)
        >>> X, state, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
        >>> X.shape
        (3, 2)
    """
    lattice = Lattice.of(space)
    if q < 1 or capacity < 1:
        raise ValueError(f"`q` and `capacity` must be at least 1, got {q} and {capacity}.")

    @keyed_init
    def init(key):
        del key
        return RandomSearchState(
            observations=data.empty(space.num_dims, capacity),
            pending=data.empty_pending(space.num_dims, max(q, MIN_PENDING)),
        )

    @compiled_ask
    def ask(key, state, held=None):
        seen, dtype = seen_points(state.observations, state.pending, q), state.observations.X.dtype
        here = lattice.hold(held)
        X, others = here.pin(space.sample(key, q, dtype)), space.sample(jax.random.fold_in(key, 1), q + 16, dtype)
        X = X if held is None else here.spread(X, jax.random.randint(jax.random.fold_in(key, 2), (), 0, 2**20))
        others = here.pin(others)
        X, valid = replace_seen(here, X, seen, others)
        status = status_of(Status.OK, state, valid)
        pending = data.add_pending(state.pending, X, valid)
        return X, state._replace(pending=pending), Info(status=status, valid=valid)

    def tell(state, X, y, **columns):
        return tell_state(space, state, X, y, **columns)

    return Algorithm(init=init, ask=ask, tell=tell, space=space, q=q)

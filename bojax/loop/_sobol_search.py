"""Sobol search: the points of one scrambled Sobol sequence, which fill the cube evenly however many are taken.

Point i is the exclusive or of the shift and of the direction integers of the bits of i's Gray code. Scrambling
multiplies the direction integers of each column by a random lower triangular matrix of bits, and the shift is random:

    x_i = shift ^ directions[j_1] ^ directions[j_2] ^ ...    for the set bits j of i ^ (i >> 1)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._errors import Status
from bojax._qmc import direction_integers, to_unit
from bojax._types import Array, Int
from bojax.loop._algorithm import MIN_PENDING, Algorithm, Info, compiled_ask, keyed_init, status_of, tell_state
from bojax.loop._design import replace_seen, seen_points
from bojax.loop._model_based import check_counts
from bojax.loop._sequence import BLOCK, first_unseen
from bojax.optim import Lattice
from bojax.space import Space

SPARE = 16
"""Further points that are looked for, since points of the sequence may coincide on a lattice."""


class SobolSearchState(NamedTuple):
    """What the next `ask` of Sobol search needs.

    Attributes:
        observations: the observations.
        pending: the pending points.
        directions: [d, 32] the scrambled direction integers, uint32.
        shift: [d] the digital shift, uint32.
    """

    observations: data.Observations
    pending: data.Pending
    directions: Int[Array, "d b"]
    shift: Int[Array, "d"]


def sobol_search(space: Space, *, q: int = 1, capacity: int = 64) -> Algorithm:
    """The points of a scrambled Sobol sequence, in order and without repetition.

    The sequence depends on the key of `init` alone and continues from one `ask` to the next. In discrete columns points
    go to the nearest value, each as probable as in `Space.sample`. If a point was told already, the next one takes its
    place; a finite space is searched to its end.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `Info`. Its key has no influence.

    Raises:
        ValueError: when `q` or `capacity` is below 1, or the space has more than 21,201 columns.
        TypeError: when `space` is not a `Space`.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.sobol_search(bojax.Space(x=bojax.Float(0.0, 1.0)), q=4)
        >>> X, state, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
        >>> sorted(int(4 * x) for x in X[:, 0].tolist())  # one point in each quarter
        [0, 1, 2, 3]

    Source: Owen (1998), "Scrambling Sobol' and Niederreiter-Xing points"; Matousek (1998), "On the L2-discrepancy for
        anchored boxes", for the matrices.
    """
    lattice = Lattice.of(space)
    check_counts(q=q, capacity=capacity)
    plain = direction_integers(space.num_dims)

    @keyed_init
    def init(key):
        keys = jax.random.split(key)
        return SobolSearchState(
            observations=data.empty(space.num_dims, capacity),
            pending=data.empty_pending(space.num_dims, max(q, MIN_PENDING)),
            directions=_scrambled(keys[0], plain),
            shift=jax.random.bits(keys[1], (space.num_dims,), jnp.uint32),
        )

    @compiled_ask
    def ask(key, state, held=None):
        del key
        seen, dtype = seen_points(state.observations, state.pending, q), state.observations.X.dtype
        here = lattice.hold(held)

        def points(numbers):
            gray = (numbers ^ (numbers >> 1)).astype(jnp.uint32)
            on = (gray[:, None] >> jnp.arange(plain.shape[1], dtype=jnp.uint32)[None, :] & 1).astype(bool)
            chosen = jnp.where(on[:, None, :], state.directions[None], jnp.uint32(0))
            bits = jax.lax.reduce(chosen, jnp.uint32(0), jax.lax.bitwise_xor, (2,)) ^ state.shift[None, :]
            return here.round(to_unit(bits, dtype))

        # Of distinct points as many can be seen as there are seen ones. On a lattice points coincide, and a search of
        # the neighborhood takes over where the sequence has nothing new.
        length = seen.X.shape[0] + q + SPARE + BLOCK
        unseen = first_unseen(here, points, jnp.int32(length), seen, q + SPARE)
        X, valid = replace_seen(here, unseen.X[:q], seen, unseen.X)
        X = here.round(X)
        pending = data.add_pending(state.pending, X, valid)
        return X, state._replace(pending=pending), Info(status_of(Status.OK, state, valid), valid)

    def tell(state, X, y, **columns):
        return tell_state(space, state, X, y, **columns)

    return Algorithm(init=init, ask=ask, tell=tell, space=space, q=q)


def _scrambled(key, directions):
    """The direction integers [d, b], each times a random lower triangular matrix of bits over the field of two."""
    d, b = directions.shape
    place = np.arange(b, dtype=np.uint32)  # of a row of the matrix, the most significant bit first
    own = np.uint32(1) << (b - 1 - place)
    above = ~((own << 1) - np.uint32(1))  # the bits before it; the shift drops the bit that overflows
    rows = jax.random.bits(key, (d, b), jnp.uint32) & above[None, :] | own[None, :]
    parity = jax.lax.population_count(rows[:, None, :] & directions[:, :, None]) & jnp.uint32(1)
    return jnp.sum(parity << (b - 1 - place)[None, None, :], axis=-1, dtype=jnp.uint32)

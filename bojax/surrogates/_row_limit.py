"""An exact surrogate of a limited number of rows, for thousands of observations.

The cost of an exact Gaussian process grows with the number of rows cubed. Beyond a limit it gets only some of them: a
quarter are the best ones. The others are chosen one after another where the distance to all kept rows, weighted by
rank, is largest (after Gonzalez 1985): good regions are kept densely but without near duplicates, and no evaluated
region is forgotten. The choice depends on the observations alone.
"""

import jax
import jax.numpy as jnp

from bojax._types import Array, Int
from bojax.data import Observations
from bojax.surrogates._base import Surrogate
from bojax.surrogates._inputs import accept_padding, bound, takes_padding

ROWS = 768
"""Most rows (benchmarks/results/surrogates.md)."""
HALVINGS = 8.0
"""How often the weight of a distance halves from the best to the worst row (benchmarks/results/surrogates.md)."""


def with_row_limit(surrogate: Surrogate, *, rows: int = ROWS) -> Surrogate:
    """Make a surrogate learn from a limited number of observations.

    Up to the limit nothing changes. Beyond it the surrogate gets the best observations and others spread over the cube,
    more densely where they are good. Use it inside of `with_output_transform`, whose quantiles are then those of all
    values.

    Args:
        surrogate: any `Surrogate`.
        rows: most observations, >= 2, 768 by default.

    Returns:
        A `Surrogate` with the same hyperparameters.

    Raises:
        ValueError: `rows` is below 2.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> surrogate = with_row_limit(gp(), rows=4)
        >>> X = jnp.linspace(0.0, 1.0, 16)[:, None]
        >>> seen = data.append(data.empty(1, 16), X, X[:, 0])
        >>> kept = surrogate.posterior(surrogate.init(1, seen.X.dtype), seen).X[:, 0]
        >>> [round(x, 2) for x in kept.tolist()]
        [1.0, 0.6, 0.8, 0.93]

    Source: Gonzalez (1985), "Clustering to minimize the maximum intercluster distance".
    """
    if rows < 2:
        raise ValueError(f"`rows` must be at least 2, got {rows}.")

    def fit(key, observations, params, **trusted):
        return surrogate.fit(key, limited(observations, rows), params, **trusted)

    def posterior(params, observations, num_spare=0):
        return surrogate.posterior(params, limited(observations, rows), num_spare)

    def bind(inputs):
        return with_row_limit(bound(surrogate, inputs, "surrogate"), rows=rows)

    limited_surrogate = Surrogate(
        init=surrogate.init,
        fit=jax.jit(fit),
        posterior=jax.jit(posterior, static_argnums=2),
        bind=bind,
        columns=surrogate.columns,
        resumes=surrogate.resumes,
    )
    return accept_padding(limited_surrogate) if takes_padding(surrogate) else limited_surrogate


def limited(observations: Observations, rows: int) -> Observations:
    """At most `rows` of the observations; all of them, and their padding, if the buffer holds no more.

    Args:
        observations: the data.
        rows: rows of the result, unless the buffer is smaller.

    Returns:
        A quarter of the rows are the best ones; the others are spread over the cube. Where fewer are real, all of them
        are kept.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> seen = data.append(data.empty(1, 8), jnp.array([[0.0], [0.25], [0.5], [1.0]]), jnp.arange(4.0))
        >>> limited(seen, 2).X.tolist()
        [[1.0], [0.5]]
    """
    if observations.capacity <= rows:
        return observations
    chosen, real = _choose(observations, rows)
    kept = jax.tree.map(lambda leaf: leaf[chosen] if leaf.ndim else leaf, observations)
    return kept._replace(mask=real, count=jnp.minimum(observations.count, jnp.int32(rows)))


def _choose(observations: Observations, rows: int) -> tuple[Int[Array, "r"], Array]:
    """Indices of the kept rows, and which of them are real."""
    X, mask = observations.X.T, observations.mask  # [d, n]: sums over the few coordinates are vectorized over rows
    order = jnp.argsort(jnp.where(mask, -observations.y, jnp.inf)).astype(jnp.int32)
    best = order[: max(rows // 4, 1)]
    rank = jnp.zeros(mask.shape, X.dtype).at[order].set(jnp.arange(mask.shape[0], dtype=X.dtype))
    weight = jnp.exp2(-HALVINGS * rank / jnp.maximum(jnp.sum(mask), 1))

    def choose(i, carry):
        left, chosen, real = carry
        farthest = jnp.argmax(left * weight).astype(jnp.int32)
        row = jnp.where(i < best.shape[0], best[jnp.minimum(i, best.shape[0] - 1)], farthest)
        new = left[row] >= 0.0
        left = jnp.minimum(left, jnp.sum((X - X[:, row][:, None]) ** 2, axis=0)).at[row].set(-1.0)
        return left, chosen.at[i].set(row), real.at[i].set(new)

    # `left` is the squared distance to the kept rows; -1 where a row is kept already or is not real.
    left = jnp.where(mask, jnp.inf, -1.0).astype(X.dtype)
    start = (left, jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool))
    _, chosen, real = jax.lax.fori_loop(0, rows, choose, start)
    return chosen, real

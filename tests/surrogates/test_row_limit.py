"""A surrogate with a row limit: unchanged below it, the right rows above, whatever the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import data, surrogates, testing
from bojax.surrogates._row_limit import limited
from bojax.surrogates.outputs import _half_rank


def observe(n, capacity, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    return data.from_numpy(X, np.sin(5.0 * X).sum(axis=1), capacity, np.float64, noise_var=np.arange(n) / n)


@pytest.mark.long
def test_it_is_a_surrogate():
    testing.check_surrogate(surrogates.with_row_limit(surrogates.gp(), rows=4), dtypes=["float64"])


@pytest.mark.long
def test_up_to_the_limit_nothing_changes(x64):
    seen = observe(12, 16)
    plain, limit = surrogates.gp(), surrogates.with_row_limit(surrogates.gp(), rows=16)
    assert limited(seen, 16) is seen and limit.resumes
    start, key = plain.init(2, jnp.float64), jax.random.key(0)
    (params, _), (same, _) = plain.fit(key, seen, start), limit.fit(key, seen, start)
    jax.tree.map(np.testing.assert_array_equal, params, same)


@pytest.mark.long
def test_the_best_rows_are_kept_and_the_others_spread(x64):
    seen = observe(40, 64)
    kept = limited(seen, 10)
    assert kept.mask.all() and kept.count == 10 and len(np.unique(kept.X, axis=0)) == 10
    np.testing.assert_array_equal(kept.y[:2], np.sort(seen.y[:40])[::-1][:2])
    rows = [int(np.flatnonzero((np.asarray(seen.X) == x).all(axis=1))[0]) for x in np.asarray(kept.X)]
    np.testing.assert_array_equal(kept.columns["noise_var"], seen.columns["noise_var"][np.array(rows)])
    # Every further row was, when chosen, the one whose weighted squared distance from those before it was largest.
    X, rank = np.asarray(seen.X[:40]), np.argsort(np.argsort(-np.asarray(seen.y[:40])))
    for i in range(2, 10):
        squares = np.min(np.sum((X[:, None] - X[rows[:i]][None]) ** 2, axis=-1), axis=1)
        assert rows[i] == np.argmax(squares * 2.0 ** (-8.0 * rank / 40))


def test_few_real_rows_are_all_kept_once(x64):
    seen = observe(5, 64)
    seen = seen._replace(mask=seen.mask.at[2].set(False))
    kept = limited(seen, 8)
    assert kept.mask.sum() == 4
    assert set(np.asarray(kept.y)[np.asarray(kept.mask)]) == set(np.asarray(seen.y)[np.asarray(seen.mask)])


@pytest.mark.long
def test_padding_does_not_matter(x64):
    kept, padded = limited(observe(40, 64), 10), limited(observe(40, 128), 10)
    jax.tree.map(np.testing.assert_array_equal, kept, padded)


def test_the_limit_is_checked():
    with pytest.raises(ValueError, match="`rows` must be at least 2, got 1"):
        surrogates.with_row_limit(surrogates.gp(), rows=1)


@pytest.mark.long
def test_ranks_of_many_values_are_those_of_few(x64, monkeypatch):
    rng = np.random.default_rng(0)
    y, mask = jnp.asarray(rng.integers(-9, 9, 50) * 1.0), jnp.asarray(rng.random(50) < 0.8)
    few = _half_rank.half_rank(y, mask)
    monkeypatch.setattr(_half_rank, "MAX_COMPARED", 10)
    np.testing.assert_array_equal(few, _half_rank.half_rank(y, mask))

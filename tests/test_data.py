"""The masked buffers: append, resize, pending points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import data

X = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)


def filled(y=(1.0, 2.0, 3.0), capacity=4):
    return data.append(data.empty(2, capacity), jnp.asarray(X), jnp.asarray(y))


def test_append_fills_the_first_rows():
    observations = filled()
    assert observations.count == 3 and observations.capacity == 4
    assert observations.mask.tolist() == observations.told.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(observations.X[:3], X)
    np.testing.assert_array_equal(observations.X[3], [0.5, 0.5])
    assert observations.y.tolist() == [1.0, 2.0, 3.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_failed_observations_are_told_but_masked(bad):
    observations = filled((1.0, bad, 3.0))
    assert observations.mask.tolist() == [True, False, True, False]
    assert observations.told.tolist() == [True, True, True, False]
    assert observations.count == 3
    np.testing.assert_array_equal(observations.y[1], np.float32(bad))


def test_rows_that_do_not_fit_are_counted_and_harm_nothing():
    full = data.append(filled(), jnp.asarray(X), jnp.array([7.0, 8.0, 9.0]))
    assert full.count == 6 and full.capacity == 4
    assert full.y.tolist() == [1.0, 2.0, 3.0, 7.0]
    assert full.told.all()


def test_resize_keeps_the_rows():
    wide = data.resize(filled(), 8)
    assert wide.capacity == 8 and wide.count == 3
    assert wide.mask.sum() == 3 and np.isfinite(wide.X).all()
    narrow = data.resize(wide, 3)
    assert narrow.y.tolist() == [1.0, 2.0, 3.0]
    again = data.append(wide, jnp.asarray(X[:1]), jnp.array([9.0]))
    assert again.y[3] == 9.0 and again.mask.sum() == 4


def test_append_works_under_jit_scan_and_vmap():
    def step(observations, row):
        return data.append(observations, row[0][None], row[1][None]), None

    rows = jnp.asarray(X), jnp.array([1.0, 2.0, 3.0])
    scanned = jax.jit(lambda rows: jax.lax.scan(step, data.empty(2, 4), rows)[0])(rows)
    jax.tree.map(np.testing.assert_array_equal, scanned, filled())
    batch = jax.vmap(lambda y: data.append(data.empty(2, 4), jnp.asarray(X), y))(jnp.arange(6.0).reshape(2, 3))
    assert batch.told.shape == (2, 4) and batch.capacity == 4
    assert batch.count.tolist() == [3, 3]


def test_from_numpy_is_append():
    y = np.array([1.0, np.nan, 3.0])
    jax.tree.map(np.testing.assert_array_equal, data.from_numpy(X, y, 4, np.float32, noise_var=None), filled(y))
    nothing = data.from_numpy(np.zeros((0, 2)), np.zeros(0), 16, np.float32)
    assert nothing.count == 0 and not nothing.mask.any()


@pytest.mark.parametrize(
    ("count", "capacity"),
    [(0, 16), (1, 16), (16, 16), (17, 32), (33, 64), (128, 128), (129, 160), (161, 192), (257, 320), (1000, 1024)],
)
def test_next_capacity(count, capacity):
    assert data.next_capacity(count) == capacity


def test_capacities_over_200_trials_are_few():
    assert len({data.next_capacity(n) for n in range(201)}) == 7


def test_an_empty_buffer_needs_room():
    with pytest.raises(ValueError, match="capacity"):
        data.empty(2, 0)


def test_pending_points_are_remembered_and_forgotten():
    pending = data.add_pending(data.empty_pending(2, 3), jnp.asarray(X[:2]), jnp.ones(2, bool))
    assert pending.mask.tolist() == [True, True, False]
    pending = data.remove_pending(pending, jnp.asarray(X[:1]))
    assert pending.mask.tolist() == [False, True, False]
    pending = data.add_pending(pending, jnp.asarray(X[2:]), jnp.ones(1, bool))
    assert pending.mask.sum() == 2
    kept = {tuple(row) for row in np.asarray(pending.X)[np.asarray(pending.mask)]}
    assert kept == {tuple(X[1]), tuple(X[2])}


def test_unknown_and_invalid_points_leave_pending_as_it_is():
    pending = data.add_pending(data.empty_pending(2, 3), jnp.asarray(X[:2]), jnp.array([True, False]))
    assert pending.mask.sum() == 1
    assert data.remove_pending(pending, jnp.asarray(X[2:])).mask.sum() == 1


def test_one_told_row_clears_one_of_two_equal_pending_rows():
    twice = jnp.asarray(np.repeat(X[:1], 2, axis=0))
    pending = data.add_pending(data.empty_pending(2, 3), twice, jnp.ones(2, bool))
    once = data.remove_pending(pending, twice[:1])
    assert once.mask.sum() == 1
    assert data.remove_pending(once, twice[:1]).mask.sum() == 0


def test_full_pending_slots_are_used_again():
    pending = data.empty_pending(2, 2)
    for i in range(3):
        pending = data.add_pending(pending, jnp.asarray(X[i : i + 1]), jnp.ones(1, bool))
    assert pending.mask.all()
    assert (np.asarray(pending.X) == X[2]).all(axis=1).any(), "the newest point must be among them"
    with pytest.raises(ValueError, match="room"):
        data.add_pending(pending, jnp.asarray(X), jnp.ones(3, bool))


def test_columns_are_kept_and_refused_by_name(x64):
    y = np.array([1.0, 2.0])
    seen = data.empty(2, 4, columns=("cost", "grad"))
    seen = data.append(seen, jnp.asarray(X[:2]), jnp.asarray(y), grad=jnp.ones((2, 2)))
    np.testing.assert_array_equal(seen.columns["cost"], np.zeros(4))
    np.testing.assert_array_equal(seen.columns["grad"][:, 0], [1.0, 1.0, np.nan, np.nan])
    assert data.resize(seen, 8).columns["grad"].shape == (8, 2)
    same = data.from_numpy(X[:2], y, 4, np.float64, cost=None, grad=np.ones((2, 2)))
    jax.tree.map(np.testing.assert_array_equal, same, seen)
    with pytest.raises(ValueError, match="`noise_var` must be left out"):
        data.append(seen, jnp.asarray(X[:1]), jnp.ones(1), noise_var=jnp.ones(1))
    with pytest.raises(TypeError, match="`noise` is no column of the data, which are noise_var, cost, grad"):
        data.append(seen, jnp.asarray(X[:1]), jnp.ones(1), noise=jnp.ones(1))

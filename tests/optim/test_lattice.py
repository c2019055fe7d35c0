"""Neighbors and unseen points of discrete columns; quasi-random points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bojax
from bojax.optim import _lattice as lattice_module
from bojax.optim import sobol
from bojax.space import MAX_MOVES
from tests.helpers import SPACES, make_lattice


def test_what_a_lattice_knows():
    lattice = make_lattice(SPACES["mixed"]())
    assert lattice.num_dims == 4 and lattice.is_discrete.tolist() == [False, True, True, True]
    assert lattice.has_discrete and not lattice.is_finite and lattice.kind.max_points == 0
    assert make_lattice(SPACES["finite"]()).kind.max_points == 18


@pytest.mark.long
def test_all_points_are_different_and_representable():
    space = SPACES["finite"]()
    points, real = lattice_module.all_points(make_lattice(space), jnp.float32)
    assert real.all()
    np.testing.assert_array_equal(space.round(points), points)
    assert len(np.unique(points, axis=0)) == 18


@pytest.mark.long
def test_neighbors_change_one_column_by_one_move():
    space = SPACES["mixed"]()
    lattice = make_lattice(space)
    X = space.sample(jax.random.key(0), 5)
    around = lattice_module.neighbors(jax.random.key(1), lattice, X)
    np.testing.assert_array_equal(around[:, 0], X)
    np.testing.assert_array_equal(space.round(around), around)
    np.testing.assert_array_equal(around[:, :, 0], jnp.broadcast_to(X[:, None, 0], around.shape[:2]))
    P, moved = space.positions(X), space.positions(around)
    changed = (moved != P[:, None, :]).sum(axis=-1)
    assert (changed <= 1).all()
    for i in range(5):
        reached = {int(c) for c in moved[i, :, 2]}
        assert reached == {0, 1, 2}, "every other category is a neighbor"
        ordered = {int(b) for b in moved[i, :, 1]}
        assert {b for b in (int(P[i, 1]) - 1, int(P[i, 1]) + 1) if 0 <= b < 9} <= ordered


@pytest.mark.long
def test_very_many_neighbors_are_thinned():
    space = bojax.Space({f"c{i}": bojax.Categorical(list(range(20))) for i in range(10)})
    lattice = make_lattice(space)
    X = space.sample(jax.random.key(0), 2)
    around = lattice_module.neighbors(jax.random.key(1), lattice, X)
    assert around.shape[1] == MAX_MOVES
    np.testing.assert_array_equal(around[:, 0], X)


@pytest.mark.long
def test_seen_points_are_known_by_position_not_by_bits():
    space = SPACES["finite"]()
    lattice = make_lattice(space)
    X = space.sample(jax.random.key(0), 3)
    shaken = X + 1e-6
    assert lattice_module.is_seen(lattice, X, shaken, jnp.ones(3, bool)).all()
    assert not lattice_module.is_seen(lattice, X, shaken, jnp.zeros(3, bool)).any()
    continuous = make_lattice(SPACES["continuous"]())
    X = X[:, :2]
    near, apart = jnp.array([[1e-6, 0.0]]), jnp.array([[0.0, 1e-3]])
    assert lattice_module.is_seen(continuous, X, X + near, jnp.ones(3, bool)).all()
    assert not lattice_module.is_seen(continuous, X, X + apart, jnp.ones(3, bool)).any()


def test_sobol_points_are_even_and_differ_by_key(x64):
    points = np.asarray(sobol(jax.random.key(0), 256, 3))
    assert points.dtype == np.float64 and ((points > 0) & (points < 1)).all()
    # A digital shift keeps one point in every 1/256 of each axis, and the low discrepancy.
    for column in points.T:
        assert len(np.unique(np.floor(column * 256))) == 256
    uniform = np.random.default_rng(0).random((256, 3))
    assert scipy.stats.qmc.discrepancy(points) < 0.3 * scipy.stats.qmc.discrepancy(uniform)
    assert np.abs(points - np.asarray(sobol(jax.random.key(1), 256, 3))).min() > 0
    np.testing.assert_array_equal(points, sobol(jax.random.key(0), 256, 3))


def test_sobol_points_in_float32_stay_inside_the_cube():
    points = sobol(jax.random.key(0), 1024, 2)
    assert points.dtype == jnp.float32
    assert ((points > 0) & (points < 1)).all()

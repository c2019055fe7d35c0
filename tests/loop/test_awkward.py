"""Data that break a careless optimizer, through the whole loop: every suggestion stays finite and in the cube."""

import jax
import numpy as np
import pytest

import bojax
from bojax import loop, surrogates
from bojax._errors import Status
from tests.helpers import SPACES, small_bayesopt, smooth

RNG = np.random.default_rng(0)
X = RNG.random((8, 2))
Y = smooth(X)

DATA = {
    "equal": (X, np.full(8, 3.0)),
    "zero": (X, np.zeros(8)),
    "huge": (X, 1e30 * Y),
    "tiny": (X, 1e-30 * Y),
    "offset": (X, 1e6 + Y),
    "outlier": (X, np.where(np.arange(8) == 3, -1e25, Y)),
    "one point told often": (np.repeat(X[:1], 8, axis=0), Y),
    "one point, equal values": (np.repeat(X[:1], 8, axis=0), np.ones(8)),
    "one observation": (X[:1], Y[:1]),
    "mostly failed": (X, np.where(np.arange(8) < 6, np.nan, Y)),
    "infinite": (X, np.where(np.arange(8) < 3, np.inf, Y)),
    "corners": (np.round(X), Y),
}


@pytest.fixture(scope="module")
def algorithm():
    return small_bayesopt(SPACES["continuous"](), num_initial=1)


@pytest.mark.long
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", DATA)
def test_three_rounds_after(algorithm, name, wide):
    told_X, told_y = DATA[name]
    with jax.enable_x64(wide):
        state = algorithm.tell(algorithm.init(jax.random.key(0)), told_X, told_y)
        state = loop.grow(state, 16)
        for i in range(3):
            X, state, info = algorithm.ask(jax.random.key(i), state)
            assert info.status in (Status.OK, Status.INITIAL)
            assert np.isfinite(X).all() and (X >= 0).all() and (X <= 1).all()
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
            magnitude = np.nanmax(np.where(np.isfinite(told_y), np.abs(told_y), 0.0))
            state = algorithm.tell(state, X, magnitude * np.sin(5.0 * np.asarray(X)).sum(axis=1))


@pytest.mark.long
def test_scaling_y_does_not_change_the_suggestions(x64, algorithm):
    """Powers of two scale without rounding, so all that follows is the same bit for bit."""
    suggestions = []
    for factor in (1.0, 2.0**80, 2.0**-80):
        state = loop.grow(algorithm.tell(algorithm.init(jax.random.key(0)), X, factor * Y), 16)
        suggestions.append(algorithm.ask(jax.random.key(1), state)[0])
    np.testing.assert_allclose(suggestions[1], suggestions[0], atol=1e-9)
    np.testing.assert_allclose(suggestions[2], suggestions[0], atol=1e-9)


NOISES = {"known": lambda: surrogates.known_noise(0.01), "fixed": lambda: surrogates.fixed_noise(1e-4)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("num_dims", "noise"), [pytest.param(1, "known", marks=pytest.mark.slow), (1, "fixed"), (50, "known")]
)
def test_one_and_fifty_dimensions_with_noise_that_is_not_learned(x64, num_dims, noise):
    space = bojax.Space({f"x{i}": bojax.Float(-1.0, 1.0) for i in range(num_dims)})
    surrogate = surrogates.gp(noise=NOISES[noise](), num_restarts=1, max_evals=20)
    algorithm = small_bayesopt(space, surrogate=surrogate, num_initial=2, capacity=8)
    state = algorithm.init(jax.random.key(0))
    for i in range(5):
        X, state, info = algorithm.ask(jax.random.key(i), state)
        assert info.status == (Status.INITIAL if i < 2 else Status.OK)
        assert np.isfinite(X).all() and X.shape == (1, num_dims)
        state = algorithm.tell(state, X, -np.square(np.asarray(X) - 0.3).sum(axis=1))
    assert state.observations.mask.sum() == 5

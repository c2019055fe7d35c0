"""Programs are compiled for shapes, and shapes are few."""

import jax
import numpy as np
import pytest

import bojax
from bojax import loop, surrogates
from bojax.optim import multistart
from tests.helpers import SPACES, count_traces, smooth

NONE = np.zeros((0, 2))


def test_asking_and_telling_compiles_once(x64):
    algorithm = bojax.random_search(SPACES["continuous"](), q=2, capacity=16)
    (ask, asks), (tell, tells) = count_traces(algorithm.ask), count_traces(algorithm.tell)
    state = algorithm.init(jax.random.key(0))
    for i in range(8):
        X, state, _ = ask(jax.random.key(i), state)
        state = tell(state, X, smooth(X))
    assert len(asks) == len(tells) == 1


@pytest.mark.long
def test_restoring_random_search_compiles_for_few_capacities(x64):
    algorithm = bojax.random_search(SPACES["continuous"]())
    rng = np.random.default_rng(0)
    X, y = rng.random((200, 2)), rng.normal(size=200)
    for n in range(0, 201, 3):
        algorithm.ask(
            jax.random.key(n), loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X[:n], y[:n], NONE))
        )
    assert algorithm.ask._cache_size() == 7  # 16, 32, 64, 128, 160, 192, 224


@pytest.mark.slow
def test_restoring_bayesopt_compiles_for_few_capacities(x64):
    surrogate = surrogates.gp(num_restarts=1, max_evals=5)
    algorithm = bojax.bayesopt(
        SPACES["continuous"](), surrogate=surrogate, optimizer=multistart(num_restarts=2, raw_samples=16)
    )
    init = algorithm.init(jax.random.key(0))
    X, y = np.zeros((0, 2)), np.zeros(0)
    for n in range(200):
        state = loop.restore(init, bojax.data.Told(X, y, NONE))
        x, _, info = algorithm.ask(jax.random.key(n), state)
        assert np.isfinite(x).all()
        X, y = np.concatenate([X, x]), np.append(y, smooth(np.asarray(x)))
    assert algorithm.ask._cache_size() <= 7


@pytest.mark.slow
def test_one_study_after_another_compiles_nothing(x64):
    algorithm = bojax.random_search(SPACES["mixed"](), q=2)
    traces = []

    def f(params):
        traces.append(None)
        return params["a"]

    for seed in range(3):
        bojax.run(jax.random.key(seed), algorithm, f, 4)
        if seed == 0:
            first = len(traces)
    assert len(traces) == first

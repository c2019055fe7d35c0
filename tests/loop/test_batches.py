"""Batches and pending points in whole studies: no point twice, nothing lost, few programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import acquisition, data, loop
from tests.helpers import SPACES, small_bayesopt

MIXED, FINITE, CONTINUOUS = SPACES["mixed"](), SPACES["finite"](), SPACES["continuous"]()


def value_of(X):
    return np.cos(4.0 * np.asarray(X)).sum(axis=-1)


def rows(X):
    return [tuple(row) for row in np.asarray(X)]


@pytest.mark.long
@pytest.mark.parametrize("rule", ["batch_log_ei", pytest.param("batch_log_nei", marks=pytest.mark.slow)])
def test_asynchronous_asking_and_telling(x64, rule):
    """Four asked for, one told, one asked for, and so on: pending points stay known and are not asked again."""
    algorithm = small_bayesopt(CONTINUOUS, q=1, acquisition=getattr(acquisition, rule)(num_samples=16))
    state, open_points, seen = algorithm.init(jax.random.key(0)), [], set()
    for i in range(4):
        X, state, _ = algorithm.ask(jax.random.key(i), state)
        open_points.append(X)
    for i in range(4, 12):
        told = open_points.pop(i % len(open_points))
        state = algorithm.tell(state, told, value_of(told))
        assert int(state.pending.mask.sum()) == len(open_points) == 3
        X, state, info = algorithm.ask(jax.random.key(i), state)
        open_points.append(X)
        seen |= set(rows(X))
        distance = np.abs(np.asarray(state.pending.X)[np.asarray(state.pending.mask)][:, None] - np.asarray(X)).max(-1)
        assert np.sum(distance < 1e-3) == 1  # the point itself
    assert len(seen) == 8
    assert int(state.observations.count) == 8


@pytest.mark.long
@pytest.mark.parametrize(
    ("space", "joint"),
    [
        pytest.param(MIXED, True, id="mixed-joint"),
        pytest.param(MIXED, False, id="mixed", marks=pytest.mark.slow),
        pytest.param(FINITE, False, id="finite"),  # it has nothing to polish jointly
    ],
)
def test_no_point_twice_in_batches_of_mixed_spaces(x64, space, joint):
    algorithm = small_bayesopt(
        space, q=4, num_initial=2, acquisition=acquisition.batch_log_ei(num_samples=16, joint=joint)
    )
    state, seen = algorithm.init(jax.random.key(1)), []
    for i in range(4):
        X, state, info = algorithm.ask(jax.random.key(i), state)
        assert np.array_equal(np.asarray(space.round(jnp.asarray(X))), np.asarray(X))
        seen += rows(np.asarray(X)[np.asarray(info.valid)])
        state = algorithm.tell(state, X, value_of(X))
    assert len(seen) == len(set(seen)) == 16


@pytest.mark.long
def test_pending_points_of_a_finite_space_are_not_asked_again(x64):
    algorithm = small_bayesopt(FINITE, q=4, max_pending=16)
    X = np.asarray(FINITE.round(jnp.asarray(np.random.default_rng(0).random((6, 2)))))
    state = loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X[:3], value_of(X[:3]), X[3:]))
    asked, state, _ = algorithm.ask(jax.random.key(0), state)
    assert len(set(rows(asked)) | set(rows(X))) == len(set(rows(X))) + 4


@pytest.mark.long
@pytest.mark.parametrize("q", [1, pytest.param(4, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)])
def test_programs_grow_with_the_logarithm_of_the_observations(x64, q):
    algorithm = small_bayesopt(CONTINUOUS, q=q, acquisition=acquisition.batch_log_nei(num_samples=8, num_baseline=4))
    init = algorithm.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    X = rng.random((36, 2))
    for n in range(3, 36, 6):
        state = loop.restore(init, bojax.data.Told(X[:n], value_of(X[:n]), X[:0]))
        asked, _, info = algorithm.ask(jax.random.key(n), state)
        assert asked.shape == (q, 2) and np.isfinite(asked).all()
    assert algorithm.ask._cache_size() == len({data.next_capacity(n) for n in range(3, 36, 6)}) == 3


@pytest.mark.long
def test_a_batch_through_a_study():
    study = bojax.Study(MIXED, seed=0, algorithm=lambda space, q: small_bayesopt(space, q=q))
    trials = study.ask(4)
    study.tell(trials[2], 1.0)
    trials += study.ask(1)
    for trial in trials[:2] + trials[3:]:
        study.tell(trial, float(trial.number))
    trials += study.ask(4)
    assert len({tuple(sorted(t.params.items())) for t in trials}) == 9
    assert [t.number for t in trials] == list(range(9))

"""Bayesian optimization with a random forest: its law, its determinism, and its two ways to be asked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data
from bojax.space import Lattice
from tests.helpers import SPACES, run_python

NOTHING = np.zeros((0, 4))


@functools.cache
def small(q=1):
    return bojax.forest(SPACES["mixed"](), q=q, num_trees=6, num_candidates=90, num_initial=4, capacity=16)


@functools.cache
def told(num_rows=12, seed=0):
    X = Lattice.of(SPACES["mixed"]()).round(np.random.default_rng(seed).random((num_rows, 4)))
    return data.Told(X, 100.0 * np.sin(3.0 * X[:, 0]) + 20.0 * X[:, 2], NOTHING)


def host(algorithm):
    assert algorithm.host is not None
    return algorithm.host


def predict(algorithm, told, X, words=(0,)):
    function = host(algorithm).predict
    assert function is not None
    return function(words, told, X)


def test_mean_and_variance_are_those_of_the_trees(monkeypatch):
    import sklearn.ensemble

    forests = []

    class Kept(sklearn.ensemble.RandomForestRegressor):
        def fit(self, X, y, *args, **kwargs):
            forests.append((self, X, y))
            return super().fit(X, y, *args, **kwargs)

    monkeypatch.setattr(sklearn.ensemble, "RandomForestRegressor", Kept)
    algorithm = bojax.forest(bojax.Space(x=bojax.Float(0.0, 1.0), z=bojax.Float(0.0, 1.0)), num_trees=8)
    rng = np.random.default_rng(1)
    X, query = rng.random((30, 2)), rng.random((5, 2))
    y = 50.0 + 7.0 * rng.random(30)
    mean, std = predict(algorithm, data.Told(X, y, X[:0]), query)
    (model, features, _), *others = forests
    assert not others and len(model.estimators_) == 8
    means, variances = np.zeros((8, 5)), np.zeros((8, 5))
    for i, tree in enumerate(model.estimators_):
        drawn = model.estimators_samples_[i]
        leaf_of, leaf = tree.apply(features)[drawn], tree.apply(query.astype(np.float32))
        for j in range(5):
            values = y[drawn][leaf_of == leaf[j]]
            means[i, j], variances[i, j] = values.mean(), values.var()
    np.testing.assert_allclose(mean, means.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std**2, variances.mean(axis=0) + means.var(axis=0), rtol=1e-5)


def test_suggestions_follow_from_words_and_data():
    ask, shift = host(small(2)).ask, np.arange(4, dtype=np.uint32)
    first, again, other = (ask(words, shift, told()) for words in [(1, 2), (1, 2), (1, 3)])
    assert (first[0] == again[0]).all() and (first[0] != other[0]).any()
    assert first[1].all() and first[2] == bojax.Status.OK
    assert (first[0] == Lattice.of(SPACES["mixed"]()).round(first[0])).all()


def test_compiled_code_asks_the_same_forest(x64):
    algorithm, key = small(2), jax.random.key(5)
    state = algorithm.init(jax.random.key(0))
    state = algorithm.tell(state, told().X, told().y)
    X, state, info = jax.jit(algorithm.ask)(key, state)
    words, shift = np.asarray(jax.random.key_data(key)).tolist(), np.asarray(state.shift)
    assert (np.asarray(X) == host(algorithm).ask(words, shift, told())[0]).all()
    assert int(info.status) == bojax.Status.OK and int(state.pending.mask.sum()) == 2


def test_the_design_comes_first_and_lasts_while_values_are_equal():
    ask, shift = host(small()).ask, np.arange(4, dtype=np.uint32)
    few = data.Told(told().X[:2], told().y[:2], NOTHING)
    equal = told()._replace(y=np.full(12, 3.0))
    failed = told()._replace(y=np.full(12, np.nan))
    assert [ask((0, 0), shift, some)[2] for some in (few, equal, failed)] == [bojax.Status.INITIAL] * 3


def test_held_and_pending_points():
    ask, shift = host(small(3)).ask, np.arange(4, dtype=np.uint32)
    held = np.array([np.nan, np.nan, told().X[0, 2], np.nan])
    X, valid, _ = ask((0, 1), shift, told(), held)
    assert (X[:, 2] == held[2]).all() and valid.all() and len(np.unique(X, axis=0)) == 3
    pending = told()._replace(pending=X)
    assert not {tuple(x) for x in ask((0, 1), shift, pending)[0]} & {tuple(x) for x in X}


def test_a_failure_counts_as_the_worst_value():
    algorithm = bojax.forest(bojax.Space(x=bojax.Float(0.0, 1.0)), num_trees=20)
    X = np.linspace(0.0, 1.0, 20)[:, None]
    y = np.where(X[:, 0] > 0.5, np.nan, 5.0 + X[:, 0])
    mean, _ = predict(algorithm, data.Told(X, y, X[:0]), np.array([[0.3], [0.9]]))
    assert mean[0] > 5.1 and abs(mean[1] - 5.0) < 0.05


def test_a_finite_space_is_exhausted():
    algorithm = bojax.forest(SPACES["finite"](), q=2, num_trees=2, num_candidates=30)
    P = np.stack(np.meshgrid((np.arange(6) + 0.5) / 6, (np.arange(3) + 0.5) / 3), axis=-1).reshape(-1, 2)
    X = Lattice.of(SPACES["finite"]()).round(P)
    rest = data.Told(X[:17], X[:17, 0], X[:0])
    asked, valid, status = host(algorithm).ask((0, 0), np.arange(2, dtype=np.uint32), rest)
    assert valid.tolist() == [True, False] and status == bojax.Status.EXHAUSTED
    np.testing.assert_allclose(asked[0], X[17])


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"num_trees": 1}, "`num_trees` must be a whole number of at least 2, got 1"),
        ({"min_samples_leaf": 0}, "`min_samples_leaf`"),
        ({"num_candidates": 0}, "`num_candidates`"),
        ({"num_initial": 0}, "`num_initial`"),
        ({"q": 0}, "`q`"),
        ({"capacity": 1.5}, "`capacity`"),
    ],
)
def test_bad_arguments_are_named(setting, match):
    with pytest.raises(ValueError, match=match):
        bojax.forest(SPACES["mixed"](), **setting)


def forest_of(space, q):
    return bojax.forest(space, q=q, num_trees=16, num_candidates=300)


@pytest.mark.long
def test_a_study_asks_and_predicts_without_compiling(compiled, tmp_path):
    space = {"x": bojax.Float(-1.0, 1.0), "kind": bojax.Categorical(["a", "b", "c"])}

    def objective(params):
        return (params["x"] - 0.4) ** 2 + (params["kind"] != "b")

    def study(storage, num_trials):
        study = bojax.Study(space, storage=storage, name="s", seed=1, algorithm=forest_of)
        study.optimize(objective, num_trials=num_trials, batch_size=2, progress=False)
        return study

    del compiled[:]
    whole = study(None, 24)
    mean, std = whole.predict([{"x": 0.4, "kind": "b"}, {"x": 0.4, "kind": "a"}])
    assert not compiled
    assert whole.best_value < 0.02 and mean[0] + 0.3 < mean[1] and (std > 0).all()
    url = f"sqlite:///{tmp_path}/a.db"
    study(url, 12)
    resumed = study(url, 12)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]


@pytest.mark.long
def test_a_callback_with_much_data_does_not_wait_forever():
    code = """
import jax, numpy as np, bojax
space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(20)})
algorithm = bojax.forest(space, num_trees=2, num_candidates=30)
def f(params):
    return sum(params.values())
with bojax.host_scope():
    X = np.random.default_rng(0).random((3000, 20))
    told = bojax.data.Told(X, X.sum(axis=1), X[:0])
    state = bojax.loop.restore(algorithm.init(jax.random.key(0)), told)
final = bojax.run(jax.random.key(0), algorithm, f, 3, state=state)
assert int(final.observations.count) == 3003
"""
    run_python(code, timeout=200)


@pytest.mark.long
def test_run_many_asks_one_forest_after_another():
    space = bojax.Space(x=bojax.Float(0.0, 1.0))
    algorithm = bojax.forest(space, num_trees=4, num_candidates=60, num_initial=3)
    keys = jax.random.split(jax.random.key(0), 2)
    finals = bojax.run_many(keys, algorithm, lambda p: -((p["x"] - 0.3) ** 2), 12, parallel="vmap")
    for i in range(2):
        alone = bojax.run(keys[i], algorithm, lambda p: -((p["x"] - 0.3) ** 2), 12)
        np.testing.assert_allclose(finals.observations.X[i], alone.observations.X, atol=1e-12)
    assert (-jnp.max(jnp.asarray(finals.observations.y), axis=1) < 0.01).all()

"""Expected improvement per cost: known costs, told costs, budgets, and studies that store them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, loop, surrogates, testing
from bojax._errors import Status
from bojax.optim import multistart
from bojax.study._study import core_of
from tests.helpers import small_gp

SPACE = bojax.Space(a=bojax.Float(0.0, 1.0), b=bojax.Float(0.0, 1.0))
NONE = np.zeros((0, 2))
RNG = np.random.default_rng(0)
X, Y = RNG.random((10, 2)), RNG.normal(size=10)
SETTINGS = {"num_initial": 3, "optimizer": multistart(num_restarts=2, raw_samples=64), "capacity": 16}


def small(**kwargs):
    learned = {} if "cost" in kwargs else {"cost": surrogates.gp(num_restarts=1, max_evals=30)}
    return loop.cost_aware(SPACE, surrogate=small_gp(), **(SETTINGS | learned | kwargs))


def price(params):
    return jnp.exp(3.0 * params["a"])


def prices(X):
    return np.exp(3.0 * np.asarray(X)[:, 0])


@pytest.fixture(scope="module")
def learning():
    return small()


@pytest.fixture(scope="module")
def plain():
    return bojax.bayesopt(SPACE, surrogate=small_gp(), **SETTINGS)


@pytest.mark.slow
def test_keeps_the_contract_of_algorithms():
    testing.check_algorithm(small(cost=price), num_rounds=5, dtypes=["float64"])


@pytest.mark.slow
def test_learning_costs_keeps_the_contract_of_algorithms():
    testing.check_algorithm(small(budget=30.0), num_rounds=5, dtypes=["float64"])


def plain_ask(plain, key, state):
    """What `bayesopt` asks for with the key that `cost_aware` hands on."""
    return plain.ask(jax.random.split(key)[1], state)


@pytest.mark.long
def test_without_costs_it_is_plain_bayesian_optimization(x64, learning, plain):
    state = loop.restore(learning.init(jax.random.key(0)), bojax.data.Told(X, Y, NONE))
    same = loop.restore(plain.init(jax.random.key(0)), bojax.data.Told(X, Y, NONE))
    found, _, info = learning.ask(jax.random.key(1), state)
    np.testing.assert_allclose(found, plain_ask(plain, jax.random.key(1), same)[0], atol=1e-6)
    assert info.spent == 0.0 and info.cost == 1.0 and info.status == Status.OK


@pytest.mark.long
def test_a_spent_budget_forgets_the_costs(x64, plain):
    state = loop.restore(plain.init(jax.random.key(0)), bojax.data.Told(X, Y, NONE))
    algorithm = small(cost=price, budget=0.5 * prices(X).sum())
    mine = loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X, Y, NONE))
    found, _, info = algorithm.ask(jax.random.key(1), mine)
    np.testing.assert_allclose(found, plain_ask(plain, jax.random.key(1), state)[0], atol=1e-6)
    np.testing.assert_allclose(info.spent, prices(X).sum(), rtol=1e-6)
    np.testing.assert_allclose(info.cost, prices(found), rtol=1e-6)


@pytest.mark.long
def test_told_costs_are_learned_of_failed_rows_too(x64, learning):
    state = learning.init(jax.random.key(0))
    cost = prices(X)
    cost[3] = np.nan  # not known
    y = np.where(np.arange(10) % 4 == 1, np.nan, Y)
    state = learning.tell(state, X, y, cost=cost)
    np.testing.assert_allclose(state.observations.columns["cost"][:10], np.where(np.isnan(cost), 0.0, cost))
    found, state, info = learning.ask(jax.random.key(1), state)
    np.testing.assert_allclose(info.spent, np.nansum(cost), rtol=1e-9)
    np.testing.assert_allclose(info.cost, prices(found), rtol=0.25)
    assert loop.grow(state, 32).observations.columns["cost"].shape == (32,)
    restored = loop.restore(
        learning.init(jax.random.key(0)), bojax.data.Told(X, y, NONE, {"cost": np.nan_to_num(cost)})
    )
    np.testing.assert_allclose(restored.observations.columns["cost"], state.observations.columns["cost"])


@pytest.mark.long
def test_evaluations_are_cheaper_and_as_good():
    def f(params):
        value = -((params["b"] - 0.3) ** 2)  # any `a` will do
        return value - 0.01 * (params["a"] - 0.7) ** 2

    keys = jax.random.split(jax.random.key(0), 3)
    cheap = bojax.run_many(keys, small(cost=price), f, 14).observations
    dear = bojax.run_many(keys, bojax.bayesopt(SPACE, surrogate=small_gp(), **SETTINGS), f, 14).observations
    spent = [np.exp(3.0 * seen.X[:, :14, 0]).sum(axis=1) for seen in (cheap, dear)]
    assert spent[0].sum() < 0.7 * spent[1].sum(), spent
    assert np.median(cheap.y.max(axis=1)) > -0.01


def test_costs_are_checked():
    learning = small()
    state = learning.init(jax.random.key(0))
    for cost in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="`cost` must be positive and finite, or NaN"):
            learning.tell(state, X[:1], Y[:1], cost=[cost])
    with pytest.raises(ValueError, match="`budget` must be positive"):
        small(budget=0.0)
    with pytest.raises(TypeError, match=r"`cost` must be .* forget the parentheses: gp\(\)"):
        loop.cost_aware(SPACE, cost=surrogates.gp)
    with pytest.raises(ValueError, match="`cost` must be left out"):
        data.append(data.empty(2, 4), jnp.asarray(X[:1]), jnp.asarray(Y[:1]), cost=jnp.ones(1))
    with pytest.raises(ValueError, match="`q` must be"):
        small(q=0)


@pytest.mark.long
def test_a_study_stores_costs_and_goes_on_with_them(tmp_path):
    def algorithm(space, q):
        return small(q=q)

    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = bojax.Study(SPACE, direction="maximize", storage=url, seed=0, algorithm=algorithm)
    for i in range(5):
        (trial,) = study.ask()
        cost = float(price(trial.params))
        value = None if i == 1 else -((trial.params["b"] - 0.3) ** 2)
        study.tell(trial, value, state="fail" if i == 1 else None, cost=cost)
        assert study.trials[i].user_attrs["bojax:cost"] == cost
    (trial,) = study.ask()
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match="`cost` must be positive and finite"):
            study.tell(trial, 1.0, cost=bad)
    again = bojax.Study(storage=url, algorithm=algorithm)
    X, y, _, columns = core_of(again).ledger.refresh().told()
    cost = columns["cost"]
    np.testing.assert_allclose(cost, np.exp(3.0 * X[:, 0]), rtol=1e-5)
    assert np.isnan(y[1]) and len(y) == 5
    known = bojax.Study(SPACE, storage=url, name="known", seed=0, algorithm=lambda space, q: small(cost=price, q=q))
    known.optimize(lambda params: params["a"], num_trials=4, progress=False)
    assert len(known.trials) == 4


def test_costs_and_gradients_are_learned_together(x64):
    algorithm = loop.cost_aware(SPACE, surrogate=surrogates.gradient_gp(), capacity=4)
    assert set(algorithm.columns) == {"noise_var", "cost", "grad"}
    state = algorithm.init(jax.random.key(0))
    state = algorithm.tell(state, X[:2], Y[:2], cost=[2.0, 3.0], grad=np.ones((2, 2)))
    kept = state.observations.columns
    np.testing.assert_array_equal(kept["cost"][:3], [2.0, 3.0, 0.0])
    np.testing.assert_array_equal(kept["grad"][:2], np.ones((2, 2)))

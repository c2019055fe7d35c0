"""Evolutionary algorithms: generations of evosax behind asks of any size, and states that follow from the data."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data
from bojax.loop._evolution import evosax_strategy, reflected
from tests.helpers import run_python

METHODS = {
    "genetic": functools.partial(bojax.genetic, popsize=6),
    "pso": functools.partial(bojax.pso, popsize=6),
    "differential_evolution": functools.partial(bojax.differential_evolution, popsize=6),
    "cma_es": functools.partial(bojax.cma_es, popsize=6),
}


@functools.cache
def plane():
    return bojax.Space(a=bojax.Float(0.0, 1.0), b=bojax.Float(0.0, 1.0))


@functools.cache
def made(name, q=6, capacity=16):
    """An algorithm of the plane, its `ask` and `tell` compiled once."""
    algorithm = METHODS[name](plane(), q=q, capacity=capacity)
    return algorithm._replace(ask=jax.jit(algorithm.ask), tell=jax.jit(algorithm.tell))


def value(X):
    return -jnp.sum((X - jnp.array([0.3, 0.6])[None, :]) ** 2, axis=-1)


def after(algorithm, num_rounds, seed=0, y=value):
    state = algorithm.init(jax.random.key(seed))
    for i in range(num_rounds):
        X, state, _ = algorithm.ask(jax.random.key(100 + i), state)
        state = algorithm.tell(state, X, y(X))
    return state


def rows(X):
    return {tuple(np.round(np.asarray(x), 12).tolist()) for x in X}


@pytest.mark.long
def test_cma_es_is_that_of_evosax(x64):
    from evosax.algorithms import CMA_ES

    num_dims, popsize, scales = 3, 8, jnp.array([1.0, 30.0, 5.0])
    space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(num_dims)})
    algorithm = bojax.cma_es(space, q=popsize, popsize=popsize, std=0.15, capacity=128)
    ask = jax.jit(algorithm.ask)

    def loss(X):
        return jnp.sum(scales[None, :] * (X - 0.4) ** 2, axis=-1)

    with jax.numpy_rank_promotion("allow"):
        theirs = CMA_ES(popsize, jnp.zeros(num_dims))
        params = theirs.default_params.replace(std_init=jnp.asarray(0.15))
        evolved = theirs.init(jax.random.key(7), jnp.full(num_dims, 0.5), params)
    state = algorithm.init(jax.random.key(0))
    stream = jax.random.wrap_key_data(state.stream, impl="threefry2x32")
    num_reflected = 0
    for generation in range(12):
        X, state, info = ask(jax.random.key(100 + generation), state)
        assert int(info.generation) == generation
        for name in ("mean", "std", "C", "p_c", "p_std"):
            ours = getattr(state.evolved, name)
            np.testing.assert_allclose(ours, getattr(evolved, name), rtol=1e-9, atol=1e-12, err_msg=name)
        with jax.numpy_rank_promotion("allow"):
            members, evolved = theirs.ask(jax.random.fold_in(stream, generation), evolved, params)
            num_reflected += int(jnp.sum((members < 0) | (members > 1)))
            members = reflected(members)
            np.testing.assert_allclose(X, members, atol=1e-11)
            evolved, _ = theirs.tell(jax.random.key(9), members, loss(members), evolved, params)
        state = algorithm.tell(state, X, -loss(X))
    assert num_reflected < 4  # nearly all members are evosax's, untouched
    assert float(state.evolved.std) < 0.15


def test_asks_of_any_size_hand_out_one_generation():
    whole, parts = made("cma_es"), made("cma_es", q=4)
    state = whole.init(jax.random.key(3))
    members = rows(whole.ask(jax.random.key(0), state)[0])
    first, state, info = parts.ask(jax.random.key(1), state)
    second, state, _ = parts.ask(jax.random.key(2), state)
    assert len(members) == 6 and int(info.generation) == 0
    assert members < rows([*first, *second])  # and two further points, since nobody waits
    assert len(rows([*first, *second])) == 8


@pytest.mark.parametrize("name", METHODS)
def test_a_state_follows_from_the_data_alone(name):
    algorithm = made(name)
    state = after(algorithm, 2)
    told = state.observations
    X, y = np.asarray(told.X[:12]), np.asarray(told.y[:12])
    rebuilt = bojax.loop.restore(algorithm.init(jax.random.key(0)), data.Told(X, y, X[:0]))
    asked, again = (algorithm.ask(jax.random.key(9), s)[0] for s in (state, rebuilt))
    np.testing.assert_allclose(asked, again, atol=1e-6)
    fewer = bojax.loop.restore(algorithm.init(jax.random.key(0)), data.Told(X[:6], y[:6], X[:0]))
    np.testing.assert_allclose(algorithm.ask(jax.random.key(101), fewer)[0], X[6:], atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_results_within_a_generation_does_not_matter(name):
    algorithm = made(name)
    X, state, _ = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
    order = np.array([4, 2, 0, 5, 1, 3])
    straight = algorithm.ask(jax.random.key(2), algorithm.tell(state, X, value(X)))[0]
    mixed = algorithm.ask(jax.random.key(2), algorithm.tell(state, X[order], value(X)[order]))[0]
    np.testing.assert_allclose(straight, mixed, atol=1e-6)


def test_a_pending_member_is_not_handed_out_again_and_a_lost_one_is():
    algorithm = made("cma_es")
    X, state, _ = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
    state = algorithm.tell(state, X[:4], value(X[:4]))
    while_pending = algorithm.ask(jax.random.key(2), state)[0]
    assert not rows(while_pending) & rows(X)
    lost = state._replace(pending=data.empty_pending(2, 8, X.dtype))
    assert rows(algorithm.ask(jax.random.key(2), lost)[0][:2]) == rows(X[4:])


@pytest.mark.parametrize("name", ["pso", "differential_evolution"])
def test_a_failure_is_worse_than_every_value(name):
    algorithm = made(name)
    state = after(algorithm, 1)
    X, state, _ = algorithm.ask(jax.random.key(5), state)
    before = state.evolved
    y = jnp.full(6, jnp.nan).at[2].set(10.0)
    state = algorithm.tell(state, X, y)
    evolved = algorithm.ask(jax.random.key(6), state)[1].evolved
    kept = evolved.population_best if name == "pso" else evolved.population
    for i in range(6):
        expected = X[i] if i == 2 else before.population[i]
        np.testing.assert_allclose(kept[i], expected, atol=1e-6)


def test_a_generation_of_failures_teaches_nothing():
    algorithm = made("differential_evolution")
    X, state, _ = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
    state = algorithm.tell(state, X, jnp.full(6, jnp.nan))
    other, state, info = algorithm.ask(jax.random.key(1), state)
    assert info.status == bojax.Status.INITIAL and int(info.generation) == 1
    assert not rows(X) & rows(other)
    state = algorithm.tell(state, other, value(other))
    assert algorithm.ask(jax.random.key(1), state)[2].status == bojax.Status.OK


def test_points_of_others_are_injected_into_cma_es():
    algorithm = made("cma_es")
    state = algorithm.init(jax.random.key(0))
    far = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.5], [0.5, 0.0]])
    small = state._replace(evolved=state.evolved.replace(std=jnp.asarray(0.001, far.dtype)))
    told = algorithm.tell(small, far, jnp.arange(6.0))
    evolved = algorithm.ask(jax.random.key(1), told)[1].evolved
    limit = np.sqrt(2) + 2 * 2 / 4
    moved = np.abs(np.asarray(evolved.mean) - 0.5).max()
    assert 0.0 < moved <= limit * 0.001 * (1 + 1e-4)
    assert float(evolved.std) < 0.01


def test_reflection_leads_into_the_cube():
    X = jnp.array([[-0.2, 1.3], [0.0, 1.0], [2.25, -1.5], [0.4, 0.999]])
    np.testing.assert_allclose(reflected(X), [[0.2, 0.7], [0.0, 1.0], [0.25, 0.5], [0.4, 0.999]], atol=1e-6)


def test_discrete_members_go_on_from_where_they_were_drawn():
    space = bojax.Space(n=bojax.Int(1, 4), x=bojax.Float(0.0, 1.0))
    algorithm = bojax.pso(space, q=4, popsize=4, capacity=16)
    X, state, _ = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
    assert rows(X) == rows(space.round(X))
    evolved = algorithm.ask(jax.random.key(2), algorithm.tell(state, X, X[:, 1]))[1].evolved
    assert not rows(evolved.population) & rows(X)
    np.testing.assert_allclose(space.round(evolved.population), X, atol=1e-6)


def test_categories_are_drawn_anew():
    space = bojax.Space(kind=bojax.Categorical(list("abcdefgh")), x=bojax.Float(0.0, 1.0))
    algorithm = bojax.genetic(space, q=8, popsize=8, crossover_rate=0.0, category_rate=1.0, capacity=16)
    X, state, _ = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
    state = algorithm.tell(state, X, jnp.arange(8.0))
    children = space.decode(algorithm.ask(jax.random.key(2), state)[0])["kind"]
    parents = space.decode(X[-2:])["kind"]  # a quarter of eight
    assert len(set(np.asarray(children).tolist()) - set(np.asarray(parents).tolist())) >= 2


def test_held_coordinates_are_held():
    algorithm = made("genetic")
    X, _, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)), jnp.array([0.25, jnp.nan]))
    assert (X[:, 0] == 0.25).all() and len(rows(X)) == 6 and info.valid.all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bojax.pso(plane(), popsize=1), "`popsize` must be a whole number of at least 2, got 1"),
        (lambda: bojax.differential_evolution(plane(), popsize=3), "at least 4, got 3"),
        (lambda: bojax.cma_es(plane(), popsize=3), "`popsize`"),
        (lambda: bojax.cma_es(plane(), std=0.0), "`std` must be between"),
        (lambda: bojax.genetic(plane(), q=0), "`q`"),
        (lambda: bojax.genetic(plane(), capacity=0), "`capacity`"),
        (lambda: bojax.genetic(plane(), elite_ratio=0.0), "`elite_ratio`"),
        (lambda: bojax.genetic(plane(), category_rate=0.2), "no Categorical"),
        (lambda: bojax.genetic(bojax.Space(k=bojax.Categorical(["a", "b"])), mutation_std=0.2), "Categoricals only"),
        (lambda: bojax.pso(plane(), inertia=1.5), "`inertia` must be between 0 and 1, got 1.5"),
        (lambda: bojax.differential_evolution(plane(), crossover_rate=-0.1), "`crossover_rate`"),
    ],
)
def test_bad_arguments_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_without_evosax_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "evosax", None)
    evosax_strategy.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'bojax\[evolution\]'"):
        bojax.pso(plane())


@pytest.mark.long
def test_evosax_changes_no_setting_of_jax():
    code = """
import jax, bojax
before = dict(jax.config.values)
bojax.cma_es(bojax.Space(x=bojax.Float(0.0, 1.0)))
import sys
assert "evosax" in sys.modules
assert dict(jax.config.values) == before
"""
    run_python(code, timeout=100)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:trial .* failed. RuntimeError. too many")
def test_a_study_that_is_resumed_goes_on_as_an_uninterrupted_one(tmp_path):
    space = {"x": bojax.Float(0.1, 10.0, log=True), "n": bojax.Int(1, 5), "kind": bojax.Categorical(["a", "b"])}

    def algorithm(space, q):
        return bojax.differential_evolution(space, q=q, popsize=4)

    def objective(params):
        if params["n"] == 5:
            raise RuntimeError("too many")
        return (params["x"] - 3.0) ** 2 + params["n"] + (params["kind"] == "a")

    def study(storage, num_trials):
        study = bojax.Study(space, storage=storage, name="s", seed=0, algorithm=algorithm)
        study.optimize(objective, num_trials=num_trials, batch_size=3, progress=False)
        return [trial.params for trial in study.trials]

    url = f"sqlite:///{tmp_path}/a.db"
    study(url, 9)
    resumed, whole = study(url, 9), study(None, 18)
    assert [p["kind"] for p in resumed] == [p["kind"] for p in whole]
    np.testing.assert_allclose([p["x"] for p in resumed], [p["x"] for p in whole], rtol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("name", "bound"), [("genetic", 5e-3), ("pso", 1e-3)])
def test_populations_approach_an_optimum(name, bound):
    algorithm = METHODS[name](plane(), q=6)
    final = bojax.run(jax.random.key(0), algorithm, lambda p: -((p["a"] - 0.3) ** 2) - (p["b"] - 0.6) ** 2, 30)
    assert -final.observations.y.max() < bound


@pytest.mark.long
def test_step_sizes_may_differ_between_the_studies_of_run_many():
    def algorithm(settings):
        return bojax.cma_es(plane(), q=6, popsize=6, std=settings["std"])

    keys = jax.random.split(jax.random.key(0), 2)
    settings = {"std": np.array([1e-3, 0.3])}
    finals = bojax.run_many(keys, algorithm, lambda p: -((p["a"] - 0.3) ** 2), 6, settings=settings, parallel="vmap")
    spread = np.asarray(finals.observations.X[:, :6]).std(axis=(1, 2))
    assert spread[0] < 0.01 < 0.1 < spread[1]

"""Parameters held at given values: the others are chosen in their light, whichever door the values came through."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import BojaxWarning, Categorical, Float, Int, Space, SpaceExhaustedError, Status, Study
from bojax.data import Observations, Pending
from bojax.loop import Algorithm, Info

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "act": Categorical(["relu", "tanh"]), "n": Int(1, 4)})
GRID = Space({"a": Int(1, 3), "b": Categorical(["u", "v"])})
FULL = {"x": 0.25, "y": 0.75, "act": "tanh", "n": 2}


class State(NamedTuple):
    observations: Observations
    pending: Pending


def follower(space, q):
    """Free parameters follow from held ones and from the number of pending points: a probe that takes `held`."""

    def init(key):
        X, y = jnp.full((16, space.num_dims), 0.5), jnp.zeros(16)
        return State(Observations(X, y, jnp.zeros(16, bool), jnp.int32(0)), Pending(X[:8], jnp.zeros(8, bool)))

    def ask(key, state, held=None):
        held = jnp.full(space.num_dims, jnp.nan) if held is None else held
        mark = jnp.sum(jnp.nan_to_num(held)) + 0.1 * jnp.sum(state.pending.mask)
        free = jnp.abs(jnp.sin(mark + jnp.arange(1.0, q * space.num_dims + 1))).reshape(q, -1)
        X = space.round(jnp.where(jnp.isnan(held)[None], free, held[None]))
        return X, state, Info(jnp.int32(Status.OK), jnp.ones(q, bool))

    return Algorithm(init, ask, lambda state, X, y: state, space, q)


def unwilling(space, q):
    """An algorithm whose `ask` knows nothing of held parameters."""
    inner = follower(space, q)
    return inner._replace(ask=lambda key, state: inner.ask(key, state))


def careless(space, q):
    """Random search that knows nothing of held parameters."""
    inner = random_search(space, q)
    return inner._replace(ask=lambda key, state: inner.ask(key, state))


def strict(space, q):
    """An algorithm that must not be passed `held` where nothing is held."""
    inner = follower(space, q)

    def ask(key, state, held="nothing"):
        assert isinstance(held, str)
        return inner.ask(key, state)

    return inner._replace(ask=ask)


def random_search(space, q):
    return bojax.random_search(space, q=q)


def make(space=SPACE, algorithm=follower, **kwargs):
    return Study(space, seed=0, algorithm=algorithm, **kwargs)


def suggest_all(trial):
    trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_float("y", 0.0, 1.0)
    trial.suggest_categorical("act", ["relu", "tanh"])
    return float(trial.suggest_int("n", 1, 4))


def test_all_doors_hold_parameters_alike():
    """The probe's free parameters follow from the held ones, so a door that does not tell it gives other points."""
    free = make().ask()[0].params
    held = {"x": 0.9, "n": 3}
    first = make().ask(fixed={"n": jnp.int32(3), "x": np.float64(0.9)})[0].params
    assert {name: first[name] for name in held} == held and first["y"] != free["y"]
    assert [type(value) for value in first.values()] == [float, float, str, int]

    def enqueued():
        study = make()
        study.enqueue(held)
        return study.ask()[0].params

    def enqueued_by_optuna():
        study = make()
        study.optuna.enqueue_trial(held)
        return study.ask()[0].params

    def enqueued_for_optuna():
        study = make()
        study.enqueue(held)
        study.optuna.optimize(suggest_all, n_trials=1)
        return study.trials[0].params

    assert enqueued() == enqueued_by_optuna() == enqueued_for_optuna() == first


@pytest.mark.long
@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
def test_a_batch_may_hold_different_parameters(kind, tmp_path):
    storages = {"memory": None, "sqlite": f"sqlite:///{tmp_path}/s.db", "journal": f"journal:///{tmp_path}/s.log"}
    study = make(storage=storages[kind])
    for params in ({"x": 0.9}, {"act": "relu"}, FULL, {"x": 0.9}):
        study.enqueue(params)
    batch = study.ask(6)
    assert [trial.number for trial in batch] == list(range(6))
    assert batch[2].params == FULL
    assert batch[0].params["x"] == batch[3].params["x"] == 0.9 and batch[1].params["act"] == "relu"
    points = [tuple(trial.params.values()) for trial in batch]
    assert len(set(points)) == 6
    # Each group sees those before it as pending: FULL, then the two with x, then the one with act, then the free ones.
    again = make()
    for held, trials in (({"x": 0.9}, (batch[0], batch[3])), ({"act": "relu"}, batch[1:2]), (None, batch[4:])):
        if held == {"x": 0.9}:
            again.ask(fixed=FULL)
        assert [t.params for t in again.ask(len(trials), fixed=held)] == [t.params for t in trials]
    assert study.trials == (study if kind == "memory" else make(storage=storages[kind])).trials


def test_fixed_values_leave_the_queue_in_line():
    study = make()
    study.enqueue(FULL)
    assert study.ask(2, fixed={"x": 0.5})[1].params["x"] == 0.5
    assert [trial.state for trial in study.trials] == ["waiting", "running", "running"]
    assert study.ask()[0].params == FULL


def test_held_values_are_exact_and_studies_with_them_resume(tmp_path):
    space = Space(rate=Float(1e-5, 1e-1, log=True), n=Int(16, 512, log=True), y=Float(-3.0, 7.0))
    held = {"rate": 3e-4, "n": 100}

    def play(study, reopen):
        asked = []
        for step in range(4):
            trial = study.ask(fixed=held if step % 2 else {"y": 0.1})[0]
            asked.append(trial.params)
            study.tell(trial, trial.params["y"])
            study = reopen() or study
        return asked

    url = f"sqlite:///{tmp_path}/s.db"
    asked = play(make(space), lambda: None)
    assert asked == play(make(space, storage=url), lambda: make(space, storage=url))
    assert all(params["y"] == 0.1 for params in asked[::2])
    assert all((params["rate"], params["n"]) == (3e-4, 100) for params in asked[1::2])


@pytest.mark.parametrize(
    ("fixed", "error"),
    [
        ({}, ValueError),
        ({"z": 1.0}, ValueError),
        ({"x": 2.0}, ValueError),
        ({"x": float("nan")}, ValueError),
        ({"x": "0.5"}, TypeError),
        ({"n": 1.5}, TypeError),
        ({"act": "gelu"}, ValueError),
        ("x", TypeError),
        (0.9, TypeError),
    ],
)
def test_what_cannot_be_held_is_refused_at_once(fixed, error):
    study = make()
    with pytest.raises(error, match="`fixed`|`x`|`n`|`act`"):
        study.ask(fixed=fixed)
    with pytest.raises(error):
        study.enqueue(fixed)
    assert study.optuna.trials == []


def test_an_algorithm_that_cannot_hold_is_written_over_and_said_so():
    study = make(algorithm=unwilling)
    with pytest.warns(BojaxWarning, match="written over") as caught:
        first = study.ask(fixed={"x": 0.9})[0]
        study.ask(2, fixed={"act": "relu"})
    assert len(caught) == 1 and first.params["x"] == 0.9
    assert first.params["y"] == make().ask()[0].params["y"]


def test_the_ordinary_program_is_not_changed():
    study = make(algorithm=strict)
    assert [trial.params for trial in study.ask(2)] == [trial.params for trial in make().ask(2)]


def test_values_outside_the_space_are_not_held():
    study = make()
    study.optuna.enqueue_trial({"x": 0.9, "n": 17, "other": 3})
    with pytest.warns(Warning):
        params = study.ask()[0].params
    assert params == make().ask(fixed={"x": 0.9})[0].params | {"n": 17}


ALGORITHMS = {
    "random search": random_search,
    "bayesopt": None,
    "thompson": lambda space, q: bojax.thompson(space, q=q),
    "turbo": lambda space, q: bojax.turbo(space, q=q),
    "hybrid": lambda space, q: bojax.loop.hybrid(space, q=q),
    "cost aware": lambda space, q: bojax.loop.cost_aware(space, q=q),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(ALGORITHMS)[2:]]


@pytest.mark.long
@pytest.mark.parametrize("name", ["random search", "bayesopt", *SLOW])
def test_the_free_parameters_are_chosen_given_the_held_ones(name):
    """(y - x)^2, smallest at y = x: with x held, the best of four y must be near. As if x were free, none is."""
    study = Study({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, seed=0, algorithm=ALGORITHMS[name])
    cost = 1.0 if name == "cost aware" else None
    rng = np.random.default_rng(0)
    for x, y in rng.random((12, 2)):
        study.add({"x": x, "y": y}, (y - x) ** 2, cost=cost)
    found = []
    for x in (0.9, 0.1, 0.6):
        distances = []
        for _ in range(4):
            trial = study.ask(fixed={"x": x})[0]
            assert trial.params["x"] == x
            study.tell(trial, (trial.params["y"] - x) ** 2, cost=cost)
            distances.append(abs(trial.params["y"] - x))
        found.append(min(distances))
    if name not in ("random search", "turbo"):  # of which one knows no y that is better, and one keeps to its region
        assert max(found) < 0.12, found


@pytest.mark.long
@pytest.mark.parametrize("algorithm", [random_search, careless])
@pytest.mark.filterwarnings("ignore:the `ask` of the algorithm")
def test_what_is_left_of_a_finite_space_with_held_values(algorithm):
    study = make(GRID, algorithm=algorithm)
    first = study.ask(4, fixed={"a": 1})
    assert sorted(trial.params["b"] for trial in first) == ["u", "v"]
    with pytest.raises(SpaceExhaustedError, match="all 2 points with a=1 are told or pending"):
        study.ask(fixed={"a": 1})
    study.enqueue({"a": 1})
    study.enqueue({"a": 2})
    with pytest.warns(BojaxWarning, match="with a=1 is dropped"):
        batch = study.ask(2)
    assert len(batch) == 2 and sorted(trial.params["a"] for trial in batch)[0] == 2
    study.enqueue({"a": 1})
    with pytest.warns(BojaxWarning, match="is dropped"):
        rest = study.ask(5)
    assert len(rest) == 2 and len({tuple(t.params.values()) for t in [*first, *batch, *rest]}) == 6
    study.enqueue({"a": 1})
    with pytest.warns(BojaxWarning, match="is dropped"), pytest.raises(SpaceExhaustedError, match="all 6 points"):
        study.ask()
    assert all(t.state == "running" for t in study.trials)


@pytest.mark.long
def test_a_held_float_leaves_finitely_many_points():
    study = make(Space(x=Float(0.0, 1.0), b=Categorical(["u", "v", "w"])), algorithm=random_search)
    batch = study.ask(2, fixed={"x": 0.5}) + study.ask(5, fixed={"x": 0.5})
    assert sorted(trial.params["b"] for trial in batch) == ["u", "v", "w"]
    with pytest.raises(SpaceExhaustedError, match="all 3 points with x=0.5"):
        study.ask(fixed={"x": 0.5})
    assert len(study.ask(3)) == 3


def test_a_whole_point_may_be_repeated():
    study = make(GRID, algorithm=random_search)
    point = {"a": 1, "b": "u"}
    assert [trial.params for trial in study.ask(2, fixed=point) + study.ask(fixed=point)] == [point] * 3
    study.enqueue(point)
    study.optuna.optimize(lambda trial: trial.suggest_int("a", 1, 3) * len(trial.suggest_categorical("b", "uv")), 1)
    assert study.trials[-1].params == point and study.trials[-1].value == 1.0


def test_a_noisy_bandit_goes_on_when_all_its_points_are_known():
    """An algorithm that repeats points is not stopped by a finite space, with held values or without."""

    def restless(space, q):
        return follower(space, q)._replace(repeats=True)

    study = make(GRID, algorithm=restless)
    for a in (1, 2, 3):
        for b in ("u", "v"):
            study.add({"a": a, "b": b}, 1.0)
    assert len(study.ask(2)) == 2 and [trial.params["a"] for trial in study.ask(2, fixed={"a": 2})] == [2, 2]
    study.optimize(lambda params: 0.0, 10, progress=False)
    assert sum(trial.state == "complete" for trial in study.trials) == 16

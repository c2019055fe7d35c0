"""Limits that users can move, and arguments that are checked before anything is evaluated or stored."""

import time
import warnings

import jax.numpy as jnp
import numpy as np
import optuna
import pytest

import bojax
from bojax import hypergrad
from bojax._errors import BojaxError, BojaxWarning

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0))
FINITE = bojax.Space(n=bojax.Int(0, 4))


def at_random(space, q):
    return bojax.random_search(space, q=q)


def value_of(params):
    return params["x"]


def outer_loss(w, h, data):
    return jnp.sum((w - data) ** 2)


def inner_loss(w, h, data):
    return outer_loss(w, h, data) + jnp.sum(jnp.exp(h) * w**2)


FN = hypergrad.hypergradient(inner_loss, outer_loss)


def make_nested(params):
    data = params["x"] * jnp.ones(2)
    return bojax.study.Nested(FN, jnp.zeros(2), jnp.zeros(2), data, 0.5 * data, num_steps=2)


def train(key, hparams):
    return hparams["x"]


def never(*args):
    raise AssertionError("nothing may be evaluated")


def new_study(space=SPACE):
    return bojax.Study(space, seed=0, algorithm=at_random)


OPTIONS = {"algorithm": at_random, "progress": False}
LOOPS = {
    "minimize": lambda f, **kw: bojax.minimize(f, SPACE, **(OPTIONS | kw)),
    "maximize": lambda f, **kw: bojax.maximize(f, SPACE, **(OPTIONS | kw)),
    "optimize": lambda f, **kw: new_study().optimize(f, **({"progress": False} | kw)),
    "nested": lambda f, **kw: bojax.minimize(bojax.study.nested_objective(f), SPACE, **(OPTIONS | kw)),
    "tune": lambda f, **kw: bojax.tune(f, SPACE, **(OPTIONS | kw)),
}
WORKS = {
    "minimize": value_of,
    "maximize": value_of,
    "optimize": value_of,
    "nested": make_nested,
    "tune": train,
}
WRONG = [
    ({"callbacks": 3}, TypeError, "`callbacks` must be functions"),
    ({"callbacks": "later"}, TypeError, "`callbacks` must be functions"),
    ({"callbacks": [print, None]}, TypeError, "`callbacks` must be functions"),
    ({"timeout": "2"}, TypeError, "`timeout` must be a number of seconds"),
    ({"timeout": True}, TypeError, "`timeout` must be a number of seconds"),
    ({"timeout": -1}, ValueError, "`timeout` must be at least 0"),
    ({"timeout": float("nan")}, ValueError, "`timeout` must be at least 0"),
    ({"progress": "no"}, TypeError, "`progress` must be True or False"),
    ({"num_trials": -1}, ValueError, "`num_trials` must be an integer of at least 0"),
    ({"num_trials": 2.5}, ValueError, "`num_trials` must be an integer of at least 0"),
    ({"num_trials": "9"}, ValueError, "`num_trials` must be an integer of at least 0"),
    ({"batch_size": 0}, ValueError, "`batch_size` must be an integer of at least 1"),
    ({"batch_size": None}, ValueError, "`batch_size` must be an integer of at least 1"),
]
WRONG_OF_OBJECTIVES = [
    ({"catch": "ValueError"}, TypeError, "`catch` must be types of exceptions"),
    ({"catch": [ValueError, "KeyError"]}, TypeError, "`catch` must be types of exceptions"),
    ({"catch": ValueError("x")}, TypeError, "`catch` must be types of exceptions"),
    ({"catch": None}, TypeError, "`catch` must be types of exceptions"),
    ({"catch": int}, TypeError, "`catch` must be types of exceptions"),
    ({"max_first_failures": 0}, ValueError, "`max_first_failures` must be an integer of at least 1"),
    ({"max_first_failures": "many"}, ValueError, "`max_first_failures` must be an integer of at least 1"),
]


@pytest.mark.parametrize("loop", LOOPS)
def test_every_wrong_argument_is_refused_before_the_first_evaluation(loop):
    for kwargs, kind, message in WRONG + (WRONG_OF_OBJECTIVES if loop != "tune" else []):
        with pytest.raises(kind, match=message):
            LOOPS[loop](never, **kwargs)


@pytest.mark.parametrize("loop", ["minimize", "maximize", "tune", "nested"])
def test_a_wrong_argument_leaves_no_study_behind(loop):
    storage = optuna.storages.InMemoryStorage()
    for kwargs in ({"timeout": "2"}, {"num_trials": None}, {"callbacks": [1]}):
        with pytest.raises((TypeError, ValueError)):
            LOOPS[loop](never, storage=storage, **kwargs)
    with pytest.raises(TypeError):
        LOOPS[loop](3, storage=storage)
    assert optuna.get_all_study_names(storage) == []


def test_other_wrong_arguments_of_tune_and_optimize():
    for kwargs, kind in [
        ({"metric": 3}, TypeError),
        ({"metric": ""}, TypeError),
        ({"direction": ""}, ValueError),
        ({"direction": "up"}, ValueError),
        ({"num_seeds": 0}, ValueError),
    ]:
        with pytest.raises(kind):
            LOOPS["tune"](never, **kwargs)
    for loop in ("minimize", "maximize", "optimize"):
        with pytest.raises(TypeError, match="`vectorized` must be True or False"):
            LOOPS[loop](never, vectorized="yes")


@pytest.mark.long
@pytest.mark.parametrize("loop", LOOPS)
def test_one_callback_is_as_good_as_a_list_of_them(loop):
    seen = []

    def callback(study, trial):
        seen.append(trial.number)
        study.stop()

    for callbacks in (callback, [callback], (f for f in [callback])):
        seen.clear()
        LOOPS[loop](WORKS[loop], num_trials=None, batch_size=1, callbacks=callbacks)
        assert seen == [0]


@pytest.mark.parametrize("catch", [ValueError, [ValueError], {ValueError, KeyError}, (e for e in [ValueError])])
def test_what_is_caught_may_be_one_type_or_any_collection(catch):
    study = new_study()

    def objective(params):
        if len(study.trials) == 1:
            raise ValueError("no")
        return 1.0

    with pytest.warns(BojaxWarning, match="failed: ValueError: no"):
        study.optimize(objective, 2, catch=catch, progress=False)
    assert [trial.state for trial in study.trials] == ["fail", "complete"]


def test_nothing_is_caught_where_nothing_is_to_be_caught():
    def objective(params):
        raise ValueError("through")

    for catch in ((), []):
        with pytest.raises(ValueError, match="through"):
            new_study().optimize(objective, 2, catch=catch, progress=False)


def fail_until(count):
    """A constrained problem: infeasible until `count` evaluations were made."""
    calls = []

    def objective(params):
        calls.append(params)
        if len(calls) <= count:
            raise ValueError("infeasible")
        return params["x"]

    return objective


@pytest.mark.filterwarnings("ignore::bojax._errors.BojaxWarning")
@pytest.mark.parametrize("loop", ["minimize", "maximize", "optimize"])
def test_the_number_of_failures_at_the_start_is_the_users_choice(loop):
    run = LOOPS[loop]
    with pytest.raises(BojaxError, match=r"first 5 .*ValueError: infeasible.*set `max_first_failures` higher"):
        run(fail_until(8), num_trials=10)
    with pytest.raises(BojaxError, match="each of the first 2 evaluations"):
        run(fail_until(8), num_trials=10, max_first_failures=2)
    run(fail_until(8), num_trials=10, max_first_failures=9)
    run(fail_until(8), num_trials=10, max_first_failures=None)
    run(fail_until(8), num_trials=4, max_first_failures=None)  # then a study without a value is no error


@pytest.mark.filterwarnings("ignore::bojax._errors.BojaxWarning")
def test_nested_tuning_has_the_same_limits():
    failing = fail_until(8)

    def make(params):
        return make_nested({"x": failing(params)})

    with pytest.raises(BojaxError, match="first 5"):
        LOOPS["nested"](make, num_trials=10)
    result = LOOPS["nested"](make, num_trials=5, max_first_failures=None)
    assert [trial.state for trial in result.trials] == ["fail"] * 3 + ["complete"] * 2
    with pytest.raises(KeyError):
        LOOPS["nested"](lambda params: params["y"], num_trials=5, catch=[ValueError])


@pytest.mark.parametrize("loop", LOOPS)
def test_time_alone_may_end_a_loop(loop):
    times = []

    def note(study, trial):
        times.append(time.monotonic())
        time.sleep(0.2)

    start = time.monotonic()
    LOOPS[loop](WORKS[loop], num_trials=None, batch_size=1, callbacks=[note], timeout=1.0)
    assert times and times[-1] <= start + 60.0
    assert len(times) <= 6  # one that started in time, and five sleeps
    before = len(times)
    LOOPS[loop](WORKS[loop], num_trials=4, batch_size=1, callbacks=[note], timeout=np.float32(0.0))
    assert len(times) == before


@pytest.mark.parametrize("loop", ["minimize", "maximize", "tune", "nested"])
def test_a_loop_that_nothing_can_end_is_refused(loop):
    with pytest.raises(ValueError, match=r"`num_trials=None` never ends here. Give a `timeout`"):
        LOOPS[loop](never, num_trials=None, timeout=float("inf"))


def test_the_size_of_a_space_may_end_a_loop():
    with pytest.warns(BojaxWarning, match="stops early"):
        result = bojax.minimize(lambda params: params["n"], FINITE, num_trials=None, **OPTIONS)
    assert sorted(trial.value for trial in result.trials) == [0, 1, 2, 3, 4]


def test_a_warning_that_is_an_error_loses_no_failed_trial():
    study = new_study()
    with warnings.catch_warnings():
        warnings.simplefilter("error", BojaxWarning)
        with pytest.raises(BojaxWarning):
            study.optimize(lambda params: params["y"], 1, progress=False)
    assert [trial.state for trial in study.trials] == ["fail"]

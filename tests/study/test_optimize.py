"""The loop over an objective: batches, failures, callbacks, `minimize` and `maximize`."""

import warnings

import numpy as np
import pytest
from study_probe import SPACE, probe, value_of

from bojax import loop
from bojax._errors import BojaxError, BojaxWarning, StudyError
from bojax.space import Categorical, Float, Int, Space
from bojax.study import Study, maximize, minimize


def make(space=SPACE, **kwargs):
    return Study(space, **({"seed": 0, "algorithm": probe} | kwargs))


def test_minimize_and_maximize():
    low = minimize(value_of, SPACE, num_trials=10, batch_size=4, seed=0, algorithm=probe, progress=False)
    high = maximize(value_of, SPACE, num_trials=10, batch_size=4, seed=0, algorithm=probe, progress=False)
    assert len(low.trials) == len(high.trials) == 10
    assert low.best_value == min(t.value for t in low.trials) == value_of(low.best_params)
    assert high.best_value == max(t.value for t in high.trials)
    assert low.best_trial.params == low.best_params and len(low.to_dataframe()) == 10


def test_vectorized_equals_one_by_one():
    def batch_objective(arrays):
        assert arrays["learning_rate"].dtype == np.float64 and arrays["width"].dtype == np.int32
        assert set(np.unique(arrays["activation"])) <= {0, 1, 2}  # positions
        quality = np.array([1, 2, 4, 8])[arrays["quality"]]
        return arrays["learning_rate"] + arrays["width"] / 100.0 + quality

    single, batch = make(), make()
    single.optimize(value_of, 10, 4, progress=False)
    batch.optimize(batch_objective, 10, 4, vectorized=True, progress=False)
    assert [t.params for t in single.trials] == [t.params for t in batch.trials]
    np.testing.assert_allclose([t.value for t in single.trials], [t.value for t in batch.trials], rtol=1e-12)


@pytest.mark.parametrize("result", [1.0, np.zeros(3), np.zeros((4, 1)), ["a"] * 4, np.zeros(4, bool)])
def test_vectorized_of_the_wrong_shape(result):
    study = make()
    with pytest.raises(TypeError, match="array of 4 numbers"):
        study.optimize(lambda arrays: result, 8, 4, vectorized=True, progress=False)
    assert [trial.state for trial in study.trials] == ["fail"] * 4


def test_failed_evaluations_are_kept_and_do_not_stop_the_loop():
    study = make()

    def objective(params):
        if len(study.trials) % 3 == 0:
            raise RuntimeError("out of memory")
        return value_of(params)

    with pytest.warns(BojaxWarning, match="failed: RuntimeError: out of memory"):
        study.optimize(objective, 9, progress=False)
    states = [trial.state for trial in study.trials]
    assert states.count("fail") == 3 and states.count("complete") == 6
    failed = study.trials[states.index("fail")]
    assert failed.user_attrs["bojax:error"] == "RuntimeError: out of memory"


@pytest.mark.parametrize("vectorized", [False, True])
def test_an_objective_that_always_fails_is_an_error(vectorized):
    study, calls = make(), []

    def objective(params):
        calls.append(params)
        raise KeyError("typo")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BojaxError, match="first 5 evaluations .* KeyError: 'typo'") as caught:
            study.optimize(objective, 50, 8, vectorized=vectorized, progress=False)
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(calls) == 5
    # Singly, the rest of the batch is given up; a vectorized call fails the whole batch.
    assert [trial.state for trial in study.trials] == ["fail"] * (40 if vectorized else 5)


def test_one_success_means_the_objective_is_not_broken():
    study, calls = make(), []

    def objective(params):
        calls.append(params)
        if len(calls) != 2:
            raise RuntimeError
        return 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(objective, 12, progress=False)
    assert len(calls) == 12


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_not_caught_ends_the_loop_and_gives_up_the_batch(error):
    study, calls = make(), []

    def objective(params):
        calls.append(params)
        if len(calls) == 3:
            raise error
        return 1.0

    with pytest.raises(error):
        study.optimize(objective, 8, 4, catch=(RuntimeError,), progress=False)
    # The third was lost and waits to be repeated; the fourth had not begun and counts for nothing.
    assert [trial.state for trial in study.trials] == ["complete", "complete", "fail", "waiting"]
    assert len(study.optuna.trials) == 5
    study.optimize(lambda params: 1.0, 2, progress=False)
    assert [trial.state for trial in study.trials] == ["complete", "complete", "fail", "complete", "complete"]


@pytest.mark.parametrize("value", ["1", np.zeros(3), True])
def test_an_objective_that_returns_no_number(value):
    study = make()
    with pytest.raises(TypeError, match="the objective returned something that is no value"):
        study.optimize(lambda params: value, 8, 4, progress=False)
    assert [trial.state for trial in study.trials] == ["fail"]


def test_callbacks_stop_and_timeout():
    study, seen = make(), []

    def callback(study, trial):
        seen.append((trial.number, trial.state, trial.value))
        if len(seen) == 3:
            study.stop()

    study.optimize(value_of, 20, 4, callbacks=[callback], progress=False)
    assert seen == [(t.number, "complete", value_of(t.params)) for t in study.trials] and len(seen) == 3
    study.optimize(value_of, 20, timeout=0.0, progress=False)
    assert len(study.trials) == 3
    study.optimize(value_of, 2, progress=False)  # the stop does not outlive its loop
    assert len(study.trials) == 5


def test_a_used_up_space_ends_the_loop_with_one_warning():
    space = Space(a=Categorical(["x", "y"]), b=Int(0, 2))
    study = make(space, algorithm=lambda space, q: loop.random_search(space, q=q))
    with pytest.warns(BojaxWarning, match="stops early: all 6 points") as caught:
        study.optimize(lambda params: params["b"], 20, 4, progress=False)
    assert len(caught) == 1 and len(study.trials) == 6
    assert len({tuple(t.params.values()) for t in study.trials}) == 6


@pytest.mark.unchecked
def test_nothing_to_do_and_bad_arguments():
    study = make()
    study.optimize(value_of, 0, progress=False)
    with pytest.raises(StudyError):
        _ = study.best_value
    for kwargs in ({"num_trials": -1}, {"num_trials": 1.5}, {"batch_size": 0}, {"num_trials": True}):
        with pytest.raises(ValueError, match="must be an integer"):
            study.optimize(value_of, **kwargs, progress=False)
    with pytest.raises(TypeError, match="`objective` must be callable"):
        study.optimize(3, 1)  # type: ignore[arg-type]
    assert study.trials == []


def test_the_objective_may_change_its_params():
    study = make()
    study.optimize(lambda params: params.pop("width"), 3, progress=False)
    assert all("width" in trial.params for trial in study.trials)


@pytest.mark.long
def test_the_default_algorithm_finds_the_optimum():
    result = minimize(lambda params: (params["x"] - 0.3) ** 2, {"x": Float(-1.0, 1.0)}, num_trials=12, seed=0)
    assert result.best_value < 1e-3


def test_a_vectorized_batch_is_told_whole_before_the_study_stops():
    study = Study(Space(x=Float(0.0, 1.0)), seed=0, algorithm=lambda space, q: loop.random_search(space, q=q))
    study.optimize(
        lambda p: p["x"],
        num_trials=8,
        batch_size=4,
        vectorized=True,
        progress=False,
        callbacks=[lambda study, trial: study.stop()],
    )
    assert [trial.state for trial in study.trials] == ["complete"] * 4


def test_an_objective_may_return_what_else_is_to_be_recorded():
    study = make()
    study.optimize(lambda params: (value_of(params), {"width": params["width"], "list": [1.5]}), 3, progress=False)
    for trial in study.trials:
        assert trial.value == value_of(trial.params)
        assert trial.user_attrs == {"width": trial.params["width"], "list": [1.5]}


def test_a_pair_that_is_no_outcome():
    study = make()
    with pytest.raises(TypeError, match="no value of trial 0"):
        study.optimize(lambda params: (1.0, 2.0), 3, progress=False)
    assert [trial.state for trial in study.trials] == ["fail"]


def test_what_cannot_be_recorded_is_left_out_and_named():
    study = make()
    with pytest.warns(BojaxWarning, match="attribute 'x' of trial 0 is left out, .* must fit into JSON"):
        study.optimize(lambda params: (1.0, {"x": object(), "y": 2}), 3, progress=False)
    assert [(trial.value, trial.user_attrs) for trial in study.trials] == [(1.0, {"y": 2})] * 3

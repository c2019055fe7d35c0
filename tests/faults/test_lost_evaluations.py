"""An evaluation that is not told is recorded, repeated once, and then failed; queued work goes back in line."""

import math
import warnings

import numpy as np
import optuna
import pytest

import bojax
from bojax.study import Study
from bojax.study._study import core_of
from bojax.study.asking import _lost
from bojax.study.records._ledger import Ledger
from tests.faults.forks import run_forked

SPACE = bojax.Space(x=bojax.Int(0, 9), y=bojax.Int(0, 9))

pytestmark = pytest.mark.timeout(200)


def random_search(space, q):
    return bojax.random_search(space, q=q)


def make(storage=None, space=SPACE):
    return Study(space, storage=storage, seed=0, algorithm=random_search)


def points(trials):
    return [tuple(trial.params.values()) for trial in trials]


def states(study):
    return [trial.state for trial in study.trials]


def value_of(params):
    return params["x"] + params["y"] / 10.0


class Ending:
    """An objective that ends the loop whenever it meets one configuration; the first it meets, by default."""

    def __init__(self, error, deadly=None):
        self.error, self.deadly, self.calls = error, deadly, []

    def __call__(self, params):
        point = tuple(params.values())
        self.calls.append(point)
        self.deadly = point if self.deadly is None else self.deadly
        if point == self.deadly:
            raise self.error
        return value_of(params)


def optimize(study, objective, num_trials=3, batch_size=1, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bojax.BojaxWarning)
        study.optimize(objective, num_trials, batch_size, progress=False, **kwargs)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_ends_the_loop_is_recorded_repeated_once_and_then_failed(error):
    study, objective = make(), Ending(error)
    with pytest.raises(error):
        optimize(study, objective, catch=(OSError,))
    lost, retry = study.trials
    assert (lost.state, lost.value, lost.user_attrs) == (
        "fail",
        None,
        {"bojax:lost": True, "bojax:error": error.__name__},
    )
    assert (retry.state, retry.params, retry.user_attrs) == ("waiting", lost.params, {"bojax:retry_of": 0})
    with pytest.raises(error):
        optimize(study, objective, catch=(OSError,))
    assert states(study) == ["fail", "fail"] and study.trials[1].user_attrs["bojax:lost"]
    optimize(study, objective, 5, catch=(OSError,))
    assert objective.calls.count(objective.deadly) == 2
    assert states(study) == ["fail"] * 2 + ["complete"] * 5


def test_a_retry_that_succeeds_is_the_only_datum_and_one_that_fails_is_a_failure():
    for is_cured in (True, False):
        study, objective = make(), Ending(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            optimize(study, objective)
        X, y, pending, _ = core_of(study).ledger.refresh().told()
        assert len(X) == 0 and len(pending) == 1  # it will be evaluated again: neither a failure nor free
        if is_cured:
            optimize(study, value_of, 1)
        else:
            with pytest.raises(KeyboardInterrupt):
                optimize(study, objective, 1)
        X, y, pending, _ = core_of(study).ledger.refresh().told()
        np.testing.assert_array_equal(X, [SPACE.from_params(study.trials[0].params)])
        assert np.isfinite(y).tolist() == [is_cured] and len(pending) == 0


def ended(study, how, objective):
    """A loop in batches of 4 that ends in the second evaluation."""
    if how == "stop":
        optimize(study, objective, 8, 4, callbacks=[lambda study, _: len(objective.calls) == 2 and study.stop()])
    elif how == "timeout":
        optimize(
            study, lambda params: (objective(params), 0.0 if len(objective.calls) < 2 else _sleep())[0], 8, 4, timeout=1
        )
    else:
        with pytest.raises(how):
            optimize(study, objective, 8, 4, catch=(OSError,))


def _sleep():
    import time

    time.sleep(1.2)


QUEUE = [(i, 9 - i) for i in range(6)]


@pytest.mark.parametrize("how", [KeyboardInterrupt, ValueError, "stop", "timeout"])
def test_what_was_queued_goes_back_in_line_in_its_order(how):
    study = make()
    for x, y in QUEUE:
        study.enqueue({"x": x, "y": y})
    is_lost = not isinstance(how, str)
    first = Ending(how if is_lost else None, QUEUE[1] if is_lost else (-1, -1))
    ended(study, how, first)
    assert first.calls == QUEUE[:2]
    rest = Ending(None, (-1, -1))
    optimize(study, rest, 5 if is_lost else 4, 4)
    assert rest.calls == QUEUE[2:] + QUEUE[1:2] * is_lost
    assert {t.user_attrs.get("bojax:retry_of") for t in study.trials} == ({None, 1} if is_lost else {None})


def test_what_users_queued_keeps_its_attributes_and_a_part_stays_a_part():
    study = make()
    study.optuna.enqueue_trial({"x": 1, "y": 1}, user_attrs={"from": "a paper"})
    study.optuna.enqueue_trial({"x": 7}, user_attrs={"from": "a guess"})
    with pytest.raises(KeyboardInterrupt):
        optimize(study, Ending(KeyboardInterrupt), 2, 2)
    waiting = {t.user_attrs["from"]: t.params for t in study.trials if t.state == "waiting"}
    assert waiting == {"a paper": {"x": 1, "y": 1}, "a guess": {"x": 7}}
    seen = []
    optimize(study, lambda params: seen.append(params["x"]) or 0.0, 2, 2)
    assert seen == [7, 1]  # what was not begun before what is repeated


def test_trials_that_had_not_begun_count_for_nothing_and_the_study_goes_on_as_if_they_were_not():
    study = make()
    with pytest.raises(KeyboardInterrupt):
        optimize(study, Ending(KeyboardInterrupt), 4, 4)
    assert states(study) == ["fail", "waiting"]
    assert [t.user_attrs.get("bojax:stale") for t in study.optuna.trials] == [None, True, True, True, None]


@pytest.mark.parametrize("returned", [None, (None, {"loss": 3.0})])
def test_none_is_a_failed_trial_with_a_warning(returned):
    study = make()
    study.tell(study.ask()[0], 1.0)
    with pytest.warns(bojax.BojaxWarning, match="trial . failed: TypeError: the objective returned None"):
        study.optimize(lambda params: returned, 2, progress=False)
    assert states(study) == ["complete", "fail", "fail"]
    error = {"bojax:error": "TypeError: the objective returned None"}
    assert study.trials[1].user_attrs == error | (returned[1] if returned else {})


def test_none_from_a_vectorized_objective_fails_its_trials_with_a_warning():
    study = make()
    returned = iter([[1.0, None], None])
    with pytest.warns(bojax.BojaxWarning, match="failed: TypeError: the objective returned None"):
        study.optimize(lambda arrays: next(returned), 4, 2, vectorized=True, progress=False)
    assert states(study) == ["complete", "fail", "fail", "fail"]


def test_an_objective_that_always_returns_none_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(bojax.BojaxError, match="first 5 evaluations .*the objective returned None"):
            make().optimize(lambda params: None, 8, progress=False)


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_result_of_the_wrong_type_is_failed_and_not_repeated(vectorized):
    study, seen = make(), []

    def objective(params):
        seen.append(tuple(np.ravel(params["x"]).tolist() + np.ravel(params["y"]).tolist()))
        return "much"

    for _ in range(3):
        with pytest.raises(TypeError):
            optimize(study, objective, 2, 2 if vectorized else 1, vectorized=vectorized)
    assert len(set(seen)) == 3 and set(states(study)) == {"fail"}
    assert all("TypeError" in trial.user_attrs["bojax:error"] for trial in study.trials)


def test_what_was_lost_in_a_batch_is_repeated_alone():
    """Of four that were evaluated at once, one was deadly: the others are repeated without it."""
    study, sizes, deadly = make(), [], []

    def objective(arrays):
        if not deadly:
            deadly.append((arrays["x"][2], arrays["y"][2]))
        sizes.append(len(arrays["x"]))
        if deadly[0] in zip(arrays["x"], arrays["y"], strict=True):
            raise KeyboardInterrupt
        return arrays["x"]

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study.optimize(objective, 8, 4, vectorized=True, progress=False)
    study.optimize(objective, 5, 4, vectorized=True, progress=False)
    assert sizes == [4, 1, 1, 1, 1, 4]
    assert states(study) == ["fail"] * 4 + ["complete"] * 2 + ["fail"] + ["complete"] * 5


def test_tune_records_what_an_exception_ended():
    def train(key, hparams):
        raise MemoryError("too large")

    storage = optuna.storages.InMemoryStorage()
    for expected in (["fail"] * 2 + ["waiting"] * 2, ["fail"] * 3 + ["waiting"], ["fail"] * 4):
        with pytest.raises(MemoryError):
            bojax.tune(
                train, SPACE, num_trials=2, batch_size=2, storage=storage, algorithm=random_search, progress=False
            )
        study = Study(storage=storage)
        assert states(study) == expected
    assert study.trials[0].user_attrs["bojax:error"] == "MemoryError: too large"


def test_a_lost_trial_may_be_told_after_all():
    study, objective = make(), Ending(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        optimize(study, objective)
    told = study.tell(0, 3.0)
    assert told.params == study.trials[0].params and states(study) == ["fail", "complete"]  # the retry is not needed
    with pytest.raises(bojax.StudyError, match="told before"):
        study.tell(0, 4.0)
    assert core_of(study).ledger.refresh().told().y.tolist() == [-3.0]
    assert points(study.ask()) != points(study.trials)[:1]


def test_a_lost_trial_may_be_corrected():
    study = make()
    with pytest.raises(KeyboardInterrupt):
        optimize(study, Ending(KeyboardInterrupt))
    corrected = study.correct(0, 3.0)
    assert corrected.value == 3.0 and "bojax:lost" not in corrected.user_attrs
    following = study.ask()[0]
    assert following.params != corrected.params  # the retry is not needed
    assert [t.value for t in study.trials if t.state == "complete"] == [3.0]


def test_losses_and_retries_are_carried_over_to_a_changed_space():
    study, objective = make(), Ending(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        optimize(study, objective)
    wider = study.carry(bojax.Space(x=bojax.Int(0, 12), y=bojax.Int(0, 9)))
    assert [(t.state, t.user_attrs.get("bojax:lost")) for t in wider.trials] == [("fail", True), ("waiting", None)]
    with pytest.raises(KeyboardInterrupt):
        optimize(wider, objective)
    optimize(wider, objective)
    assert objective.calls.count(objective.deadly) == 2
    assert core_of(wider).ledger.refresh().told().X.shape == (4, 2)


@pytest.mark.long
def test_the_best_believed_trial_is_none_that_a_retry_stands_for():
    study = make()
    with pytest.raises(KeyboardInterrupt):
        optimize(study, Ending(KeyboardInterrupt))
    for trial in study.ask(4):
        study.tell(trial, value_of(trial.params))
    assert study.best_believed.trial == study.best_trial


def test_two_processes_that_notice_the_same_loss_repeat_it_once(monkeypatch):
    storage = optuna.storages.InMemoryStorage()
    first, second = make(storage), make(storage)
    cores = [core_of(first), core_of(second)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_lost, "put_in_line", lambda core: None)
        optimize(first, Ending(KeyboardInterrupt))
    for core in cores:
        core.ledger.refresh()
    with monkeypatch.context() as patch:  # both look before one of them writes
        patch.setattr(Ledger, "refresh", lambda self: self)
        for core in cores:
            _lost.put_in_line(core)
    assert len(first.optuna.trials) == 3
    one, other = first.ask()[0], second.ask()[0]
    assert one.params == first.trials[0].params != other.params
    assert len(first.trials) == 3


def test_the_loss_of_an_evaluation_is_data_like_any_other(tmp_path):
    """The same losses give the same suggestions, in one process and over restarts."""

    def played(restart):
        storage = f"sqlite:///{tmp_path / 'study.db'}" if restart else None
        study, objective = make(storage), Ending(KeyboardInterrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                optimize(study, objective)
            study = make(storage) if restart else study
        optimize(study, objective)
        return points(study.trials) + points(study.ask())

    assert played(False) == played(True)


def test_a_data_frame_shows_losses():
    pytest.importorskip("pandas")
    study = make()
    with pytest.raises(KeyboardInterrupt):
        optimize(study, Ending(KeyboardInterrupt))
    frame = study.to_dataframe()
    assert frame["state"].tolist() == ["fail", "waiting"] and frame["user_attrs_bojax:lost"].tolist() == [True, None]
    assert frame["params_x"].tolist() == [study.trials[0].params["x"]] * 2 and math.isnan(frame["value"][0])


KILLED = """
def objective(params):
    note(params)
    lines = open(log).readlines()
    if lines[0] == lines[-1]:
        kill()
    return float(params["x"])

def work():
    make().optimize(objective, 4, 2, progress=False)

def by_optuna(trial):  # it dies before it has asked for all parameters
    x = trial.suggest_int("x", 0, 9)
    value = objective({"x": x, "y": None})
    trial.suggest_int("y", 0, 9)
    return value

def optuna_work():
    make().optuna.optimize(by_optuna, 3)

codes = [wait(fork(WORK)) for _ in range(3)]
assert codes == [-9, -9, 0], codes
"""


@pytest.mark.long
@pytest.mark.parametrize("loop", ["work", "optuna_work"])
def test_a_killed_configuration_is_not_suggested_for_ever(tmp_path, loop):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    notes = run_forked(KILLED.replace("WORK", loop), storage, tmp_path / "log")
    assert notes.count(notes[0]) == 2
    trials = make(storage).trials
    lost, retry = (trial for trial in trials if trial.state == "fail")
    assert lost.number == 0 and "killed" in lost.user_attrs["bojax:error"]
    assert retry.user_attrs["bojax:retry_of"] == 0 and retry.user_attrs["bojax:lost"]
    assert retry.params == lost.params and set(lost.params) == {"x", "y"} and lost.params["x"] == notes[0][0]
    assert study_data(storage).count(False) == 1


def study_data(storage):
    """Whether each told evaluation gave a value."""
    study = make(storage)
    return np.isfinite(core_of(study).ledger.refresh().told().y).tolist()


QUEUED = """
def objective(params):
    note(params)
    if (params["x"], params["y"]) == (1, 8) and not os.path.exists(log + ".killed"):
        open(log + ".killed", "w").close()
        kill()
    return 0.0

def work(num_trials):
    study = make()
    if not study.optuna.trials:
        for x in range(6):
            study.enqueue({"x": x, "y": 9 - x})
    study.optimize(objective, num_trials, 4, progress=False)

assert wait(fork(work, 6)) == -9
assert wait(fork(work, 5)) == 0
"""


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_what_was_queued_survives_a_killed_process(tmp_path, scheme):
    storage = f"{scheme}:///{tmp_path / 'study'}"
    notes = [tuple(note) for note in run_forked(QUEUED, storage, tmp_path / "log")]
    assert notes == QUEUE[:2] + QUEUE[2:] + QUEUE[1:2]
    assert states(make(storage)) == ["complete", "fail"] + ["complete"] * 5

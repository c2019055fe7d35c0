"""`BojaxSampler`: what it learns from, what it asks for, and that it depends on nothing else."""

import copy
import json
import os
import pickle
import random
import runpy

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

import bojax
from bojax.integrations import optuna as integration
from bojax.integrations.optuna import BojaxSampler
from tests.helpers import run_python, small_bayesopt

X, Y = FloatDistribution(0.0, 1.0), FloatDistribution(-2.0, 2.0)


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def model(space, q):
    return small_bayesopt(space, q=q)


def random_search(space, q):
    return bojax.random_search(space, q=q)


class Requests(list):
    """The arguments of each request for a suggestion, and the points that answer the next ones."""

    answers: list


@pytest.fixture
def asked(monkeypatch):
    """The requests, which are answered by the points of `answers`, then by the middle of the cube."""
    requests = Requests()
    requests.answers = []

    def suggest(algorithm, space, **about):
        requests.append((algorithm, space, about))
        x = requests.answers.pop(0) if requests.answers else np.full(space.num_dims, 0.5)
        return ([] if x is None else [space.to_params(x)]), bojax.Status.EXHAUSTED if x is None else bojax.Status.OK

    monkeypatch.setattr(integration, "suggest", suggest)
    return requests


def study_of(*trials, direction="minimize", **settings):
    study = optuna.create_study(direction=direction, sampler=BojaxSampler(**{"seed": 0, **settings}))
    study.add_trials(trials)
    return study


def complete(value, x, y=0.0, **others):
    return create_trial(params={"x": x, "y": y}, distributions={"x": X, "y": Y}, value=value, **others)


def ask(study):
    """A trial that has requested its relative parameters."""
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    return trial


def told_to(requests):
    return requests[-1][2]["told"]


# What it learns from.


@pytest.mark.parametrize(("direction", "sign"), [("minimize", -1.0), ("maximize", 1.0)])
def test_values_are_maximized_in_the_order_of_the_trials(asked, direction, sign):
    study = study_of(complete(3.0, 0.25, 1.0), complete(1.0, 0.75, -1.0), direction=direction)
    ask(study)
    told = told_to(asked)
    assert told.X.tolist() == [[0.25, 0.75], [0.75, 0.25]]
    assert told.y.tolist() == [sign * 3.0, sign * 1.0]
    assert told.pending.shape == (0, 2)


def pruned(reports, x):
    return create_trial(
        state=TrialState.PRUNED,
        params={"x": x, "y": 0.0},
        distributions={"x": X, "y": Y},
        intermediate_values=reports,
    )


def test_a_pruned_trial_counts_by_its_last_report_but_not_as_better_than_the_median(asked):
    study = study_of(*(complete(value, value / 10) for value in (1.0, 2.0, 3.0)))
    study.add_trials([pruned({0: 9.0, 4: 5.0}, 0.5), pruned({0: 9.0, 4: 0.5}, 0.6)])
    ask(study)
    assert told_to(asked).y.tolist() == [-1.0, -2.0, -3.0, -5.0, -2.0]


def test_trials_without_a_usable_value_are_failures(asked):
    study = study_of(complete(1.0, 0.1), complete(float("inf"), 0.2), pruned({}, 0.3), pruned({0: float("nan")}, 0.4))
    study.add_trial(create_trial(state=TrialState.FAIL, params={"x": 0.5, "y": 0.0}, distributions={"x": X, "y": Y}))
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0) + trial.suggest_float("y", -2, 2) * np.nan, 1)
    ask(study)
    np.testing.assert_array_equal(told_to(asked).y, [-1.0, *[np.nan] * 5])


def test_before_any_trial_is_complete_pruned_ones_show_the_search_space(asked):
    study = study_of(pruned({0: 2.0}, 0.5))
    ask(study)
    assert told_to(asked).y.tolist() == [-2.0]


def test_trials_of_another_shape_are_left_out(asked):
    foreign = create_trial(params={"z": 3}, distributions={"z": IntDistribution(1, 9)}, state=TrialState.FAIL)
    partial = create_trial(params={"x": 0.5}, distributions={"x": X}, state=TrialState.FAIL)
    study = study_of(foreign, complete(1.0, 0.25), partial)
    ask(study)
    assert told_to(asked).X.tolist() == [[0.25, 0.5]]


def test_what_was_chosen_and_not_requested_counts(asked):
    study = study_of(complete(1.0, 0.25))
    asked.answers = [np.array([0.125, 0.75]), np.array([0.625, 0.75])]
    study.tell(ask(study), state=TrialState.FAIL)  # does not request `y`
    trial = ask(study)
    study.tell(trial, trial.suggest_float("y", -2.0, 2.0))
    table = study.sampler._of(study).refresh(study._storage, study._study_id).table({"x": X, "y": Y})
    told = study.sampler._of(study).told(table, own=-1)
    assert told.X.tolist() == [[0.25, 0.5], [0.125, 0.75], [0.625, 0.75]]


def test_data_is_the_same_in_whatever_order_trials_end(asked):
    study = study_of(complete(1.0, 0.25), seed=0)
    first, second = ask(study), ask(study)
    for trial in (first, second):
        trial.suggest_float("y", -2.0, 2.0)
    study.tell(second, 2.0)
    ask(study)
    study.tell(first, 3.0)
    ask(study)
    here = told_to(asked)
    again = optuna.create_study(sampler=BojaxSampler(seed=0))
    again.add_trials(study.trials)
    ask(again)
    afresh = told_to(asked)
    np.testing.assert_array_equal(here.y, [-1.0, -3.0, -2.0])
    for mine, theirs in zip(here[:2], afresh[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_another_process_is_about_to_evaluate_is_pending(asked, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    mine = optuna.create_study(storage=url, study_name="s", sampler=BojaxSampler(seed=0))
    mine.add_trial(complete(1.0, 0.25))
    asked.answers = [np.array([0.125, 0.75])]
    trial = ask(mine)
    assert set(trial.params) == {"x"}  # `y` is chosen, and has not been requested
    other = optuna.load_study(storage=url, study_name="s", sampler=BojaxSampler(seed=1))
    ask(other)
    assert told_to(asked).pending.tolist() == [[0.125, 0.75]]


def test_enqueued_trials_are_pending_and_their_values_are_held(asked):
    study = study_of(complete(1.0, 0.25))
    study.enqueue_trial({"x": 0.75})
    study.enqueue_trial({"x": 0.5, "y": -1.0})
    trial = ask(study)
    assert (trial.params["x"], trial.suggest_float("y", -2.0, 2.0)) == (0.75, 0.0)
    np.testing.assert_array_equal(asked[-1][2]["held"], [0.75, np.nan])
    assert told_to(asked).pending.tolist() == [[0.5, 0.25]]
    assert study.sampler.sample_relative(study, study.trials[2], {"x": X, "y": Y}) == {"x": 0.5, "y": -1.0}
    assert len(asked) == 1  # nothing was left to choose


def test_a_deleted_study_is_forgotten(asked, tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    sampler = BojaxSampler(seed=0)
    study = optuna.create_study(storage=storage, study_name="s", sampler=sampler)
    study.add_trials([complete(1.0, 0.25), complete(2.0, 0.5)])
    ask(study)
    optuna.delete_study(storage=storage, study_name="s")
    again = optuna.create_study(storage=storage, study_name="s", sampler=sampler)
    again.add_trials([complete(5.0, 0.75), complete(6.0, 0.125)])
    ask(again)
    assert told_to(asked).y.tolist() == [-5.0, -6.0]


def test_one_sampler_serves_several_studies(asked):
    sampler = BojaxSampler(seed=0)
    studies = [optuna.create_study(sampler=sampler, direction=way) for way in ("minimize", "maximize")]
    for study in studies:
        study.add_trial(complete(2.0, 0.25))
    seen = []
    for study in studies:
        ask(study)
        seen.append(told_to(asked).y.tolist())
    assert seen == [[-2.0], [2.0]]


def test_a_pruner_of_brackets_hides_no_trial(asked):
    study = study_of(*(complete(float(i), i / 10) for i in range(6)))
    study.pruner = optuna.pruners.HyperbandPruner(max_resource=9)
    ask(study)
    assert len(told_to(asked).y) == 6


# The search space.


def test_a_range_that_changes_is_searched_over_its_latest_ranges(asked):
    def objective(trial, high):
        return trial.suggest_float("x", 0.0, high) + trial.suggest_int("n", 1, 3)

    study = study_of()
    study.optimize(lambda trial: objective(trial, 1.0), n_trials=2)
    study.optimize(lambda trial: objective(trial, 4.0), n_trials=12)
    assert asked[1][1]["x"] == bojax.Float(0.0, 1.0)
    assert asked[3][1]["x"] == bojax.Float(0.0, 4.0)
    assert len(told_to(asked).y) == 13
    study.optimize(lambda trial: objective(trial, 2.0), n_trials=11)
    assert asked[-1][1]["x"] == bojax.Float(0.0, 2.0)
    inside = sum(trial.params["x"] <= 2.0 for trial in study.trials[:-1])
    assert len(told_to(asked).y) == inside


def test_ranges_on_different_grids_are_not_merged(asked):
    def objective(trial, low):
        return trial.suggest_float("x", low, low + 0.5, step=0.25) + trial.suggest_float("y", 0.0, 1.0)

    study = study_of()
    study.optimize(lambda trial: objective(trial, 0.0), n_trials=2)
    study.optimize(lambda trial: objective(trial, 0.5), n_trials=1)
    ask(study)
    assert asked[-1][1]["x"] == bojax.Float(0.0, 1.0, step=0.25)
    study.optimize(lambda trial: objective(trial, 0.6), n_trials=1)
    ask(study)
    assert asked[-1][1]["x"] == bojax.Float(0.6, 1.1, step=0.25)


def test_parameters_of_a_branch_are_sampled_independently(asked):
    def objective(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        return x + (trial.suggest_float("deep", 0.0, 1.0) if trial.number % 2 else 0.0)

    study = study_of()
    study.optimize(objective, n_trials=6)
    assert asked[-1][1].names == ("x",)


def test_single_values_and_ranges_that_overflow_are_left_out(asked):
    def objective(trial):
        trial.suggest_categorical("one", ["only"])
        trial.suggest_float("wide", *((-1e308, 0.0) if trial.number == 1 else (0.0, 1e308)))
        return trial.suggest_float("x", 0.0, 1.0)

    study = study_of()
    study.optimize(objective, n_trials=3)
    assert asked[-1][1].names == ("x",)
    assert len(study.trials) == 3 and all(t.state == TrialState.COMPLETE for t in study.trials)


def test_without_anything_to_choose_no_algorithm_is_asked(asked):
    study = study_of()
    study.optimize(lambda trial: trial.suggest_categorical("one", ["only"]) == "only", n_trials=3)
    assert asked == []


def test_values_are_plain_and_belong_to_their_distributions(asked):
    kinds = {
        "big": IntDistribution(0, 2**40, step=4),
        "flag": CategoricalDistribution([True, False, None]),
        "fine": FloatDistribution(0.0, 1e6, step=1e-5),
        "log": IntDistribution(1, 1000, log=True),
        "mixed": CategoricalDistribution([1, False, "1", 1.5]),
        "number": FloatDistribution(1e-6, 1.0, log=True),
        "step": FloatDistribution(-10.2, 10.2, step=0.1),
        "whole": IntDistribution(-9, 9, step=3),
    }
    with pytest.warns(UserWarning, match="Choices for a categorical distribution"):
        kinds["any"] = CategoricalDistribution([(1, 2), None])
    types = {"flag": (bool, type(None)), "mixed": (int, bool, str, float), "any": (tuple, type(None))}
    study = study_of()
    draw = random.Random(0)
    asked.answers = [np.array([draw.random() for _ in kinds]) for _ in range(40)]
    asked.answers += [np.zeros(9), np.ones(9)]
    study.tell(study.ask(kinds), 0.0)
    for _ in range(42):
        trial = study.ask(kinds)
        for name, kind in kinds.items():
            value = trial.params[name]
            if name not in types:
                assert type(value) is (int if isinstance(kind, IntDistribution) else float), name
            assert kind._contains(kind.to_internal_repr(value)), (name, value)
        study.tell(trial, 0.0)
    assert len(told_to(asked).y) == 42  # each of its own suggestions is a point of the space again
    assert set(asked[-1][1].names) == set(kinds)


# When which sampler is asked.


def test_the_design_has_the_startup_trials(asked):
    study = study_of(complete(1.0, 0.25), n_startup_trials=7)
    ask(study)
    assert asked[-1][0] is None and asked[-1][2]["num_initial"] == 7
    assert asked[-1][2]["ordinal"] == 1 and asked[-1][2]["seed"] == 0


def test_a_given_independent_sampler_samples_the_startup_trials(asked):
    class Corner(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, param_name, param_distribution):
            return param_distribution.high

    study = study_of(independent_sampler=Corner(), n_startup_trials=3)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=5)
    assert [trial.params["x"] for trial in study.trials] == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_the_calls_around_a_trial_reach_the_independent_sampler():
    calls = []

    class Listening(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            calls.append("before")

        def after_trial(self, study, trial, state, values):
            calls.append(state.name)

        def reseed_rng(self):
            calls.append("reseed")

    study = study_of(independent_sampler=Listening())
    study.optimize(lambda trial: 1.0, n_trials=1)
    study.sampler.reseed_rng()
    assert calls == ["before", "COMPLETE", "reseed"]


def test_a_finite_space_that_is_exhausted_is_sampled_on(asked, caplog):
    study = study_of(complete(1.0, 0.25))
    asked.answers = [None, None, None]
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    values = [ask(study).params["x"] for _ in range(3)]
    optuna.logging.disable_propagation()
    assert len(set(values)) == 3
    assert {record.message for record in caplog.records} == {
        "trial 1: every point of the search space is evaluated or running; from now on points are repeated at random"
    }


@pytest.mark.parametrize("warn", [True, False])
def test_sampling_without_a_model_is_logged_once_for_each_parameter(asked, caplog, warn):
    def objective(trial):
        return trial.suggest_float("x", 0, 1) + (trial.suggest_float("deep", 0, 1) if trial.number % 2 else 0.0)

    study = study_of(n_startup_trials=2, warn_independent_sampling=warn)
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.optimize(objective, n_trials=8)
    optuna.logging.disable_propagation()
    messages = {record.message.split(" is sampled")[0] for record in caplog.records}
    assert messages == ({"trial 3: parameter 'deep'"} if warn else set())


# Nothing else enters.


def objective(trial):
    """Every kind of parameter, one of them in a branch."""
    value = trial.suggest_float("a", -5.0, 5.0) ** 2 + trial.suggest_float("b", 1e-5, 1.0, log=True)
    value += trial.suggest_float("c", 0.0, 1.0, step=0.25) + trial.suggest_int("d", 1, 9)
    value += trial.suggest_int("e", 1, 64, log=True) + len(trial.suggest_categorical("f", ["x", "yy", "zzz"]))
    return value + (trial.suggest_float("g", 0.0, 1.0) if trial.params["f"] == "yy" else 0.0)


def run(num_trials, study=None, **settings):
    settings = {"seed": 3, "n_startup_trials": 4, "algorithm": random_search, **settings}
    if study is None:
        study = optuna.create_study(sampler=BojaxSampler(**settings))
    study.optimize(objective, n_trials=num_trials)
    return [trial.params for trial in study.trials]


def test_the_same_seed_gives_the_same_suggestions():
    first = run(12)
    assert first == run(12)
    assert first != run(12, seed=4)


def test_a_study_that_is_continued_gives_the_same_suggestions(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    settings = {"seed": 3, "n_startup_trials": 4, "algorithm": random_search}
    for _ in range(3):
        study = optuna.create_study(
            storage=storage, study_name="s", load_if_exists=True, sampler=BojaxSampler(**settings)
        )
        run(4, study)
    assert [trial.params for trial in study.trials] == run(12)


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_suggests_the_same(travel):
    sampler = BojaxSampler(seed=3, n_startup_trials=4, algorithm=random_search)
    run(3, optuna.create_study(sampler=sampler))
    study = optuna.create_study(sampler=travel(sampler))
    assert run(8, study) == run(8)
    assert len(pickle.dumps(sampler)) < 1000  # no cache travels


def test_a_sampler_without_a_seed_draws_one():
    assert run(3, seed=None) != run(3, seed=None)


def test_reseeding_changes_what_follows():
    study = optuna.create_study(sampler=BojaxSampler(seed=3, n_startup_trials=4, algorithm=random_search))
    run(6, study)
    study.sampler.reseed_rng()
    params = run(6, study)
    assert params[:6] == run(6) and params[6:] != run(12)[6:]


def test_threads_get_different_points():
    study = optuna.create_study(sampler=BojaxSampler(seed=3, n_startup_trials=4, algorithm=random_search))
    study.optimize(objective, n_trials=24, n_jobs=3)
    points = {json.dumps(trial.params, sort_keys=True) for trial in study.trials}
    assert len(points) == 24 and all(t.state == TrialState.COMPLETE for t in study.trials)


PROBE = """
import json, optuna
from bojax.integrations.optuna import BojaxSampler
from tests.integrations.test_optuna import model, objective
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=BojaxSampler(seed=3, n_startup_trials=4, algorithm=model))
study.optimize(objective, n_trials=15)
print(json.dumps([trial.params for trial in study.trials]))
"""


@pytest.mark.long
def test_another_process_suggests_the_same():
    outputs = [run_python(PROBE, timeout=250, env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in "12"]
    assert outputs[0] == outputs[1] and len(json.loads(outputs[0])) == 15


@pytest.mark.long
def test_it_finds_the_optimum_and_a_new_dimension_compiles_nothing(compiled):
    def bowl(trial, names):
        return sum((trial.suggest_float(name, -1.0, 1.0) - 0.3) ** 2 for name in names)

    study = study_of(n_startup_trials=5, algorithm=model)
    study.optimize(lambda trial: bowl(trial, "xyz"), n_trials=20)
    assert study.best_value < 1e-3
    del compiled[:]
    other = study_of(n_startup_trials=5, algorithm=model)
    other.optimize(lambda trial: bowl(trial, "ab"), n_trials=15)
    assert other.best_value < 1e-3 and not compiled


# Bad input.


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"seed": -1}, ValueError, "`seed` must be at least 0 and below 4294967296, got -1"),
        ({"seed": 2**32}, ValueError, "`seed` must be"),
        ({"seed": 1.5}, TypeError, "`seed` must be an integer, got 1.5"),
        ({"seed": True}, TypeError, "`seed` must be an integer"),
        ({"n_startup_trials": -1}, ValueError, "`n_startup_trials` must be at least 0, got -1"),
        ({"n_startup_trials": None}, TypeError, "`n_startup_trials` must be an integer"),
        ({"algorithm": "tpe"}, TypeError, r"`algorithm` must be a function of \(space, q\), got 'tpe'"),
        ({"algorithm": bojax.random_search(bojax.Space(x=bojax.Float(0, 1)))}, TypeError, "`algorithm` must be a func"),
        ({"independent_sampler": 3}, TypeError, "`independent_sampler` must be a sampler of Optuna, got 3"),
        ({"warn_independent_sampling": 1}, TypeError, "`warn_independent_sampling` must be a bool, got 1"),
        ({"constraints_func": lambda trial: [0.0]}, TypeError, "`constraints_func` must be left out.*TrialPruned"),
        ({"multivariate": True}, TypeError, "no argument 'multivariate'"),
    ],
)
def test_wrong_arguments_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        BojaxSampler(**settings)


def test_an_older_optuna_is_refused(monkeypatch):
    monkeypatch.setattr(optuna, "__version__", "4.4.9")
    with pytest.raises(ImportError, match=r"must have Optuna 4.5 or newer, got 4.4.9"):
        runpy.run_path(integration.__file__)


def test_several_objectives_are_refused_when_the_first_parameter_is_requested():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=BojaxSampler())
    with pytest.raises(ValueError, match="`study` must have one objective for BojaxSampler, got 2 directions"):
        study.optimize(lambda trial: (trial.suggest_float("x", 0.0, 1.0), 1.0), n_trials=1)


@pytest.mark.skipif(not hasattr(optuna.Trial, "set_constraint"), reason="Optuna before 5")
def test_constraints_are_refused_where_they_are_set():
    def objective(trial):
        trial.set_constraint("size", 1.0)
        return trial.suggest_float("x", 0.0, 1.0)

    study = optuna.create_study(sampler=BojaxSampler())
    with pytest.raises(ValueError, match=r"trial 0 has constraints \(\{'size': 1.0\}\).*TrialPruned"):
        study.optimize(objective, n_trials=1)


def test_constraints_of_stored_trials_are_refused():
    study = study_of(complete(1.0, 0.25, system_attrs={"constraints": [1.0]}))
    for _ in range(2):
        with pytest.raises(ValueError, match="trial 0 has constraints"):
            ask(study)

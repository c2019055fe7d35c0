"""What could not be said: known results, corrections, points in line once, a changed space, the best believed point."""

import json
import math
import multiprocessing
import warnings

import jax.numpy as jnp
import numpy as np
import optuna
import pytest

import bojax
from bojax import BojaxWarning, Categorical, Float, Int, Ordinal, Space, Study, StudyError, surrogates
from bojax.study import Believed
from bojax.study._study import core_of

SPACE = Space({"x": Float(0.0, 1.0), "act": Categorical(["relu", "tanh"]), "n": Int(1, 8, log=True)})
POINTS = [
    {"x": 0.2, "act": "relu", "n": 1},
    {"x": 0.4, "act": "tanh", "n": 2},
    {"x": 0.6, "act": "relu", "n": 8},
    {"x": 0.8, "act": "tanh", "n": 4},
]
STORAGES = ["memory", "sqlite", "journal"]


def random_search(space, q):
    return bojax.random_search(space, q=q)


def attentive(space, q):
    """Random search that keeps costs and gradients, so that they may be told."""
    inner = bojax.random_search(space, q=q)

    def init(key):
        state = inner.init(key)
        X, y = state.observations.X, state.observations.y
        return state._replace(observations=state.observations.with_columns(cost=0.0 * y, grad=jnp.nan * X))

    return inner._replace(init=init, columns=("noise_var", "cost", "grad"))


def noisy_bayesopt(space, q):
    return bojax.noisy_bayesopt(space, q=q)


def storage_of(kind, tmp_path):
    if kind == "memory":
        return optuna.storages.InMemoryStorage()
    return f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else f"journal:///{tmp_path}/s.log"


def make(storage=None, space=SPACE, **kwargs):
    return Study(space, storage=storage, **({"seed": 0, "algorithm": random_search} | kwargs))


def filled(storage=None, **kwargs):
    study = make(storage, **kwargs)
    for i, params in enumerate(POINTS):
        study.add(params, float(i))
    return study


def told(study):
    """The surrogate's view: values by point."""
    X, y, *_ = core_of(study).ledger.refresh().told()
    return {tuple(x): value for x, value in zip(X.round(12).tolist(), y.tolist(), strict=True)}


# Known results.


@pytest.mark.long
@pytest.mark.parametrize("kind", STORAGES)
def test_known_results_are_added_without_asking(kind, tmp_path):
    storage = storage_of(kind, tmp_path)
    study = make(storage, algorithm=attentive)
    study.ask()
    params = {"n": np.int64(4), "x": jnp.float32(0.5), "act": np.str_("tanh")}
    outcome = {"noise_var": 0.25, "cost": 3.0, "grad": {"x": 2.0}, "user_attrs": {"source": "paper"}}
    trial = study.add(params, np.float32(1.5), **outcome)
    assert (trial.number, trial.state, trial.value) == (1, "complete", 1.5)
    assert trial.params == {"x": 0.5, "act": "tanh", "n": 4} and list(trial.params) == list(SPACE.names)
    assert [type(value) for value in trial.params.values()] == [float, str, int]
    failed = study.add(POINTS[0], state="fail")
    assert failed.state == "fail" and failed.value is None
    with pytest.warns(BojaxWarning, match="trial 3 was told nan"):
        assert study.add(POINTS[1], math.nan).user_attrs["bojax:told"] == "nan"
    again = study if kind == "memory" else make(storage)
    assert again.trials == study.trials and again.best_trial == trial
    assert again.to_dataframe()["user_attrs_source"].tolist()[1] == "paper"
    X, y, pending, columns = core_of(again).ledger.refresh().told()
    noise_var, cost, grad = (columns[name] for name in ("noise_var", "cost", "grad"))
    np.testing.assert_array_equal(y, [-1.5, np.nan, np.nan])
    assert (noise_var[0], cost[0], grad[0, 0], len(pending)) == (0.25, 3.0, -2.0, 1)


def test_wrong_results_are_refused_and_nothing_is_recorded():
    study = make()
    for params, error in (
        ({"x": 0.5}, ValueError),
        ({**POINTS[0], "z": 1}, ValueError),
        ({**POINTS[0], "x": 2.0}, ValueError),
        ({**POINTS[0], "x": "0.5"}, TypeError),
        ("x", TypeError),
    ):
        with pytest.raises(error):
            study.add(params, 1.0)
    for outcome, error in (
        ({"value": "1.0"}, TypeError),
        ({"value": 1.0, "state": "fail"}, ValueError),
        ({"value": 1.0, "noise_var": -1.0}, ValueError),
        ({"value": 1.0, "cost": 0.0}, ValueError),
        ({"value": 1.0, "cost": 1.0}, ValueError),  # random search learns nothing from it
        ({"value": 1.0, "grad": {"act": 1.0}}, ValueError),
        ({"value": 1.0, "user_attrs": {"a": object()}}, TypeError),
        ({"value": 1.0, "state": "running"}, ValueError),
    ):
        with pytest.raises(error):
            study.add(POINTS[0], **outcome)
    assert study.optuna.trials == []


def test_the_next_ask_knows_what_was_added():
    finite = Space(a=Int(1, 2), b=Categorical(["u", "v"]))
    study = make(space=finite)
    for a, b in ((1, "u"), (1, "v"), (2, "u")):
        study.add({"a": a, "b": b}, 1.0)
    assert [trial.params for trial in study.ask(4)] == [{"a": 2, "b": "v"}]


# Settings in line.


@pytest.mark.long
@pytest.mark.parametrize("kind", STORAGES)
def test_what_exists_is_skipped(kind, tmp_path):
    study = make(storage_of(kind, tmp_path))
    study.add(POINTS[0], 1.0)
    study.add(POINTS[1], state="fail")
    running = study.ask()[0]
    for params in (POINTS[0], POINTS[1], running.params):
        assert not study.enqueue(params, skip_if_exists=True)
    assert study.enqueue(POINTS[2], skip_if_exists=True, user_attrs={"why": "known to work"})
    assert not study.enqueue(POINTS[2], skip_if_exists=True)
    assert study.enqueue({"x": 0.2}, skip_if_exists=True)  # some parameters: compared with what was in line
    assert not study.enqueue({"x": np.float64(0.2)}, skip_if_exists=True)
    first, second = study.ask(2)
    assert first.params == POINTS[2] and first.user_attrs == {"why": "known to work"}
    assert study.tell(first, 0.5).user_attrs == {"why": "known to work"}
    assert second.params["x"] == 0.2 and not study.enqueue({"x": 0.2}, skip_if_exists=True)
    assert study.enqueue(POINTS[0])  # by default a point may be tried again
    assert len(study.trials) == 6


def test_true_and_one_are_different_choices():
    study = make(space=Space(a=Categorical([True, "1"]), b=Int(0, 1)))
    study.add({"a": True, "b": 1}, 0.0)
    assert not study.enqueue({"a": True, "b": 1}, skip_if_exists=True)
    with pytest.raises(ValueError):
        study.enqueue({"a": 1, "b": 1})


# Corrections.


@pytest.mark.long
@pytest.mark.parametrize("kind", STORAGES)
def test_a_told_value_is_corrected(kind, tmp_path):
    storage = storage_of(kind, tmp_path)
    study = make(storage, algorithm=attentive)
    asked = study.ask(3)
    for trial, value in zip(asked, (3.0, -100.0, 1.0), strict=True):
        study.tell(trial, value, noise_var=0.5, grad={"x": 1.0}, user_attrs={"run": trial.number})
    new = study.correct(asked[1], 2.0, noise_var=0.25)
    assert (new.number, new.value, new.params) == (3, 2.0, asked[1].params)
    assert new.user_attrs["run"] == 1 and new.user_attrs["bojax:noise_var"] == 0.25
    assert new.user_attrs["bojax:corrected"] == {"number": 1, "state": "complete", "value": -100.0}
    assert "bojax:grad" not in new.user_attrs
    again = study if kind == "memory" else make(storage)
    assert [trial.number for trial in again.trials] == [0, 2, 3] and again.best_value == 1.0
    assert sorted(told(again).values()) == [-3.0, -2.0, -1.0]
    assert len(again.to_dataframe()) == 3
    failed = again.correct(1, state="fail")  # the old number leads to what counts now
    assert [trial.number for trial in again.trials] == [0, 2, 4] and failed.state == "fail"
    assert failed.user_attrs["bojax:corrected"]["before"]["value"] == -100.0
    assert again.correct(failed, 0.5).value == 0.5 == again.best_value
    stored = again.optuna.trials
    assert stored[1].datetime_start == stored[5].datetime_start and stored[1].value == -100.0


def test_only_what_was_told_can_be_corrected():
    study = make()
    running = study.ask()[0]
    study.enqueue(POINTS[0])
    for wrong in (running, 1, 7, -1):
        with pytest.raises(StudyError):
            study.correct(wrong, 1.0)
    with pytest.raises(TypeError):
        study.correct("0", 1.0)
    study.tell(running, 1.0)
    with pytest.raises(TypeError):
        study.correct(running, "2.0")
    other = make(seed=1).ask()[0]
    with pytest.raises(StudyError, match="wrong study"):
        study.correct(other, 1.0)
    assert [trial.value for trial in study.trials] == [1.0, None]


def test_two_corrections_at_once_leave_one_result(tmp_path):
    storage = storage_of("sqlite", tmp_path)
    study = filled(storage)
    first = study.correct(0, 5.0)
    late = optuna.trial.create_trial(  # another worker, which had not seen the first correction
        params=POINTS[0],
        distributions=study.optuna.trials[0].distributions,
        value=6.0,
        user_attrs={"bojax:corrects": 0},
    )
    study.optuna.add_trial(late)
    study.correct(first, 7.0)
    assert [trial.value for trial in study.trials] == [1.0, 2.0, 3.0, 7.0]


# A changed space.

OLD = dict(SPACE)
CHANGES = {
    "a choice added": (OLD | {"act": Categorical(["relu", "tanh", "gelu"])}, "carry", 4),
    "choices in another order": (OLD | {"act": Categorical(["tanh", "relu"])}, "carry", 4),
    "a choice removed": (OLD | {"act": Categorical(["relu", "gelu"])}, "carry", 2),
    "a range widened": (OLD | {"x": Float(-1.0, 2.0)}, "carry", 4),
    "a range narrowed": (OLD | {"x": Float(0.3, 0.7)}, "carry", 2),
    "a scale changed": (OLD | {"x": Float(0.01, 1.0, log=True), "n": Int(1, 8)}, "carry", 4),
    "another kind": (OLD | {"n": Ordinal([1, 2, 4, 8])}, "carry", 4),
    "a parameter added": (OLD | {"z": Float(0.0, 1.0)}, {"z": 0.5}, 4),
    "a parameter removed": ({"x": OLD["x"], "n": OLD["n"]}, "carry", 4),
    "another order of parameters": ({name: OLD[name] for name in ("n", "act", "x")}, "carry", 4),
}


def change(storage, space, how="carry", **kwargs):
    return make(storage, Space(dict(space)), **({"seed": None, "space_changed": how} | kwargs))


@pytest.mark.long
@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("what", CHANGES)
def test_results_are_carried_over_to_a_changed_space(kind, what, tmp_path):
    storage = storage_of(kind, tmp_path)
    space, how, num_left = CHANGES[what]
    old = filled(storage)
    old.correct(3, 10.0, user_attrs={"why": "typo"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BojaxWarning)
        new = change(storage, space, how)
    texts = [str(w.message) for w in caught if issubclass(w.category, BojaxWarning)]
    assert len(texts) == (num_left < 4) and all(f"{4 - num_left} of 4 trials" in text for text in texts)
    assert (new.space, new.name, new.seed, new.direction) == (Space(dict(space)), "bojax", 0, "minimize")
    assert len(new.trials) == num_left
    added = {} if how == "carry" else how
    points = [{name: (p | added)[name] for name in space} for p in POINTS]
    expected = {json.dumps(p): value for p, value in zip(points, (0.0, 1.0, 2.0, 10.0), strict=True)}
    assert {json.dumps(trial.params): trial.value for trial in new.trials}.items() <= expected.items()
    # Every door leads to the new space, and the study goes on in it.
    assert make(storage, None, seed=None).trials == new.trials == change(storage, space, how).trials
    with pytest.raises(StudyError, match="another space"):
        make(storage)
    for trial in new.ask(3):
        Space(dict(space)).from_params(trial.params)
        new.tell(trial, -1.0)
    assert new.best_value == -1.0 and len(make(storage, Space(dict(space))).trials) == num_left + 3


def test_a_new_parameter_needs_the_value_that_earlier_trials_had():
    storage = storage_of("memory", None)
    filled(storage)
    space = OLD | {"z": Float(0.0, 1.0)}
    with pytest.raises(StudyError, match="'z'"):
        change(storage, space)
    for how, error in (
        ({"z": 2.0}, ValueError),
        ({"y": 0.5}, ValueError),
        ({"z": "a"}, TypeError),
        ("yes", ValueError),
    ):
        with pytest.raises(error):
            change(storage, space, how)
    with pytest.raises(ValueError, match="needs a `space`"):
        make(storage, None, seed=None, space_changed="carry")
    assert len(storage.get_all_studies()) == 1  # nothing was written
    assert len(make(storage).trials) == 4
    wider = change(storage, space, {"z": 0.5})
    assert [trial.params["z"] for trial in wider.trials] == [0.5] * 4
    again = change(storage, OLD | {"z": Float(0.0, 3.0)})  # known by now
    assert [trial.params["z"] for trial in again.trials] == [0.5] * 4


def test_a_wider_space_gets_back_what_a_narrower_one_left_out():
    storage = storage_of("memory", None)
    filled(storage)
    with pytest.warns(BojaxWarning, match="2 of 4 trials"):
        narrow = change(storage, OLD | {"x": Float(0.3, 0.7)})
    narrow.correct(narrow.trials[0], 20.0)
    narrow.add(POINTS[1] | {"x": 0.5}, 5.0)
    without = change(storage, {"x": OLD["x"], "act": OLD["act"]})
    assert [trial.value for trial in without.trials] == [0.0, 2.0, 3.0, 20.0, 5.0]
    wide = change(storage, OLD | {"x": Float(0.0, 2.0)})
    assert {trial.value: trial.params["n"] for trial in wide.trials} == {0.0: 1, 2.0: 8, 3.0: 4, 20.0: 2, 5.0: 2}
    back = change(storage, OLD)
    assert back.optuna.study_name == "bojax" and sorted(t.value for t in back.trials) == [0.0, 2.0, 3.0, 5.0, 20.0]
    assert len(change(storage, OLD).optuna.trials) == len(back.optuna.trials)  # nothing is copied twice
    assert make(storage).trials == back.trials


@pytest.mark.long
def test_what_is_in_line_is_carried_once_and_what_workers_tell_late_is_fetched():
    storage = storage_of("memory", None)
    old = filled(storage)
    late = old.ask(fixed={"act": "relu"})[0]
    old.enqueue({"x": 0.9}, user_attrs={"why": "hint"})
    old.enqueue({"act": "tanh"})
    space = OLD | {"act": Categorical(["relu", "gelu"]), "x": Float(0.0, 2.0)}
    with pytest.warns(BojaxWarning, match="3 of 6 trials"):
        new = change(storage, space)
    assert [trial.state for trial in new.trials] == ["complete", "complete", "waiting"]
    old.tell(late, -7.0)
    assert [trial.params.get("x") for trial in old.ask(2)].count(0.9) == 0
    taken = new.ask()[0]
    assert taken.params["x"] == 0.9 and taken.user_attrs["why"] == "hint"
    assert new.best_value == 0.0
    assert change(storage, space).best_value == -7.0


def carry_in_another_process(storage, number, done):
    study = Study(Space(OLD | {"x": Float(-1.0, 2.0)}), storage=storage, space_changed="carry", algorithm=random_search)
    done.put((number, len(study.trials), study.best_value))


@pytest.mark.long
def test_workers_that_change_the_space_together_agree(tmp_path):
    storage = storage_of("sqlite", tmp_path)
    filled(storage)
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    workers = [context.Process(target=carry_in_another_process, args=(storage, i, done)) for i in range(2)]
    try:
        for worker in workers:
            worker.start()
        assert sorted(done.get(timeout=100) for _ in workers) == [(0, 4, 0.0), (1, 4, 0.0)]
    finally:
        for worker in workers:
            worker.join(20)
            worker.kill()
    study = make(storage, None, seed=None)
    assert [trial.value for trial in study.trials] == [0.0, 1.0, 2.0, 3.0]


def test_a_study_in_memory_is_carried_with_its_algorithm_and_other_attributes():
    study = filled(algorithm=attentive)
    study.optuna.set_user_attr("owner", "me")
    study.tell(study.ask()[0], 9.0, noise_var=0.5, cost=2.0, grad={"x": 1.0})
    new = study.carry(OLD | {"act": Categorical(["relu", "tanh", "gelu"])})
    assert new.optuna.user_attrs["owner"] == "me" and core_of(new).algorithm is attentive
    pairs = zip(core_of(study).ledger.refresh().counted(), core_of(new).ledger.refresh().counted(), strict=True)
    for before, after in pairs:
        assert (before.params, before.values) == (after.params, after.values)
        assert (before.datetime_start, before.datetime_complete) == (after.datetime_start, after.datetime_complete)
    before, after = (core_of(s).ledger.refresh().told() for s in (study, new))
    for name in ("noise_var", "cost"):
        np.testing.assert_array_equal(before.columns[name], after.columns[name])
    np.testing.assert_array_equal(before.y, after.y)
    added = new.carry(OLD | {"z": Int(0, 3)}, {"z": 2})
    assert len(added.trials) == 5 and {trial.params["z"] for trial in added.trials} == {2}


def test_the_command_line_shows_the_study_with_its_present_space(tmp_path):
    from typer.testing import CliRunner

    from bojax.cli._app import app

    storage = storage_of("sqlite", tmp_path)
    filled(storage)
    change(storage, OLD | {"act": Categorical(["relu", "tanh", "gelu"])})
    shown = CliRunner().invoke(app, ["show", storage, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["space"]["act"]["choices"] == ["relu", "tanh", "gelu"]


# The best believed point.


def test_without_noise_the_best_believed_point_is_about_the_best_observed_one():
    for direction, sign in (("minimize", 1.0), ("maximize", -1.0)):
        study = Study({"x": Float(0.0, 1.0)}, direction, seed=0)
        for x in np.linspace(0.0, 1.0, 12):
            study.add({"x": x}, 100.0 + sign * (x - 0.3) ** 2)
        study.add({"x": 0.31}, state="fail")
        believed = study.best_believed
        assert isinstance(believed, Believed) and believed.params == study.best_params
        assert abs(believed.mean - study.best_value) < 1e-2 and 0.0 <= believed.std < 1e-1


@pytest.mark.long
def test_a_lucky_value_is_not_believed():
    study = Study({"x": Float(0.0, 1.0)}, seed=0, algorithm=noisy_bayesopt)
    rng = np.random.default_rng(0)
    for x in np.linspace(0.0, 1.0, 40):
        study.add({"x": x}, (x - 0.3) ** 2 + 0.05 * rng.normal())
    lucky = study.add({"x": 0.9}, -0.3)
    assert study.best_trial == lucky
    believed = study.best_believed
    assert abs(believed.params["x"] - 0.3) < 0.15 and abs(believed.mean) < 0.1
    assert believed.trial in study.trials


ALGORITHMS = {
    "random search": random_search,
    "logarithmic": lambda space, q: bojax.bayesopt(
        space, q=q, surrogate=surrogates.with_output_transform(surrogates.gp(), surrogates.log_output)
    ),
    "untransformed": lambda space, q: bojax.bayesopt(space, q=q, surrogate=surrogates.gp()),
    "thompson": lambda space, q: bojax.thompson(space, q=q),
    "turbo": lambda space, q: bojax.turbo(space, q=q),
    "hybrid": lambda space, q: bojax.loop.hybrid(space, q=q),
    "cost aware": lambda space, q: bojax.loop.cost_aware(space, q=q),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(ALGORITHMS)[2:]]


@pytest.mark.long
@pytest.mark.parametrize("name", [*list(ALGORITHMS)[:2], *SLOW])
def test_the_prediction_is_in_units_of_the_value(name):
    study = Study({"x": Float(0.0, 1.0)}, seed=0, algorithm=ALGORITHMS[name])
    for x in np.linspace(0.0, 1.0, 12):
        study.add({"x": x}, 1000.0 * (0.01 + (x - 0.3) ** 2))
    believed = study.best_believed
    assert believed.params == study.best_params
    assert abs(believed.mean - study.best_value) < 5.0 and 0.0 <= believed.std < 50.0


def test_belief_needs_a_value():
    study = Study({"x": Float(0.0, 1.0)}, seed=0)
    study.add({"x": 0.5}, state="fail")
    with pytest.raises(StudyError, match="no complete trial"):
        _ = study.best_believed
    trial = study.add({"x": 0.5}, 3.5)
    assert study.best_believed.trial == trial and abs(study.best_believed.mean - 3.5) < 1e-6


@pytest.mark.slow
def test_with_noise_the_best_believed_point_is_truly_better():
    """12 configurations, 5 times each, 4 (x - 0.3)^2 with noise of standard deviation 0.5, 48 studies."""
    gains, errors_believed, errors_observed = [], [], []
    for seed in range(48):
        study = Study({"x": Float(0.0, 1.0)}, seed=seed, algorithm=noisy_bayesopt)
        rng = np.random.default_rng(seed)
        for x in np.tile(np.linspace(0.0, 1.0, 12), 5):
            study.add({"x": x}, 4.0 * (x - 0.3) ** 2 + 0.5 * rng.normal())
        believed, best = study.best_believed, study.best_trial
        true_believed, true_best = (4.0 * (t.params["x"] - 0.3) ** 2 for t in (believed.trial, best))
        gains.append(true_best - true_believed)
        errors_believed.append(believed.mean - true_believed)
        errors_observed.append(study.best_value - true_best)
    assert np.mean(gains) > 2.0 * np.std(gains, ddof=1) / np.sqrt(len(gains)), gains
    assert 3.0 * np.sqrt(np.mean(np.square(errors_believed))) < np.sqrt(np.mean(np.square(errors_observed)))
